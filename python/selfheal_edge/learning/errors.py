"""What a regressor's errors are worth: in points, as a classifier's accuracy is counted.

An error is counted in units: of each number its own mean error in calibration. So a model may give
degrees and pascals, and neither drowns the other.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_SAVED", "POINTS", "error_of", "saved", "units_of", "worth"]

Floats = npt.NDArray[np.float64]

POINTS: Final = 0.1
"""Of accuracy, that the mean error in calibration counts as: to a regressor it is what one wrong
answer in ten is to a classifier, so that a tenth of it is a point. The spread of targets would be
another measure; but then a model that errs by a hundredth of it could lose all it is good for
before a point were gone, and bounds in points would bind nothing."""
MOST_SAVED: Final = 2.0
"""Mean errors of calibration: where an answer has gained or lost more it counts as this, or one
false target would outweigh all others."""

_LEAST_ERROR: Final = 0.01
_LEAST_SHARE: Final = 1e-6  # of the targets themselves, where they do not vary


def error_of(
    values: npt.NDArray[Any], targets: npt.NDArray[Any], units: npt.NDArray[Any] | float = 1.0
) -> Floats:
    """Return absolute errors, each the mean over the numbers of an answer: shape (n,).

    Parameters
    ----------
    values, targets
        Shape (n, numbers). What is no finite number errs infinitely.
    units
        What an error of each number is counted in, above 0: shape (numbers,).
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(values, np.float64) - np.asarray(targets, np.float64))
    return np.asarray((np.nan_to_num(apart, nan=np.inf, posinf=np.inf) / units).mean(axis=1))


def units_of(values: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Floats:
    """Return the mean error of golden's answers to its held inputs, of each number, above 0.

    At least a hundredth of the spread of its targets: else any change were a loss to a model whose
    targets were its own answers. Shape (numbers,).
    """
    truth = np.asarray(targets, np.float64)
    mean = np.abs(np.asarray(values, np.float64) - truth).mean(axis=0)
    least = np.maximum(_LEAST_ERROR * truth.std(axis=0), _LEAST_SHARE * np.abs(truth).mean(axis=0))
    return np.asarray(np.maximum(mean, np.maximum(least, 1e-12)))


def saved(golden: Floats, other: Floats) -> Floats:
    """Return what each answer has gained over golden's, in accuracy: -0.2 to 0.2, shape (n,).

    Parameters
    ----------
    golden, other
        Absolute errors in units, shape (n,).
    """
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(golden - other, nan=0.0)
    return np.asarray(POINTS * np.clip(apart, -MOST_SAVED, MOST_SAVED))


def worth(gain: float) -> str:
    """Return in words what `saved` comes to on average."""
    return f"{gain / POINTS:.0%} of calibration's mean error"
