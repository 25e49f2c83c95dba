"""What the axes of an input mean, and its fine structure: found from calibration inputs alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "MOST",
    "Floats",
    "Layout",
    "find_layout",
    "fine_structure",
    "read_real",
    "smoothed",
    "with_mirrored",
    "with_permuted",
]

Floats = npt.NDArray[np.float32]

_SMOOTH: Final = 0.25  # correlation of neighbours along an axis that can be smoothed
_COMPONENTS: Final = 8
_LEAST_AXIS: Final = 4
MOST: Final = 1e12
"""Values are held within this, so that sums of their squares are numbers."""
_PERMUTATION_SEED: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How an input is read: axes without those of one element, the first the sample's.

    Neighbours along a smooth axis look alike, as pixels or moments do. Where no axis is smooth the
    elements are features without an order, and the calibration's main components take the place of
    smoothing.
    """

    shape: tuple[int, ...]
    """Of one input, without axes of one element; at least one axis."""
    smooth: tuple[int, ...]
    """Axes of `shape` that can be smoothed."""
    channel: int | None
    """The axis whose elements are sensors or colours of their own; None: there is one channel."""
    centre: Floats | None = None
    """Shape (features,), where no axis is smooth."""
    components: Floats | None = None
    """Shape (components, features), orthonormal rows."""

    @property
    def channels(self) -> int:
        """Channels of one input."""
        return 1 if self.channel is None else self.shape[self.channel]

    def read(self, inputs: npt.NDArray[Any], scale: float = 1.0, zero_point: float = 0) -> Floats:
        """Return raw inputs as real numbers, shape (n, *shape)."""
        return read_real(inputs, scale, zero_point).reshape(len(inputs), *self.shape)

    def by_channel(self, x: Floats) -> Floats:
        """Return inputs as (n, elements of a channel, channels)."""
        if self.channel is None:
            return x.reshape(len(x), -1, 1)
        moved = np.moveaxis(x, self.channel + 1, -1)
        return moved.reshape(len(x), -1, moved.shape[-1])

    def roughness(self, x: Floats) -> Floats:
        """Return the mean absolute step along smooth axes, shape (n, channels); 0 without any."""
        total = np.zeros((len(x), self.channels), np.float32)
        axes = [axis for axis in self.smooth if axis != self.channel]
        for axis in axes:
            steps = np.abs(np.diff(x, axis=axis + 1))
            total += self.by_channel(steps).mean(axis=1)
        return np.asarray(total / max(1, len(axes)), np.float32)


def read_real(inputs: npt.NDArray[Any], scale: float, zero_point: float) -> Floats:
    """Return raw inputs as real numbers: finite ones, none beyond `MOST`."""
    real = inputs.astype(np.float32)
    if zero_point:
        real -= np.float32(zero_point)
    if scale != 1.0:
        real *= np.float32(min(scale, MOST))
    if inputs.dtype.kind == "f":
        real[~np.isfinite(real)] = 0.0
    return np.clip(real, -MOST, MOST, out=real)


def find_layout(inputs: Floats) -> Layout:
    """Find how inputs are to be read.

    Parameters
    ----------
    inputs
        Real numbers, shape (n, *shape of one), n at least 2.

    Notes
    -----
    An axis is smooth where neighbours along it, each taken against its own mean over the
    calibration, correlate by at least 0.25 and by half of what the smoothest axis has.
    """
    whole = inputs.shape[1:]
    shape = tuple(n for n in whole if n > 1) or (1,)
    x = inputs.reshape(len(inputs), *shape)
    if len(shape) == 1:
        found = _correlation(x, 1)
        if found >= 2 * _SMOOTH and shape[0] > 2 * _COMPONENTS:
            return Layout(shape, (0,), None)
        return _unordered(x, shape)
    # Colours and sensors stand innermost; where there is one of them, the axis before serves.
    channel = len(shape) - 1
    others = [axis for axis in range(len(shape)) if axis != channel or whole[-1] == 1]
    found_of = {axis: _correlation(x, axis + 1) for axis in others}
    best = max(found_of.values(), default=0.0)
    least = max(_SMOOTH, best / 2)
    smooth = tuple(axis for axis, found in found_of.items() if found >= least)
    if not smooth:
        flat = _unordered(x.reshape(len(x), -1), (int(np.prod(shape)),))
        return Layout(shape, (), channel, flat.centre, flat.components)
    return Layout(shape, smooth, channel)


def _correlation(x: Floats, axis: int) -> float:
    """Return how much neighbours along an axis look alike, after their means."""
    size = x.shape[axis]
    if size < _LEAST_AXIS:
        return 0.0
    deviation = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / (deviation + 0.05 * x.std() + 1e-12)
    left = np.take(scaled, range(size - 1), axis)
    right = np.take(scaled, range(1, size), axis)
    power = float(np.sqrt(np.mean(left * left) * np.mean(right * right)))
    return float(np.mean(left * right)) / power if power > 0 else 0.0


def _unordered(x: Floats, shape: tuple[int, ...]) -> Layout:
    centre = x.mean(axis=0)
    _, _, rows = np.linalg.svd(x - centre, full_matrices=False)
    kept = rows[: min(_COMPONENTS, len(rows))].astype(np.float32)
    channel = 0 if len(shape) == 1 else None
    return Layout(shape, (), channel, centre.astype(np.float32), kept)


def smoothed(layout: Layout, x: Floats) -> Floats:
    """Return inputs without their fine structure: (1, 2, 1) / 4 along every smooth axis."""
    if layout.components is not None:
        assert layout.centre is not None
        flat = x.reshape(len(x), -1) - layout.centre
        return np.asarray(
            ((flat @ layout.components.T) @ layout.components + layout.centre).reshape(x.shape),
            np.float32,
        )
    for axis in layout.smooth:
        size = x.shape[axis + 1]
        before = np.take(x, [0, *range(size - 1)], axis + 1)
        after = np.take(x, [*range(1, size), size - 1], axis + 1)
        x = np.asarray((before + 2 * x + after) / 4, np.float32)
    return x


def fine_structure(layout: Layout, x: Floats) -> tuple[Floats, Floats]:
    """Return what smoothing leaves of inputs, and what it takes away."""
    smooth = smoothed(layout, x)
    return smooth, x - smooth


def with_mirrored(layout: Layout, smooth: Floats, fine: Floats) -> Floats:
    """Return inputs with their fine structure put back mirrored: of equal size and spectrum."""
    if layout.components is not None:
        return smooth - fine
    return smooth + np.flip(fine, axis=tuple(axis + 1 for axis in layout.smooth))


def with_permuted(layout: Layout, smooth: Floats, fine: Floats) -> Floats:
    """Return inputs with their fine structure put back in a fixed other order."""
    rng = np.random.default_rng(_PERMUTATION_SEED)
    if layout.components is not None:
        flat = fine.reshape(len(fine), -1)
        signs = rng.choice(np.array([-1, 1], np.float32), flat.shape[1])
        return np.asarray(
            smooth + (flat[:, rng.permutation(flat.shape[1])] * signs).reshape(fine.shape),
            np.float32,
        )
    axes = [axis + 1 for axis in layout.smooth]
    moved = np.moveaxis(fine, axes, range(1, 1 + len(axes)))
    positions = int(np.prod(moved.shape[1 : 1 + len(axes)]))
    rest: Sequence[int] = moved.shape[1 + len(axes) :]
    flat = moved.reshape(len(fine), positions, *rest)[:, rng.permutation(positions)]
    return smooth + np.moveaxis(flat.reshape(moved.shape), range(1, 1 + len(axes)), axes)
