"""Carry calibration inputs into the condition of other inputs, so that the model can be asked."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import Floats, Layout, smoothed
from selfheal_edge.diagnosis.moving import found_motion, moved_by
from selfheal_edge.diagnosis.profile import Profile

__all__ = ["carried"]

_TINY: Final = 1e-6
_SEED: Final = 1
_WHITE: Final = 1.128  # mean absolute difference of two normal numbers of unit spread
_PLACES: Final = 4
"""Elements of a channel from which the distribution of its values is carried, not two moments."""
_KNOTS: Final = 65
_SLICES: Final = 10
_MOST_ROWS: Final = 2048
_ROWS_A_CHANNEL: Final = 8
"""Fewer places for each channel do not show how channels hang together."""


def carried(profile: Profile, x: Floats) -> Floats:
    """Carry calibration inputs into the condition of inputs `x`.

    Parameters
    ----------
    profile
        Has the calibration inputs.
    x
        Real inputs of a window, shape (m, *layout.shape).

    Returns
    -------
    numpy.ndarray
        float32, shape (kept inputs, *layout.shape), within the calibration's range.

    Notes
    -----
    Where one motion of all inputs explains how their mean has changed, they are moved first. Then
    places are mapped: a place is what all channels show at one position of an input, a frame of a
    spectrogram, a row of an image. Places of the calibration are mapped so that they are
    distributed as the window's are, over all channels together: by sliced optimal transport
    (Pitié, Kokaram and Dahyot, 2007), a monotone map along each of the axes of one random rotation
    after the other. Light, gain, a bent response, a ceiling, and sound that drowns quiet frames and
    leaves loud ones are such maps. A change made for one input at one position is not: all that a
    map knows of a place is what it shows. Then inputs are smoothed, or white noise is added, until
    neighbours differ as much as the window's do.

    Where a channel has fewer than four elements, a sensor vector's features, each gets the window's
    mean and spread. Deterministic; 10 to 40 ms for inputs of some hundred elements.
    """
    layout = profile.layout
    rng = np.random.default_rng(_SEED)
    y = profile.real(profile.inputs)
    if profile.cell_mean.size:
        motion = found_motion(layout, profile.cell_mean.reshape(layout.shape), x.mean(axis=0))
        y = y if motion is None else moved_by(layout, y, motion)
    wanted = _places(layout, x)
    if x[0].size < _PLACES * layout.channels:
        y = _with_moments(profile, y, wanted)
    else:
        has_many = len(wanted) >= _ROWS_A_CHANNEL * layout.channels
        slices = _SLICES if layout.channels > 1 and has_many else 1
        y = _inputs(layout, _transported(_places(layout, y), wanted, slices, rng), y.shape)
        y = _as_rough(layout, y, layout.roughness(x).mean(axis=0), rng)
        y = _inputs(layout, _transported(_places(layout, y), wanted, 1, rng), y.shape)
    return np.asarray(np.clip(y, profile.range[0], profile.range[1]), np.float32)


def _places(layout: Layout, x: Floats) -> Floats:
    """Return what all channels show, at every position of every input: (places, channels)."""
    by = layout.by_channel(x)
    return by.reshape(-1, by.shape[2])


def _inputs(layout: Layout, places: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the inputs of which these are the places."""
    if layout.channel is None:
        return places.reshape(shape)
    rest = [n for axis, n in enumerate(shape) if axis != layout.channel + 1]
    return np.moveaxis(places.reshape(*rest, shape[layout.channel + 1]), -1, layout.channel + 1)


def _with_moments(profile: Profile, y: Floats, wanted: Floats) -> Floats:
    """Give each channel a mean and a spread."""
    was_mean, was_spread = profile.moments[:, 0], profile.moments[:, 1]
    floor = 0.05 * was_spread.mean() + _TINY
    gain = np.clip(wanted.std(axis=0) / (was_spread + floor), 0.2, 5)
    moved = (_places(profile.layout, y) - was_mean) * gain + wanted.mean(axis=0)
    return _inputs(profile.layout, moved, y.shape)


def _transported(places: Floats, wanted: Floats, slices: int, rng: np.random.Generator) -> Floats:
    """Map places so that they are distributed as the wanted ones, seen along `slices` rotations.

    The last is that of the channels themselves, each of which has its wanted distribution then.
    """
    channels = places.shape[1]
    scale = wanted.std(axis=0)
    scale = scale + 0.05 * scale.mean() + _TINY
    mapped = (places / scale).astype(np.float32)
    target = (_few(wanted, rng) / scale).astype(np.float32)
    for left in reversed(range(slices)):
        axes = np.eye(channels, dtype=np.float32)
        if left:
            axes = np.linalg.qr(rng.standard_normal((channels, channels)))[0].astype(np.float32)
        mapped = _as_distributed(mapped @ axes, target @ axes, rng) @ axes.T
    return np.asarray(mapped * scale, np.float32)


def _as_distributed(values: Floats, wanted: Floats, rng: np.random.Generator) -> Floats:
    """Map each column by the monotone map of its quantiles to the wanted ones."""
    was, now = _quantiles(_few(values, rng)), _quantiles(wanted)
    steps = np.arange(len(was))[:, None] * (1e-6 * np.abs(was).max(axis=0) + 1e-9)
    was = was + steps  # ties have no order
    columns = [np.interp(values[:, n], was[:, n], now[:, n]) for n in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def _quantiles(values: Floats) -> npt.NDArray[np.float64]:
    """Return evenly spaced quantiles of each column, its least and greatest value among them."""
    at = np.linspace(0, len(values) - 1, _KNOTS)
    low = at.astype(np.intp)
    ordered = np.sort(values, axis=0).astype(np.float64)
    above = ordered[np.minimum(low + 1, len(values) - 1)]
    return np.asarray(ordered[low] + (at - low)[:, None] * (above - ordered[low]), np.float64)


def _few(rows: Floats, rng: np.random.Generator) -> Floats:
    return rows if len(rows) <= _MOST_ROWS else rows[rng.integers(len(rows), size=_MOST_ROWS)]


def _as_rough(layout: Layout, y: Floats, wanted: Floats, rng: np.random.Generator) -> Floats:
    """Smooth inputs, or add white noise, until neighbours differ as much as wanted."""
    if not layout.smooth:
        return y
    shape = [1] * y.ndim
    if layout.channel is not None:
        shape[layout.channel + 1] = -1
    for _ in range(4):
        rough = layout.roughness(y).mean(axis=0)
        if (rough <= 1.05 * wanted).all():
            break
        less = smoothed(layout, y)
        lost = rough - layout.roughness(less).mean(axis=0)
        part = np.clip((rough - wanted) / (lost + _TINY), 0, 1).reshape(shape)
        y = y + part * (less - y)
    for _ in range(4):
        rough = layout.roughness(y).mean(axis=0)
        if (rough >= 0.97 * wanted).all():
            break
        size = np.sqrt(np.maximum(np.square(wanted) - np.square(rough), 0)) / _WHITE
        y = y + size.reshape(shape) * rng.standard_normal(y.shape, np.float32)
    return y
