"""What happens to any sensor: changes of real inputs that the limits of a diagnosis are learned of.

Those that say how answers lose accuracy, of raw inputs and at four strengths, are `made_changes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import Floats, Layout, smoothed

__all__ = ["harmless_changes"]

_MOVED: Final = 1 / 16  # of an axis
_SEED: Final = 1


def harmless_changes(layout: Layout, x: Floats) -> list[Callable[[Floats], Floats]]:
    """Return changes that do happen to sensors, each weak and strong, for inputs like `x`."""
    rng = np.random.default_rng(_SEED)
    spread = float(x.std())
    least, most = float(x.min()), float(x.max())
    centre = float(x.mean())

    def noise(size: float) -> Callable[[Floats], Floats]:
        return lambda y: y + np.float32(size * spread) * rng.standard_normal(y.shape, np.float32)

    def gain(factor: float) -> Callable[[Floats], Floats]:
        return lambda y: least + (y - least) * np.float32(factor)

    def offset(size: float) -> Callable[[Floats], Floats]:
        return lambda y: y + np.float32(size * spread)

    def blur(times: int) -> Callable[[Floats], Floats]:
        def changed(y: Floats) -> Floats:
            for _ in range(times):
                y = smoothed(layout, y)
            return y

        return changed

    def contrast(factor: float) -> Callable[[Floats], Floats]:
        return lambda y: centre + (y - centre) * np.float32(factor)

    def specks(share: float) -> Callable[[Floats], Floats]:
        def changed(y: Floats) -> Floats:
            drawn = rng.random(y.shape, np.float32)
            dark = np.where(drawn < share / 2, np.float32(least), y)
            return np.where(drawn > 1 - share / 2, np.float32(most), dark)

        return changed

    def moved(axis: int) -> Callable[[Floats], Floats]:
        return lambda y: _displaced(y, axis, np.full(1, _MOVED * y.shape[axis + 1]))

    def stretched(axis: int) -> Callable[[Floats], Floats]:
        return lambda y: _displaced(y, axis, _ramp(y, axis, _MOVED * y.shape[axis + 1]))

    def sheared(axis: int, other: int) -> Callable[[Floats], Floats]:
        return lambda y: _displaced(y, axis, _ramp(y, other, _MOVED * y.shape[axis + 1]))

    changes = [
        *(moved(axis) for axis in layout.smooth),
        *(stretched(axis) for axis in layout.smooth),
        *(sheared(a, b) for a in layout.smooth for b in layout.smooth if a != b),
        specks(0.03),
        noise(0.2),
        noise(0.5),
        noise(1.0),
        blur(1),
        blur(3),
        gain(0.7),
        gain(1.3),
        offset(-0.3),
        offset(0.5),
        contrast(0.6),
    ]

    def within(change: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
        return lambda y: np.clip(change(y), least, most)

    return [within(change) for change in changes]


def _ramp(y: Floats, axis: int, most: float) -> npt.NDArray[np.float64]:
    """Return displacements that grow along an axis, from -most to most."""
    shape = [1] * y.ndim
    shape[axis + 1] = y.shape[axis + 1]
    return np.linspace(-most, most, y.shape[axis + 1]).reshape(shape)


def _displaced(y: Floats, axis: int, by: npt.NDArray[np.float64]) -> Floats:
    """Return inputs whose elements come from elsewhere along an axis, interpolated."""
    size = y.shape[axis + 1]
    shape = [1] * y.ndim
    shape[axis + 1] = size
    at = np.broadcast_to(np.clip(np.arange(size).reshape(shape) - by, 0, size - 1), y.shape)
    low = np.floor(at).astype(np.intp)
    below = np.take_along_axis(y, low, axis + 1)
    above = np.take_along_axis(y, np.minimum(low + 1, size - 1), axis + 1)
    return np.asarray(below + (at - low) * (above - below), np.float32)
