"""Train the last layer anew: on the labelled pool, and on inputs carried into the condition."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.material import LEAST_WINDOW, Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.softmax_head import fit_head, log_probabilities
from selfheal_edge.learning.writing import after, write_head

__all__ = ["RetrainHead"]

Floats = npt.NDArray[np.float64]

_LEAST_LABELS: Final = 8
_PULLS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Strengths of the pull to the head before, of which cross-validation takes one."""
_PULL_WITHOUT: Final = 3.0
_FOLDS: Final = 8
_LABEL_WEIGHT: Final = 3.0
_DOUBT: Final = 0.15
"""How likely a label is taken to be wrong before anything is known of it."""
_FOLDS_APART: Final = 0x5EED


class _Task(NamedTuple):
    """What a head is fitted to, in units of the window's spread."""

    x: Floats
    targets: Floats
    weights: Floats
    labelled: Floats
    own: Floats
    """One row a labelled sample: its target."""
    trust: Floats


class RetrainHead:
    """Fit the softmax layer, pulled to the one that it begins from: golden's, or the aligned one.

    Parameters
    ----------
    is_guarded
        Whether labels count less which the layer before, that no label has touched, finds next to
        impossible: what a poisoner would send. False is for measuring what that is good for.
    """

    name = "retrain_head"
    learns: Final = True

    def __init__(self, *, is_guarded: bool = True) -> None:
        self._is_guarded = is_guarded

    def propose(self, material: Material, start: Patch) -> Patch | str:
        """Fit to labelled samples, and to golden's held inputs as the condition would have them.

        The targets of these are golden's answers to the originals; a labelled sample weighs three
        times as much.
        """
        head, note = material.head, material.noted(start)
        if head is None or note is None:
            return "there is no last layer that can be trained"
        inside = material.embeddings(material.window, start.inputs)
        if inside is None or len(inside) < LEAST_WINDOW:
            return f"{len(material.window)} inputs of at least {LEAST_WINDOW}"
        k = len(material.labelled)
        if k < _LEAST_LABELS and material.is_mix_in_doubt:
            return "the mix of classes moved, or may have, and labels do not tell how"
        simulated = self._simulated(material, start)
        if k < _LEAST_LABELS and simulated is None:
            return f"{k} labels of at least {_LEAST_LABELS}, and nothing to simulate with"
        mean, spread = inside.mean(axis=0), inside.std(axis=0)
        spread = np.maximum(spread, 0.02 * float(spread.max()) + 1e-12)
        first = note.weights * spread, note.bias + note.weights @ mean
        task = self._task(material, start, simulated, mean, spread, first)
        pull, out_of_fold = _PULL_WITHOUT, None
        if k >= _LEAST_LABELS:
            pull, out_of_fold = _cross_validated(task, first)
        weights, bias = _fitted(task, first, pull, np.ones(k, bool))
        text = f"head trained on {k} labels (pull {pull:g})" if k else "head trained without labels"
        return write_head(
            material,
            head,
            weights / spread,
            bias - (weights / spread) @ mean,
            start.inputs,
            after(start, text),
            out_of_fold,
        )

    def _simulated(self, material: Material, start: Patch) -> tuple[Floats, Floats] | None:
        """Return embeddings and soft targets of inputs carried into the condition."""
        carried = material.carried
        if carried is None:
            return None
        inside = material.embeddings(carried, start.inputs)
        if inside is None:
            return None
        return inside, material.golden_on(material.reference.inputs).scores.astype(np.float64)

    def _task(
        self,
        material: Material,
        start: Patch,
        simulated: tuple[Floats, Floats] | None,
        mean: Floats,
        spread: Floats,
        first: tuple[Floats, Floats],
    ) -> _Task:
        classes = max(2, material.reference.classes)
        if simulated is None:
            x, targets, weights = np.empty((0, len(mean))), np.empty((0, classes)), np.empty(0)
        else:
            x, targets = (simulated[0] - mean) / spread, simulated[1]
            ratio = material.shares / material.reference.priors
            weights = targets @ ratio if len(ratio) == classes else np.ones(len(x))
        labels = material.labelled.labels
        if len(labels):
            inside = material.embeddings(material.labelled.inputs, start.inputs)
            assert inside is not None
            labelled = (inside - mean) / spread
        else:
            labelled = np.empty((0, len(mean)))
        own = np.eye(classes)[labels]
        trust = np.ones(len(labels))
        if self._is_guarded and len(labels):
            chance = np.exp(log_probabilities(labelled @ first[0].T + first[1]))
            right = (1 - _DOUBT) * chance[np.arange(len(labels)), labels]
            trust = right / (right + _DOUBT / classes)
        return _Task(
            x, targets, weights, labelled, own, _LABEL_WEIGHT * trust * material.labelled.weights
        )


def _fitted(
    task: _Task, first: tuple[Floats, Floats], pull: float, taught: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Fit to what is simulated, and to the labelled samples that are taught."""
    return fit_head(
        np.concatenate([task.x, task.labelled[taught]]),
        np.concatenate([task.targets, task.own[taught]]),
        np.concatenate([task.weights, task.trust[taught]]),
        *first,
        pull,
    )


def _cross_validated(
    task: _Task, first: tuple[Floats, Floats]
) -> tuple[float, npt.NDArray[np.int64]]:
    """Return the pull that does best on labels it has not learned, and the answers to those.

    The strongest pull within a standard error of the best one is taken.
    """
    k = len(task.own)
    fold = np.random.default_rng(_FOLDS_APART).permutation(k) % min(_FOLDS, k)
    losses = np.empty((len(_PULLS), k))
    answers = np.empty((len(_PULLS), k), np.int64)
    for i, pull in enumerate(_PULLS):
        for n in range(min(_FOLDS, k)):
            out = fold == n
            weights, bias = _fitted(task, first, pull, ~out)
            logs = log_probabilities(task.labelled[out] @ weights.T + bias)
            losses[i, out] = -(logs * task.own[out]).sum(axis=1)
            answers[i, out] = logs.argmax(axis=1)
    share = task.trust / max(float(task.trust.sum()), 1e-12)
    mean = losses @ share
    best = int(mean.argmin())
    apart = losses - losses[best]
    error = np.sqrt((np.square(apart - (apart @ share)[:, None]) * share).sum(axis=1) / k)
    chosen = int(np.flatnonzero(mean - mean[best] <= error)[-1])
    return _PULLS[chosen], answers[chosen]
