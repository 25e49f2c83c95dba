"""How well a model does, with labels from feedback."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.monitoring.correctness import Guess
from selfheal_edge.monitoring.performance import Performance, not_estimable

__all__ = ["LabelledAnswers", "accuracy_with_labels", "error_with_labels"]

Floats = npt.NDArray[np.float64]

_LEAST: Final = 8
_TWO_SIDED: Final = 1.645  # 90 % of a normal distribution lie so many standard deviations around


class LabelledAnswers(NamedTuple):
    """Answers whose truth was told; of n of them arrays of shape (n,)."""

    right: npt.NDArray[np.bool_]
    """Whether each answer was right."""
    chances: Floats | None = None
    """How likely each was held to be right when it was given; None where that is not known."""


def accuracy_with_labels(
    labelled: LabelledAnswers, guess: Guess | None = None, expected: float | None = None
) -> Performance:
    """Estimate an accuracy from labels, and from the answers themselves where there is a guess.

    Parameters
    ----------
    labelled
        At least 8 answers, of the same stretch of the stream as the guess. They have to be asked
        for before the answer is known, or drawn at random: where errors alone are reported, no
        number of them says what share they are.
    guess
        What the answers of the window say without labels; None where nothing is known of them.
    expected
        The accuracy in calibration.

    Returns
    -------
    Performance
        Not estimable with fewer labels.

    Raises
    ------
    ValueError
        When the two arrays of `labelled` have different lengths, or chances are not from 0 to 1.

    Notes
    -----
    Prediction-powered inference (Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023), with its
    tuned weight: the mean guess over the window, corrected by the mean error of the guess where
    labels are. Its variance is that of the error, which is smaller than that of right and wrong,
    but at least that of four more labels of which two are wrong. This and the guess, whose error
    its interval tells, or what lies between the two where that is more, are averaged with the
    inverse of their variances for weights.
    """
    right = np.asarray(labelled.right).astype(np.float64)
    n = len(right)
    chances = labelled.chances
    if chances is not None and (
        chances.shape != right.shape or not ((chances >= 0) & (chances <= 1)).all()
    ):
        raise ValueError(
            f"labelled: expected {n} chances from 0 to 1, one for each answer, "
            f"got shape {chances.shape}"
        )
    if n < _LEAST:
        return not_estimable(f"{n} of at least {_LEAST} labels", expected=expected)
    usual = 0.0
    weight = 0.0
    if chances is not None and guess is not None:
        weight = _tuned(right, chances, len(guess.chances))
        usual = weight * guess.accuracy
        right = right - weight * chances
    estimate = usual + float(right.mean())
    # Labels that all agree have no variance of their own, and say so little all the same.
    sd = math.sqrt((float(np.square(right - right.mean()).sum()) + 1.0) / (n * (n + 3)))
    basis, samples = "feedback", n
    if guess is not None:
        # A guess that labels contradict is worse than it says.
        apart = (estimate - guess.accuracy) ** 2 - sd**2
        shares = 1.0 / max(guess.sd**2, apart), 1.0 / sd**2
        estimate = (shares[0] * guess.accuracy + shares[1] * estimate) / sum(shares)
        sd = 1.0 / math.sqrt(sum(shares))
        basis, samples = "confidences and feedback", len(guess.chances)
    estimate = min(1.0, max(0.0, estimate))
    low = max(0.0, estimate - _TWO_SIDED * sd)
    high = min(1.0, estimate + _TWO_SIDED * sd)
    told = "" if guess is None else f" and the confidences of the latest {samples} answers"
    before = "" if expected is None else f"; {expected:.0%} in calibration"
    return Performance(
        "accuracy",
        estimate,
        low,
        high,
        expected,
        "feedback" if basis == "feedback" else "confidences and feedback",
        samples,
        n,
        f"accuracy about {estimate:.0%} ({low:.0%} to {high:.0%}), by {n} labels{told}{before}",
    )


def _tuned(right: Floats, chances: Floats, window: int) -> float:
    """Return how much of the guess to use: 0 where it says nothing of right and wrong."""
    together = float(np.mean((right - right.mean()) * (chances - chances.mean())))
    own = float(chances.var())
    return min(1.0, max(0.0, together / (own * (1.0 + len(right) / window) + 0.01)))


def error_with_labels(errors: Floats, expected: float | None = None) -> Performance:
    """Estimate the mean absolute error of a regressor from answers whose truth was told.

    Parameters
    ----------
    errors
        Absolute errors, not negative: shape (n,), n at least 8.
    expected
        The mean absolute error in calibration.
    """
    n = len(errors)
    if n < _LEAST:
        return not_estimable(
            f"{n} of at least {_LEAST} labels", "mean absolute error", expected=expected
        )
    if not np.isfinite(errors).all() or (errors < 0).any():
        raise ValueError("errors: expected finite numbers that are not negative")
    mean = float(errors.mean())
    # A little wider than the normal distribution has it: so few errors have far ones among them.
    away = _TWO_SIDED * (1.0 + 2.0 / n) * float(errors.std(ddof=1)) / math.sqrt(n)
    low, high = max(0.0, mean - away), mean + away
    return Performance(
        "mean absolute error",
        mean,
        low,
        high,
        expected,
        "feedback",
        n,
        n,
        f"mean absolute error about {mean:.3g} ({low:.3g} to {high:.3g}), by {n} labels",
    )
