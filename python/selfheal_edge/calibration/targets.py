"""What a calibration is told of a model that names no classes: the numbers it should answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from selfheal_edge.monitoring.performance import ExpectedError
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["expected_error", "read_targets"]


def read_targets(labels: Any, output: TensorSpec) -> npt.NDArray[np.float64]:
    """Read the argument `labels` of `calibrate` for a model without classes.

    Parameters
    ----------
    labels
        Real numbers, shape (n, ...): what output 0 should be for each input.
    output
        Output 0.

    Returns
    -------
    ndarray of float64, shape (n, elements)

    Raises
    ------
    ValueError
        For anything else.
    """
    given = np.asarray(labels)
    elements = int(np.prod(output.shape, dtype=np.int64))
    if given.dtype.kind != "f" or given.ndim == 0 or given[:1].size not in (0, elements):
        raise ValueError(
            "labels: expected None, because no classes were found in this model (no dense layer "
            f"before its output), or real targets of {elements} number(s) for each input, "
            f"got shape {given.shape} and dtype {given.dtype.name}"
        )
    if not np.isfinite(given).all():
        raise ValueError("labels: expected finite targets, got NaN or infinity")
    return given.reshape(len(given), elements).astype(np.float64)


def expected_error(
    answers: Sequence[Array], output: TensorSpec, targets: npt.NDArray[np.float64] | None
) -> ExpectedError | None:
    """Return how far answers lay from their targets; None without targets.

    Parameters
    ----------
    answers
        Raw output 0, one an input.
    output
        What it is.
    targets
        Shape (n, elements).
    """
    if targets is None:
        return None
    values = np.stack(answers).astype(np.float64)
    if output.quantized:
        values = output.scale * (values - output.zero_point)
    errors = np.abs(values - targets).mean(axis=1)
    return ExpectedError(float(errors.mean()), float(errors.std(ddof=1)), len(errors))
