"""Random inputs over the whole range of their types."""

from __future__ import annotations

import numpy as np

from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["full_range_input"]


def full_range_input(spec: TensorSpec, rng: np.random.Generator) -> Array:
    """Draw one input over the whole range of its type; floats are normal with random scale."""
    if spec.dtype.kind == "f":
        scale = np.exp(rng.normal())
        return np.asarray(scale * rng.standard_normal(spec.shape), spec.dtype)
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, spec.shape).astype(spec.dtype)
    info = np.iinfo(spec.dtype)
    if spec.dtype.itemsize > 2:  # wide integers count or index: stay where every kernel can follow
        return np.zeros(spec.shape, spec.dtype)
    return rng.integers(info.min, info.max, spec.shape, dtype=spec.dtype, endpoint=True)
