"""Every signal of one inference, computed the obvious way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """A layout whose fields can be read."""

    dtype: str
    elements: int
    channels: int = 1
    scale: float = 1.0
    zero_point: int = 0

    @property
    def layout(self) -> _core.TensorLayout:
        return _core.TensorLayout(
            self.dtype, self.elements, self.channels, self.scale, self.zero_point
        )

    def real(self, array: Array) -> npt.NDArray[np.float64]:
        return self.scale * (array.astype(np.float64) - self.zero_point)


def mean_finite(values: Array) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def difference(a: Array, b: Array) -> float:
    """Return the mean absolute difference over finite pairs."""
    both = np.isfinite(a) & np.isfinite(b)
    return mean_finite(np.abs(a[both] - b[both]))


def input_signals(tensor: Tensor, raw: Array, previous: Array | None) -> dict[str, float]:
    """Return the signals of one input."""
    x = tensor.real(raw)
    finite = x[np.isfinite(x)]
    step = tensor.channels if tensor.channels < x.size else 1
    signals = {
        "input_mean": mean_finite(x),
        "input_std": float(finite.std()) if finite.size else float("nan"),
    }
    if raw.dtype.kind != "f":
        limits = np.iinfo(raw.dtype)
        signals["input_saturated_low"] = float(np.mean(raw == limits.min))
        signals["input_saturated_high"] = float(np.mean(raw == limits.max))
    before = np.full_like(x, np.nan) if previous is None else tensor.real(previous)
    signals["input_change"] = difference(x, before)
    if x.size > 1:
        signals["input_roughness"] = difference(x[step:], x[:-step])
    return signals


def class_signals(tensor: Tensor, raw: Array, kind: str) -> tuple[int, dict[str, float]]:
    """Return the label and the signals of a classifier's output."""
    values = tensor.real(raw)
    if not np.isfinite(values).all():
        return -1, dict.fromkeys(("confidence", "margin", "entropy"), float("nan"))
    if kind == "probabilities" and values.size == 1:  # a sigmoid: the probability of class 1
        p = float(values[0])
        label, confidence, margin = int(p > 0.5), max(p, 1 - p), abs(2 * p - 1)
        both = np.clip([p, 1 - p], 0.0, 1.0)
        both = both[both > 0]
        entropy = max(0.0, float(-(both * np.log(both)).sum()))
        return label, {"confidence": confidence, "margin": margin, "entropy": entropy}
    label = int(np.argmax(values))
    if kind == "logits":
        weights = np.exp(values - values.max())
        values = weights / weights.sum()
    shares = np.clip(values, 0.0, None)
    total = shares.sum()
    entropy = float("nan")
    if total > 0:
        shares = shares[shares > 0] / total
        entropy = float(-(shares * np.log(shares)).sum())
    order = np.sort(values)[::-1]
    margin = order[0] - order[1] if order.size > 1 else order[0]
    return label, {"confidence": float(order[0]), "margin": float(margin), "entropy": entropy}


def embedding_signals(
    tensor: Tensor, raw: Array, centroid: Array | None, precision: Array | None
) -> dict[str, float]:
    """Return norm and active share, and the distance where a precision is given."""
    values = tensor.real(raw)
    is_finite = bool(np.isfinite(values).all())
    nan = float("nan")
    signals = {
        "embedding_norm": float(np.linalg.norm(values)) if is_finite else nan,
        "embedding_active": float(np.mean(values > 0)) if is_finite else nan,
    }
    if precision is not None:
        distance = nan
        if is_finite and centroid is not None and not np.isnan(centroid[0]):
            away = values - centroid.astype(np.float64)
            distance = float(np.sqrt((precision.astype(np.float64) * away**2).sum()))
        signals["embedding_distance"] = distance
    return signals


def output_signals(tensors: Sequence[Tensor], raw: Sequence[Array]) -> dict[str, list[float]]:
    """Return means and spreads of the outputs of a model without classes."""
    reals = [t.real(r) for t, r in zip(tensors, raw, strict=True)]
    finite = [r[np.isfinite(r)] for r in reals]
    return {
        "output_mean": [mean_finite(r) for r in reals],
        "output_std": [float(f.std()) if f.size else float("nan") for f in finite],
    }


def reconstruction_error(a: Array, b: Array) -> float:
    """Return the mean squared difference over finite pairs."""
    both = np.isfinite(a) & np.isfinite(b)
    return mean_finite(np.square(a[both] - b[both]))
