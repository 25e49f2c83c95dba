"""Samples as a model takes them."""

from __future__ import annotations

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.tflite.runtimes.protocol import TensorSpec

__all__ = ["rows_for"]


def rows_for(spec: TensorSpec, inputs: Raw, argument: str) -> Raw:
    """Return samples as a model takes them, shape (n, *sample), quantised if need be.

    Parameters
    ----------
    argument
        What messages call the samples.

    Raises
    ------
    ValueError
        Where shape or dtype fit neither the input nor what can be quantised for it.
    """
    given = np.asarray(inputs)
    shape = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
    if given.ndim == 0 or given[:1].size != int(np.prod(spec.shape)):
        raise ValueError(
            f"{argument}: expected samples of shape {list(shape)}, got an array of shape "
            f"{list(given.shape)}"
        )
    rows = given.reshape(len(given), *shape)
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise ValueError(f"{argument}: expected finite numbers")
    if spec.quantized and rows.dtype.kind == "f":
        info = np.iinfo(spec.dtype)
        levels = np.rint(rows / spec.scale) + spec.zero_point
        return np.asarray(np.clip(levels, info.min, info.max)).astype(spec.dtype)
    if rows.dtype.kind == "f" and spec.dtype.kind == "f":
        return rows.astype(spec.dtype)
    if rows.dtype != spec.dtype:
        raise ValueError(f"{argument}: expected {spec.dtype.name}, got {rows.dtype.name}")
    return rows
