"""Learn how likely answers are right, from labelled samples and changes made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.calibration.made_changes import changes_of
from selfheal_edge.monitoring.correctness import (
    SLACK,
    Answers,
    CorrectnessModel,
    logistic,
    read_answers,
)
from selfheal_edge.monitoring.embedding import Embedding
from selfheal_edge.monitoring.signals import OutputKind
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.session import Session

__all__ = ["SAMPLES", "Judged", "fit_correctness", "judge_changes"]

Floats = npt.NDArray[np.float64]

SAMPLES: Final = 85
"""Calibration inputs that are changed: 24 changes of each are 2040 inferences."""

_KNOTS: Final = 256
_LEAST_SPREAD: Final = 1e-3
_LIKE_OTHERS: Final = 5  # samples of all classes that count for each, so that rare ones are steady
_RIDGE: Final = (1e-3, 1.0, 1.0, 10.0)
_SHARES: Final = (0.5, 0.25)
_CHANGED_WEIGHT: Final = 0.5
_UNTESTED: Final = 0.5
_STEPS: Final = 40


class Judged(NamedTuple):
    """Answers, and whether they are right."""

    answers: Answers
    right: npt.NDArray[np.bool_]

    def mixed_into(self, other: Judged, share: float, rng: np.random.Generator) -> Judged:
        """Return a window of which these answers are a share and the rest is drawn from others."""
        n = len(self.right)
        count = max(1, round(share * n))
        mine = rng.permutation(n)[:count]
        rest = rng.permutation(len(other.right))[: n - count]
        answers = self.answers.take(mine).joined(other.answers.take(rest))
        return Judged(answers, np.concatenate([self.right[mine], other.right[rest]]))


def judge_changes(
    session: Session,
    kind: OutputKind,
    embedding: Embedding | None,
    samples: Sequence[Sequence[Array]],
    labels: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, list[Judged]]:
    """Have a model answer to changes of labelled samples.

    Parameters
    ----------
    session
        The model; its state, if it carries one, goes on.
    kind, embedding
        What output 0 holds, and where the classes lie before the last layer.
    samples, labels
        Raw inputs and their classes.
    rng
        Draws the changes.

    Returns
    -------
    dict
        By family, what it answered at each strength. Empty for a model that carries a state.
    """
    found: dict[str, list[Judged]] = {}
    if session.stateful:
        return found
    instance = session.instance
    tap = instance.taps[0] if embedding is not None and instance.taps else None
    for change in changes_of(samples, instance.inputs, rng):
        outputs: list[Array] = []
        inside: list[Array] = []
        for row in change.rows:
            outputs.append(instance.run(row)[0].reshape(-1).copy())
            if tap is not None:
                inside.append(instance.tapped()[0].reshape(-1).copy())
        answers = read_answers(
            np.stack(outputs),
            instance.outputs[0],
            kind,
            np.stack(inside) if inside else None,
            tap,
            embedding,
        )
        found.setdefault(change.family, []).append(Judged(answers, answers.labels == labels))
    return found


def fit_correctness(
    clean: Judged, changed: Mapping[str, Sequence[Judged]], rng: np.random.Generator
) -> CorrectnessModel:
    """Fit how likely answers are right.

    Parameters
    ----------
    clean
        Calibration samples: log distances as those of new samples would be.
    changed
        Changes of some of them, by family. Without any, an interval is as wide as half of what may
        be unlike calibration.
    rng
        Draws windows of which a change has a share.

    Notes
    -----
    Logistic regression with a ridge: a changed sample weighs half as much as one of calibration.
    Every family is left out once: what the model that was fitted to the others errs on it, for all
    of the window or a share, is `CorrectnessModel.error_ratio`.
    """
    answers = clean.answers
    known = np.isfinite(answers.log_distance)
    columns = answers.log_odds, answers.log_distance[known]
    centre = np.array([c.mean() if len(c) else 0.0 for c in columns])
    spread = np.array([max(c.std(), _LEAST_SPREAD) if len(c) else 1.0 for c in columns])
    classes = int(answers.labels.max(initial=0)) + 1
    members = answers.labels[known]
    sums = np.bincount(members, columns[1], classes) + _LIKE_OTHERS * centre[1]
    class_distance = sums / (np.bincount(members, minlength=classes) + _LIKE_OTHERS)
    windows = {
        family: [
            (judged, *(judged.mixed_into(clean, share, rng) for share in _SHARES))
            for judged in strengths
        ]
        for family, strengths in changed.items()
    }

    def fitted(left_out: str | None) -> CorrectnessModel:
        rows, right, weights = [], [], []

        def add(judged: Judged, weight: float) -> None:
            rows.append(CorrectnessModel.standardised(judged.answers, centre, spread))
            right.append(judged.right)
            weights.append(np.full(len(judged.right), weight))

        add(clean, 1.0)
        for family, strengths in windows.items():
            for pure, half, _ in strengths if family != left_out else ():
                add(pure, _CHANGED_WEIGHT)
                add(half, _CHANGED_WEIGHT)
        return CorrectnessModel(
            coefficients=_regression(
                np.concatenate(rows), np.concatenate(right), np.concatenate(weights)
            ),
            centre=centre,
            spread=spread,
            class_distance=class_distance,
            log_odds=_knots(columns[0]),
            log_distance=_knots(columns[1]),
            within_class=_knots(columns[1] - class_distance[members]),
            error_ratio=error_ratio,
            accuracy=float(clean.right.mean()),
        )

    error_ratio = _UNTESTED
    ratios = [0.0]
    for family, strengths in windows.items() if len(windows) > 1 else ():
        model = fitted(family)
        for judged in (window for strength in strengths for window in strength):
            error = float(model.chances(judged.answers).mean() - judged.right.mean())
            ratios.append(abs(error) / (SLACK + model.shift(judged.answers)))
    if len(ratios) > 1:
        error_ratio = max(ratios)
    return fitted(None)


def _knots(values: Floats) -> Floats:
    """Return a sample in rising order: 256 quantiles of a larger one."""
    if len(values) <= _KNOTS:
        return np.sort(values)
    return np.asarray(np.quantile(values, (np.arange(_KNOTS) + 0.5) / _KNOTS))


def _regression(rows: Floats, right: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """Return the coefficients of a logistic regression: Newton's steps, with a ridge."""
    design = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
    ridge = np.array(_RIDGE)
    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chances = logistic(design @ found)
        curvature = weights * chances * (1.0 - chances) + 1e-9
        hessian = (design * curvature[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(hessian, design.T @ (weights * (right - chances)) - ridge * found)
        # A step of more than this overshoots where all answers are right.
        found += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    return found
