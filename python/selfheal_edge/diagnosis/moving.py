"""How a scene has moved: one affine map of places for all inputs, found from their mean."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import Floats, Layout, smoothed

__all__ = ["found_motion", "moved_by"]

Reals = npt.NDArray[np.float64]

_STEPS: Final = 12
_SMOOTHED: Final = 2
_MOST: Final = 0.3  # of an axis
_EXPLAINED: Final = 0.35
"""What is left after a motion, in parts of what is left without, is below 1 less this."""
_FAR: Final = 0.25
"""Elements; mean inputs of another mix of classes differ by as little as less does."""
_RIDGE: Final = 1e-3
_LEAST_AXIS: Final = 6


def found_motion(layout: Layout, was: Floats, now: Floats) -> Reals | None:
    """Return the motion that best explains how a mean input has changed, beside gain and offset.

    Parameters
    ----------
    layout
        Two of its axes must be smooth, of six elements at least.
    was, now
        Mean of the calibration and of the window, shape layout.shape.

    Returns
    -------
    numpy.ndarray or None
        Shape (2, 3): displacement along each smooth axis, in elements, as a constant and two
        slopes over places from -1 to 1. None where no motion explains a third of the change,
        or one of less than a quarter of an element does.

    Notes
    -----
    Gauss-Newton steps on the squared difference (Lucas and Kanade, 1981, with affine maps).
    """
    if len(layout.smooth) != 2 or min(layout.shape[axis] for axis in layout.smooth) < _LEAST_AXIS:
        return None
    before, after = (_planes(layout, _blurred(layout, mean)) for mean in (was, now))
    rows, columns = _grid(before.shape)
    shape = np.stack([np.ones_like(rows), rows, columns])
    motion = np.zeros((2, 3))
    limit = _MOST * np.array(before.shape[:2])[:, None]
    still = _left(before, after, motion)
    best, least = motion, still
    for _ in range(_STEPS):
        seen = _sampled(before[None], *_places(before.shape, motion))[0]
        slopes = np.gradient(seen, axis=(0, 1))
        # Of each unknown of the motion, then gain and offset.
        steps = [-slope * part[..., None] for slope in slopes for part in shape]
        design = np.stack([*(s.ravel() for s in steps), seen.ravel(), np.ones(seen.size)], axis=1)
        size = np.sqrt(np.mean(np.square(design), axis=0)) + 1e-9
        scaled = design / size
        gram = scaled.T @ scaled + _RIDGE * seen.size * np.eye(scaled.shape[1])
        wanted = scaled.T @ (after - seen).ravel()
        step = np.linalg.solve(gram, wanted) / size
        motion = np.clip(motion + step[:6].reshape(2, 3), -limit, limit)
        left = _left(before, after, motion)
        if left < least:
            best, least = motion, left
    far = np.sqrt(np.sum(np.square(best) / (1.0, 3.0, 3.0)))  # root mean square over places
    return best if far >= _FAR and least < (1 - _EXPLAINED) * still else None


def moved_by(layout: Layout, x: Floats, motion: Reals) -> Floats:
    """Return inputs as they look after a motion; beyond the border the edge's own values go on."""
    axes = [axis + 1 for axis in layout.smooth]
    planes = np.moveaxis(x, axes, (1, 2))
    flat = planes.reshape(*planes.shape[:3], -1)
    found = _sampled(flat, *_places(flat.shape[1:3], motion)).reshape(planes.shape)
    return np.asarray(np.moveaxis(found, (1, 2), axes), np.float32)


def _blurred(layout: Layout, mean: Floats) -> Floats:
    found = mean[None]
    for _ in range(_SMOOTHED):
        found = smoothed(layout, found)
    return np.asarray(found[0], np.float32)


def _planes(layout: Layout, mean: Floats) -> Reals:
    """Return a mean as (one smooth axis, the other, all else)."""
    moved = np.moveaxis(mean, layout.smooth, (0, 1))
    return np.asarray(moved.reshape(*moved.shape[:2], -1), np.float64)


def _grid(shape: tuple[int, ...]) -> tuple[Reals, Reals]:
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    return rows, columns


def _places(shape: tuple[int, ...], motion: Reals) -> tuple[Reals, Reals]:
    """Return where each place is read, shape (rows, columns) each."""
    rows, columns = _grid(shape)
    at = np.meshgrid(*(np.arange(n, dtype=float) for n in shape[:2]), indexing="ij")
    found = [
        np.clip(at[n] - (motion[n, 0] + motion[n, 1] * rows + motion[n, 2] * columns), 0, most - 1)
        for n, most in enumerate(shape[:2])
    ]
    return found[0], found[1]


def _sampled(planes: npt.NDArray[np.floating], rows: Reals, columns: Reals) -> Reals:
    """Return planes, shape (n, rows, columns, rest), read at other places, bilinearly."""
    height, width = planes.shape[1:3]
    r, c = rows.astype(np.intp), columns.astype(np.intp)
    below, right = np.minimum(r + 1, height - 1), np.minimum(c + 1, width - 1)
    dr, dc = (rows - r)[..., None], (columns - c)[..., None]
    upper = (1 - dc) * planes[:, r, c] + dc * planes[:, r, right]
    lower = (1 - dc) * planes[:, below, c] + dc * planes[:, below, right]
    return np.asarray((1 - dr) * upper + dr * lower, np.float64)


def _left(before: Reals, after: Reals, motion: Reals) -> float:
    """Return the squares that a motion leaves, with the best gain and offset."""
    seen = _sampled(before[None], *_places(before.shape, motion))[0].ravel()
    wanted = after.ravel() - after.mean()
    seen = seen - seen.mean()
    power = float(seen @ seen)
    gain = float(seen @ wanted) / power if power > 0 else 0.0
    return float(np.sum(np.square(wanted - gain * seen)))
