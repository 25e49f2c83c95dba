"""What a regressor's errors are worth: in points, as a classifier's accuracy is counted."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_SAVED", "POINTS", "error_of", "saved", "usual_error", "worth"]

Floats = npt.NDArray[np.float64]

POINTS: Final = 0.1
"""Of accuracy, that the mean error in calibration counts as: to a regressor it is what one wrong
answer in ten is to a classifier, so that a tenth of it is a point."""
MOST_SAVED: Final = 2.0
"""Mean errors of calibration: where an answer has gained or lost more it counts as this, or one
false target would outweigh all others."""


_LEAST_ERROR: Final = 0.01


def error_of(values: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Floats:
    """Return absolute errors, each the mean over the numbers of an answer: shape (n,).

    Parameters
    ----------
    values, targets
        Shape (n, numbers). What is no finite number errs infinitely.
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(values, np.float64) - np.asarray(targets, np.float64))
    return np.asarray(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).mean(axis=1))


def usual_error(values: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
    """Return the mean error of golden's answers to its held inputs, above 0.

    At least a hundredth of the spread of targets: else any change were a loss to a model whose
    targets were its own answers.
    """
    least = _LEAST_ERROR * float(np.std(targets, axis=0).mean())
    return max(float(error_of(values, targets).mean()), least, 1e-12)


def saved(golden: Floats, other: Floats, usual: float) -> Floats:
    """Return what each answer has gained over golden's, in accuracy: -0.2 to 0.2, shape (n,).

    Parameters
    ----------
    golden, other
        Absolute errors, shape (n,).
    usual
        The mean error in calibration, above 0.
    """
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num((golden - other) / usual, nan=0.0)
    return np.asarray(POINTS * np.clip(apart, -MOST_SAVED, MOST_SAVED))


def worth(gain: float) -> str:
    """Return in words what `saved` comes to on average."""
    return f"{gain / POINTS:.0%} of calibration's mean error"
