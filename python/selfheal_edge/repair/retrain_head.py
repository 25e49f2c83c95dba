"""Train the last layer anew: on the labelled pool, and on inputs whose classes are known.

Those are golden's held inputs, carried into the condition. Where none can be carried half of them
are learned as they are, beside labels: what separates classes there does so here, and a head that
has forgotten normal operation does harm until golden serves again.

A regressor's layer is fitted to targets by ridge regression (`learning.ridge`), likewise. Of an
autoencoder labels set the threshold, and no layer (`learning.threshold`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.folds import folds_of, groups_of
from selfheal_edge.learning.guard import capped_weights, credibility
from selfheal_edge.learning.head import Head
from selfheal_edge.learning.material import LEAST_WINDOW, Material, Note
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.ridge import Samples, chosen_pull, fit_ridge
from selfheal_edge.learning.threshold import set_threshold
from selfheal_edge.learning.training import HeadTrainer, log_softmax
from selfheal_edge.learning.writing import after, write_head

__all__ = ["RetrainHead"]

Floats = npt.NDArray[np.float64]

_LEAST_LABELS: Final = 8
_PULLS: Final = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_FOLDS: Final = 5
_PULL_WITHOUT: Final = 3.0
"""How strongly the head is held where no label says what is best."""
_MOST_PULL: Final = 10.0
"""How strongly it is held at most where there is more to learn from than the labels."""
_LABEL_WEIGHT: Final = 3.0
_REHEARSED: Final = 0.5
"""Weight of held inputs as they are, together, as a share of that of all labels."""


class _Task(NamedTuple):
    """What a head is fitted to: inputs whose classes are known, then labelled samples."""

    inside: Floats
    """Embeddings, shape (n, dimensions)."""
    targets: Floats
    """Shape (n, classes)."""
    weights: Floats
    """Shape (n,)."""
    labelled: int
    """How many of them, at the end, are labelled."""


class RetrainHead:
    """Fit the last layer, pulled to the one that it begins from: golden's, or the aligned one.

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
        times as much. How strongly the layer is held is chosen by cross-validation on the labels.
        """
        if material.reconstructs:
            return set_threshold(material, start)
        return self._trained(material, start)

    def _trained(self, material: Material, start: Patch) -> Patch | str:
        head, note = material.head, material.noted(start)
        if head is None or note is None:
            return "there is no last layer that can be trained"
        window = material.embeddings(material.window, start.inputs)
        if window is None or len(window) < LEAST_WINDOW:
            return f"{len(material.window)} inputs of at least {LEAST_WINDOW}"
        k = len(material.labelled)
        if material.reference.targets is not None:
            return _regression(material, head, note, start, window)
        if k < _LEAST_LABELS and material.is_mix_in_doubt:
            return "the mix of classes moved, or may have, and labels do not tell how"
        task = self._task(material, start, note)
        if k < _LEAST_LABELS and len(task.inside) == k:
            return f"{k} labels of at least {_LEAST_LABELS}, and nothing to simulate with"
        trainer = HeadTrainer(len(note.bias), window.shape[1], len(task.inside))
        trainer.load(task.inside, note.weights, note.bias, window.mean(axis=0), window.std(axis=0))
        pull, answers = _PULL_WITHOUT, None
        if k >= _LEAST_LABELS:
            pull, answers = _chosen(trainer, task, material)
        found = trainer.fit(task.targets, task.weights, pull)
        text = f"head trained on {k} labels (pull {pull:g})" if k else "head trained without labels"

        def refit(folds: npt.NDArray[np.int64]) -> tuple[tuple[Floats, Floats], ...]:
            heads = []
            for fold in range(int(folds.max()) + 1):
                weights = task.weights.copy()
                weights[-k:][folds == fold] = 0.0
                one = trainer.fit(task.targets, weights, pull)
                heads.append((one.weights, one.bias))
            return tuple(heads)

        made = Note(found.weights, found.bias, answers, refit=refit if k else None)
        return write_head(material, head, made, start.inputs, after(start, text))

    def _task(self, material: Material, start: Patch, note: Note) -> _Task:
        classes = max(2, material.reference.classes)
        inside, targets, weights = [], [], []
        carried, reference = material.carried, material.reference
        simulated = None if carried is None else material.embeddings(carried, start.inputs)
        ratio = material.shares / reference.priors
        if simulated is not None:
            taught = _shares(material.golden_on(reference.inputs).scores)
            inside.append(simulated)
            targets.append(taught)
            weights.append(taught @ ratio if len(ratio) == classes else np.ones(len(taught)))
        labels = material.labelled.labels
        if len(labels):
            found = material.embeddings(material.labelled.inputs, start.inputs)
            assert found is not None, "the window has embeddings"
            believed = (
                _LABEL_WEIGHT
                * self._trust(found, labels, note)
                * capped_weights(material.labelled.weights)
            )
            if simulated is None and len(labels) >= _LEAST_LABELS and len(ratio) == classes:
                rehearsed = material.embeddings(reference.inputs, start.inputs)
                assert rehearsed is not None, "the window has embeddings"
                known = reference.may_be_learned
                even = ratio[reference.labels[known]]
                inside.append(rehearsed[known])
                targets.append(np.eye(classes)[reference.labels[known]])
                weights.append(even * (_REHEARSED * believed.sum() / even.sum()))
            inside.append(found)
            targets.append(np.eye(classes)[labels])
            weights.append(believed)
        if not inside:
            return _Task(np.empty((0, 0)), np.empty((0, classes)), np.empty(0), 0)
        return _Task(
            np.concatenate(inside), np.concatenate(targets), np.concatenate(weights), len(labels)
        )

    def _trust(self, inside: Floats, labels: npt.NDArray[np.int64], note: Note) -> Floats:
        """Return how likely each label is right, by the layer before: shape (k,)."""
        if not self._is_guarded:
            return np.ones(len(labels))
        return credibility(np.exp(log_softmax(inside @ note.weights.T + note.bias)), labels)


def _regression(
    material: Material, head: Head, note: Note, start: Patch, window: Floats
) -> Patch | str:
    """Fit a regressor's layer to labelled targets, and to those of held inputs beside them."""
    k, labelled, reference = len(material.labelled), material.labelled, material.reference
    if k < _LEAST_LABELS:
        return f"{k} targets of at least {_LEAST_LABELS}"
    inside = material.embeddings(labelled.inputs, start.inputs)
    known = reference.may_be_learned
    rehearsed = material.embeddings(reference.inputs, start.inputs)
    assert inside is not None
    assert rehearsed is not None
    assert reference.targets is not None
    believed = labelled.weights.astype(np.float64)
    even = np.full(int(known.sum()), _REHEARSED * believed.sum() / max(1, int(known.sum())))
    samples = Samples(
        np.concatenate([rehearsed[known], inside]),
        np.concatenate([reference.targets[known], labelled.labels]).astype(np.float64),
        np.concatenate([even, believed]),
        k,
    )
    groups = groups_of(labelled.inputs.reshape(k, -1), contents=material.contents)
    folds = folds_of(groups, np.zeros(k, np.int64), _FOLDS)
    where = window.mean(axis=0), window.std(axis=0)
    begin = note.weights, note.bias
    pull, answers = chosen_pull(samples, begin, folds, material.units, where)
    if not np.isfinite(pull):
        return "no layer comes nearer to targets that it has not learned"
    found = fit_ridge(samples, begin, pull, material.units, where)
    text = f"last layer fitted to {k} targets (pull {pull:g})"
    made = Note(found.weights, found.bias, answers)
    return write_head(material, head, made, start.inputs, after(start, text))


