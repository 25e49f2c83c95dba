"""Estimate how well a model does from what is kept of its latest inferences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.correctness import read_answers
from selfheal_edge.monitoring.labelled import LabelledAnswers, accuracy_with_labels
from selfheal_edge.monitoring.performance import ExpectedError, Performance, not_estimable
from selfheal_edge.monitoring.recent import RecentSamples
from selfheal_edge.monitoring.regimes import RegimeTable
from selfheal_edge.tflite.runtimes.protocol import TensorSpec

__all__ = ["abnormal_above", "estimate_performance", "reconstruction"]

Floats = npt.NDArray[np.float64]

_RECONSTRUCTION: Final = "reconstruction_error"
_LEAST: Final = 16
_TWO_SIDED: Final = 1.645  # 90 % of a normal distribution lie so many standard deviations around
_HALVINGS: Final = 60
_USUAL: Final = 2.326  # 99 % of a normal distribution lie below so many standard deviations
_BEYOND: Final = 8.0  # the farthest score


def estimate_performance(
    baseline: Baseline,
    recent: RecentSamples,
    scores: Mapping[str, Floats],
    outputs: Sequence[TensorSpec],
    tap: TensorSpec | None,
    labelled: LabelledAnswers | None = None,
) -> Performance:
    """Return how well a model does on its latest inferences.

    Parameters
    ----------
    baseline
        What calibration learned.
    recent
        The latest inferences.
    scores
        Normal scores of the latest predictions by signal, oldest first: shape (n,) each.
    outputs, tap
        The model's outputs, and the embedding.
    labelled
        Answers of a classifier whose truth feedback has told, since what goes on now began; None
        without any.

    Returns
    -------
    Performance
        Of a classifier that was calibrated with labels, or has some now, its accuracy; of an
        autoencoder its reconstruction error; of a regressor that was calibrated with targets its
        error, as long as it is served what it was calibrated with.

    Notes
    -----
    Takes some 0.2 ms. It knows no attack: the caller has to, since inputs that are made to mislead
    are made to look sure.
    """
    kind = baseline.output_kind
    if kind is None:
        return _without_classes(baseline, scores)
    model = baseline.correctness
    missing = ""
    if model is None:
        missing = "calibration had no labels: calibrate(labels=…)"
    elif recent.outputs is None:
        missing = "answers of more than 4 KiB are not kept"
    elif not len(recent):
        missing = "no inference is kept"
    if missing or model is None or recent.outputs is None:
        if labelled is not None:
            return accuracy_with_labels(labelled._replace(chances=None), None, baseline.accuracy)
        return not_estimable(missing, expected=baseline.accuracy)
    answers = read_answers(
        recent.outputs, outputs[0], kind, recent.embeddings, tap, baseline.embedding
    )
    told = model.estimate(answers)
    if labelled is None or not told.is_estimable:
        return told
    combined = accuracy_with_labels(labelled, model.guess(answers), model.accuracy)
    return combined if combined.is_estimable else told


def _reconstructed(baseline: Baseline) -> _core.Reference | None:
    """Return what the reconstruction error of an autoencoder is like; None for other models."""
    if baseline.output_kind is not None or baseline.error is not None:
        return None
    # A single number that a model makes of another is no copy of it.
    outputs = baseline.known_answers.outputs
    has_many = bool(outputs) and outputs[0][0].size > 1
    return baseline.references.get(_RECONSTRUCTION) if has_many else None


def abnormal_above(baseline: Baseline) -> float | None:
    """Return the reconstruction error that 99 % of an autoencoder's calibration lie below.

    None for other models, and where that signal is left out.
    """
    reference = _reconstructed(baseline)
    if reference is None:
        return None
    return float(np.float32(_values(reference, np.array([_USUAL]))[0]))


def _without_classes(baseline: Baseline, scores: Mapping[str, Floats]) -> Performance:
    if baseline.error is not None:
        return _as_in_calibration(baseline.error, baseline.regimes, scores)
    reference = _reconstructed(baseline)
    if reference is not None:
        return reconstruction(reference, scores.get(_RECONSTRUCTION, np.empty(0)))
    return not_estimable(
        "the model has no classes, reconstructs no input, and was calibrated without targets: "
        "calibrate(labels=…)",
        "mean absolute error",
    )


def _as_in_calibration(
    error: ExpectedError, regimes: RegimeTable | None, scores: Mapping[str, Floats]
) -> Performance:
    """Return a regressor's error, which only targets tell: that of calibration, or nothing."""

    def nothing(why: str) -> Performance:
        return not_estimable(why, "mean absolute error", error.mean)

    if regimes is None or not set(regimes.signals) <= set(scores):
        return nothing("no signal says whether inputs are those of calibration")
    window = np.stack([scores[name] for name in regimes.signals], axis=1)
    n = len(window)
    if n < _LEAST:
        return nothing(f"{n} of at least {_LEAST} inferences")
    if min(regimes.distances(window)) > regimes.limit:
        return nothing("inputs or answers are not those of calibration, and labels alone can tell")
    away = _TWO_SIDED * error.sd * math.sqrt(1.0 / n + 1.0 / error.samples)
    low, high = max(0.0, error.mean - away), error.mean + away
    return Performance(
        "mean absolute error",
        error.mean,
        low,
        high,
        error.mean,
        "calibration",
        n,
        text=f"mean absolute error about {error.mean:.3g} ({low:.3g} to {high:.3g}), as in "
        f"calibration: the latest {n} inferences are like it",
    )


