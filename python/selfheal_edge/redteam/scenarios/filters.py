"""Smoothing and moving real samples; NumPy alone."""

from __future__ import annotations

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Real

__all__ = ["blurred", "resampled", "smooth_field"]


def _binomial(real: Real, axis: int) -> Real:
    """Return (1, 2, 1) / 4 along an axis; the edge's values go on beyond it."""
    count = real.shape[axis]
    before = real.take(np.maximum(np.arange(count) - 1, 0), axis)
    after = real.take(np.minimum(np.arange(count) + 1, count - 1), axis)
    return np.asarray(0.25 * before + 0.5 * real + 0.25 * after)


def blurred(real: Real, amount: Real, axes: tuple[int, ...]) -> Real:
    """Return samples blurred by `amount` passes, shape (n,), or parts, of a binomial filter."""
    result, previous = real, real
    shape = (-1, *([1] * (real.ndim - 1)))
    for step in range(int(np.ceil(amount.max(initial=0.0)))):
        following = previous
        for axis in axes:
            following = _binomial(following, axis)
        part = np.clip(amount - step, 0.0, 1.0).reshape(shape)
        result = np.where(part > 0, (1 - part) * previous + part * following, result)
        previous = following
    return result


def resampled(real: Real, rows: Real, columns: Real, outside: Real) -> Real:
    """Return images read at other places, between pixels bilinearly.

    Parameters
    ----------
    real
        Images, shape (n, H, W, C).
    rows, columns
        Where each pixel is read, shape (n, H, W).
    outside
        What stands beyond the border.
    """
    height, width = real.shape[1:3]
    padded = np.empty((len(real), height + 2, width + 2, real.shape[3]))
    padded[...] = outside
    padded[:, 1:-1, 1:-1] = real
    r = np.clip(rows + 1.0, 0.0, height + 1.0)
    c = np.clip(columns + 1.0, 0.0, width + 1.0)
    r0 = np.minimum(r.astype(int), height)
    c0 = np.minimum(c.astype(int), width)
    n = np.arange(len(real))[:, None, None]
    dr, dc = (r - r0)[..., None], (c - c0)[..., None]
    above = (1 - dc) * padded[n, r0, c0] + dc * padded[n, r0, c0 + 1]
    below = (1 - dc) * padded[n, r0 + 1, c0] + dc * padded[n, r0 + 1, c0 + 1]
    return np.asarray((1 - dr) * above + dr * below)


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], passes: int = 6) -> Real:
    """Return a smooth random pattern over all axes of `shape`, between 0 and 1."""
    field = rng.normal(size=(1, *shape))
    for _ in range(passes):
        for axis in range(1, field.ndim):
            field = _binomial(field, axis)
    low, high = field.min(), field.max()
    return np.asarray((field[0] - low) / max(float(high - low), 1e-12))
