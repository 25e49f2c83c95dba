"""Sensor faults as worn devices show them: with noise, knees, held values and loose wires."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Change, Scenario, Setting
from selfheal_edge.redteam.scenarios.wires import channel_axis, line, lively_channels

__all__ = ["SENSOR_WORN"]

_FAMILY: Final = "sensor, worn"
_HELD: Final = 16
"""Samples for which a grabber that stutters shows the same frame."""


def _stutters(real: Real, _: Setting) -> Real:
    """Hold each frame for a while: the driver hands out an old buffer."""
    first = np.arange(len(real)) // _HELD * _HELD
    return real[first]


def _stuck_with_noise(real: Real, setting: Setting) -> Real:
    domain = setting.domain
    noise = 0.01 * domain.unit * setting.rng.normal(size=real.shape)
    return domain.inside(np.repeat(real[:1], len(real), axis=0) + noise)


def _flat_with_noise(real: Real, setting: Setting) -> Real:
    """Show a constant somewhere in the range, with the amplifier's own noise."""
    domain = setting.domain
    level = domain.low + setting.rng.uniform(0.2, 0.8) * (domain.high - domain.low)
    return level + 0.01 * domain.unit * setting.rng.normal(size=real.shape)


def _at_the_rail(real: Real, setting: Setting) -> Real:
    """Push values up by a bias until many of them stand at the rail."""
    domain = setting.domain
    # Most of an image may be dark; elsewhere the middle of the range is what is usual.
    way = 1.0 if domain.kind == "image" else 0.5
    bias = way * setting.column(real) * (domain.high - domain.low)
    return np.minimum(real + bias, domain.high)


def _knee(real: Real, setting: Setting) -> Real:
    """Compress values above a knee, and let none above a ceiling close to it."""
    domain = setting.domain
    span = domain.high - domain.low
    knee = domain.high - setting.column(real) * span
    above = np.maximum(real - knee, 0.0)
    room = 0.05 * span + 1e-6 * domain.unit  # blank features have no range
    return np.minimum(real, knee) + np.minimum(room * np.tanh(above / (2 * room)), 0.7 * room)


def _block_lost(real: Real, setting: Setting) -> Real:
    """Lose a part of each sample's lines: a packet that never came reads as the floor."""
    changed = np.array(real)
    count = real.shape[1]
    low = np.broadcast_to(setting.domain.low, real.shape)
    lengths = np.maximum(1, np.rint(setting.amount * count).astype(int))
    for n, length in enumerate(lengths):
        start = int(setting.rng.integers(max(1, count - length + 1)))
        changed[n, start : start + length] = low[n, start : start + length]
    return changed


def _loose_wire(real: Real, setting: Setting) -> Real:
    """Let one channel pick up noise in place of its signal."""
    (channel,) = lively_channels(real, setting, 1)
    domain = setting.domain
    at = line(real, channel_axis(domain), channel)
    low, high = (np.broadcast_to(v, real.shape)[at] for v in (domain.low, domain.high))
    changed = np.array(real)
    changed[at] = low + setting.rng.random(low.shape) * (high - low)
    return changed


def _held_channel(real: Real, setting: Setting) -> Real:
    """Hold one channel at a constant inside its range."""
    (channel,) = lively_channels(real, setting, 1)
    domain = setting.domain
    at = line(real, channel_axis(domain), channel)
    low, high = (np.broadcast_to(v, real.shape)[at] for v in (domain.low, domain.high))
    changed = np.array(real)
    changed[at] = low + setting.rng.uniform(0.3, 1.0) * (high - low)
    return changed


def _plugged_wrongly(real: Real, setting: Setting) -> Real:
    """Let three channels change places in a ring, as a plug that was put back in a hurry."""
    axis = channel_axis(setting.domain)
    count = min(3, real.shape[axis])
    channels = lively_channels(real, setting, count)
    changed = np.array(real)
    for here, there in zip(channels, channels[1:] + channels[:1], strict=True):
        changed[line(real, axis, here)] = real[line(real, axis, there)]
    return changed


def _banding(real: Real, setting: Setting) -> Real:
    """Add stripes of a frequency and phase of their own to each sample, and white noise."""
    domain, rng = setting.domain, setting.rng
    axis = 1
    places = np.arange(real.shape[axis]).reshape(-1, *([1] * (real.ndim - 1 - axis)))
    shape = (len(real), *([1] * (real.ndim - 1)))
    stripes = np.sin(
        2 * np.pi * (rng.uniform(0.15, 0.5, shape) * places + rng.random(shape))
    ) * np.sqrt(2)
    noise = 0.5 * rng.normal(size=real.shape)
    changed = real + setting.column(real) * domain.unit * (stripes + noise)
    return domain.inside(changed) if domain.kind == "image" else changed


def _reference_moved(real: Real, setting: Setting) -> Real:
    """Let the converter's reference be wrong by a factor, as its gain and a little offset."""
    domain = setting.domain
    factor = setting.column(real) ** setting.rng.choice((-1.0, 1.0))
    pivot = domain.low if domain.kind == "image" else domain.centre
    changed = pivot + (real - pivot) * factor + 0.05 * domain.unit
    return domain.inside(changed) if domain.kind == "image" else changed


def _ground_lifted(real: Real, setting: Setting) -> Real:
    """Add an offset that trembles from sample to sample."""
    domain = setting.domain
    shape = (len(real), *([1] * (real.ndim - 1)))
    offset = setting.column(real) * (1.0 + 0.1 * setting.rng.normal(size=shape))
    side = 1.0 if domain.kind == "image" else setting.rng.choice((-1.0, 1.0))
    changed = real + side * domain.unit * offset
    return domain.inside(changed) if domain.kind == "image" else changed


def _scenario(
    name: str,
    kind: str,
    change: Change,
    strengths: tuple[float, float] = (1.0, 1.0),
    *,
    either: bool = False,
) -> Scenario:
    also = (Cause.COVARIATE_DRIFT,) if either else ()
    return Scenario(
        f"worn sensor, {name}", Cause.SENSOR_FAULT, kind, _FAMILY, "measured", change, strengths,
        also=also,
    )  # fmt: skip


SENSOR_WORN: Final = (
    _scenario("stutters", "stuck", _stutters),
    _scenario("stuck with noise", "stuck", _stuck_with_noise),
    _scenario("flat with noise", "flat", _flat_with_noise),
    _scenario("at the rail", "saturated", _at_the_rail, (0.5, 0.9)),
    _scenario("knee", "clipped", _knee, (0.35, 0.6)),
    _scenario("blocks lost", "dropped", _block_lost, (0.25, 0.5)),
    _scenario("loose wire", "one channel", _loose_wire),
    _scenario("held channel", "one channel", _held_channel),
    _scenario("plugged wrongly", "swapped", _plugged_wrongly),
    _scenario("banding", "noisy", _banding, (0.15, 0.4), either=True),
    _scenario("reference moved", "gain", _reference_moved, (1.5, 2.5), either=True),
    _scenario("ground lifted", "offset", _ground_lifted, (0.2, 0.5), either=True),
)
"""The same kinds as textbooks have, from other generators."""