def reconstruction(reference: _core.Reference, scores: Floats) -> Performance:
    """Return an autoencoder's mean reconstruction error, told from its normal scores.

    Parameters
    ----------
    reference
        The reconstruction error's.
    scores
        Its normal scores, in order: shape (n,); NaN for none.

    Notes
    -----
    The interval is that of a mean, with the autocorrelation that calibration saw. An error beyond
    what scores can express counts as the least that is.
    """
    known = scores[np.isfinite(scores)]
    levels = (np.arange(256) + 0.5) / 256
    expected = float(np.mean(_values(reference, _normal_quantiles(levels))))
    n = len(known)
    if n < _LEAST:
        return not_estimable(
            f"{n} of at least {_LEAST} inferences", "reconstruction error", expected
        )
    errors = _values(reference, known)
    mean = float(errors.mean())
    phi = max(0.0, reference.phi)
    away = _TWO_SIDED * float(errors.std()) * math.sqrt((1 + phi) / (1 - phi) / n)
    low, high = max(0.0, mean - away), mean + away
    return Performance(
        "reconstruction error",
        mean,
        low,
        high,
        expected,
        "reconstruction error",
        n,
        text=f"reconstruction error {mean:.3g} ({low:.3g} to {high:.3g}) over the latest {n} "
        f"inferences; {expected:.3g} in calibration",
    )


def _values(reference: _core.Reference, scores: Floats) -> Floats:
    """Return the values that have these normal scores: a reference rises, so halve."""
    wanted = np.clip(scores, -_BEYOND, np.nextafter(_BEYOND, 0.0))
    low = np.zeros(len(wanted))
    top = max(reference.highest, 1e-9)
    while reference.score(top) < wanted.max(initial=0.0) and top < 1e30:
        top *= 2.0
    high = np.full(len(wanted), top)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        is_below = reference.score_many(middle) < wanted
        low = np.where(is_below, middle, low)
        high = np.where(is_below, high, middle)
    return np.asarray(0.5 * (low + high))


def _normal_quantiles(levels: Floats) -> Floats:
    """Return where a normal distribution has these levels, by halving."""
    low, high = np.full(len(levels), -_BEYOND), np.full(len(levels), _BEYOND)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in middle.tolist()])
        low = np.where(below < levels, middle, low)
        high = np.where(below < levels, high, middle)
    return np.asarray(0.5 * (low + high))
