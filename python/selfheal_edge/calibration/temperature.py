"""Learn by how much a classifier's probabilities are too sure, or not sure enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.monitoring.signals import OutputKind
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["fit_temperature"]

_LEAST: Final = 0.25
_MOST: Final = 8.0
_STEPS: Final = 40
_FLOOR: Final = 1e-6
_GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


def fit_temperature(
    outputs: Sequence[Array], spec: TensorSpec, kind: OutputKind, labels: npt.NDArray[np.int64]
) -> float:
    """Return the temperature under which the probabilities of true classes are largest.

    Parameters
    ----------
    outputs
        Raw output 0 of n inferences.
    spec, kind
        What it is.
    labels
        The true classes, shape (n,).

    Returns
    -------
    float
        T of p^(1/T) / sum p^(1/T), or of logits / T: 0.25 to 8. Above 1 for a model that is too
        sure of itself.

    Notes
    -----
    Temperature scaling (Guo, Pleiss, Sun and Weinberger 2017): one number, found by a golden
    section of its logarithm, so that few labels suffice. A probability below half a step of a
    quantised output counts as half a step.
    """
    values = np.stack(outputs).reshape(len(labels), -1).astype(np.float64)
    if spec.quantized:
        values = spec.scale * (values - spec.zero_point)
    finite = np.isfinite(values).all(axis=1)
    values, labels = values[finite], labels[finite]
    if not len(labels):
        return 1.0
    floor = max(_FLOOR, spec.scale / 2.0 if spec.quantized else 0.0)
    if values.shape[1] == 1 and kind == "logits":
        logits = np.concatenate([np.zeros_like(values), values], axis=1)
    elif kind == "logits":
        logits = values
    elif values.shape[1] == 1:
        one = np.clip(values, floor, 1.0 - floor)
        logits = np.log(np.concatenate([1.0 - one, one], axis=1))
    else:
        logits = np.log(np.maximum(values, floor))

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        own = scaled[np.arange(len(labels)), labels]
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - own))

    low, high = math.log(_LEAST), math.log(_MOST)
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = loss(a), loss(b)
    for _ in range(_STEPS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = loss(b)
    return math.exp((low + high) / 2.0)