def _shares(scores: npt.NDArray[np.float32]) -> Floats:
    """Return scores as distributions: quantised ones sum to nearly 1, some are no numbers."""
    found = np.maximum(np.nan_to_num(scores.astype(np.float64)), 0.0) + 1e-9
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _chosen(
    trainer: HeadTrainer, task: _Task, material: Material
) -> tuple[float, npt.NDArray[np.int64]]:
    """Return the pull that does best on labels it has not learned, and the answers to those.

    The strongest one within a standard error of the best is taken. Inputs of one content are held
    out together: a copy in training would make any head look good.
    """
    labelled, k = material.labelled, task.labelled
    folds = np.full(len(task.inside), -1, np.int64)
    groups = groups_of(labelled.inputs.reshape(k, -1), contents=material.contents)
    folds[-k:] = folds_of(groups, labelled.labels, _FOLDS)
    # Only labelled samples are held out, and all of them are judged: a weight of 0 would not be.
    weights = task.weights.copy()
    weights[-k:] = np.maximum(weights[-k:], 1e-9)
    found = trainer.cross_validate(task.targets, weights, folds, _PULLS)
    chosen = found.chosen
    if len(task.inside) > k:
        chosen = max(chosen, int(np.searchsorted(-np.array(found.pulls), -_MOST_PULL)))
    return found.pulls[chosen], found.answers[chosen]
