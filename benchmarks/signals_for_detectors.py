"""Streams that the detector benchmarks draw: six distributions, with and without memory."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

DISTRIBUTIONS: Final = ("normal", "t5", "laplace", "exponential", "uniform", "int8")
Samples = npt.NDArray[np.float64]


def innovations(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Samples:
    """Independent samples with mean 0 and variance 1; of "int8" those before quantisation."""
    if kind == "t5":
        return np.asarray(rng.standard_t(5, shape) / np.sqrt(5 / 3))
    if kind == "laplace":
        return np.asarray(rng.laplace(size=shape) / np.sqrt(2))
    if kind == "exponential":
        return rng.exponential(size=shape) - 1
    if kind == "uniform":
        return np.asarray((rng.random(shape) - 0.5) * np.sqrt(12))
    return rng.standard_normal(shape)


def observe(kind: str, x: Samples) -> Samples:
    """Return what the sensor shows: "int8" has 1/8 steps and half its mass on one level."""
    return np.minimum(np.round(x * 8), 0.0) if kind == "int8" else x


def stream(
    kind: str,
    rng: np.random.Generator,
    count: int,
    *,
    phi: float = 0.0,
    signals: int = 1,
    rho: float = 0.0,
    shift: float = 0.0,
) -> Samples:
    """Draw rows of a first-order autoregression with variance 1, one column a signal.

    `phi` is the lag-1 autocorrelation, `rho` the correlation between signals (through a shared
    part of the innovations), `shift` what is added to all, in standard deviations.
    """
    own = innovations(kind, rng, (count, signals))
    if rho > 0:
        shared = innovations(kind, rng, (count, 1))
        own = np.sqrt(1 - rho) * own + np.sqrt(rho) * shared
    if phi:
        own = lfilter([np.sqrt(1 - phi * phi)], [1, -phi], own, axis=0)
    return np.ascontiguousarray(observe(kind, own + shift))
