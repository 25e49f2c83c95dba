"""Sensor faults as textbooks draw them: exact, and there from one sample to the next."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Change, Scenario, Setting
from selfheal_edge.redteam.scenarios.wires import channel_axis, line, lively_channels

__all__ = ["SENSOR_TEXTBOOK"]

_FAMILY: Final = "sensor, textbook"


def _stuck(real: Real, _: Setting) -> Real:
    return np.repeat(real[:1], len(real), axis=0)


def _flat(real: Real, setting: Setting) -> Real:
    return np.array(np.broadcast_to(setting.domain.low, real.shape))


def _saturated(real: Real, setting: Setting) -> Real:
    domain = setting.domain
    pivot = domain.low if domain.kind == "image" else domain.centre
    return domain.inside(pivot + (real - pivot) * setting.column(real))


def _clipped(real: Real, setting: Setting) -> Real:
    domain = setting.domain
    ceiling = domain.high - setting.column(real) * (domain.high - domain.low)
    return np.minimum(real, ceiling)


def _dropped(real: Real, setting: Setting) -> Real:
    lost = setting.rng.random(real.shape) < setting.column(real)
    return np.where(lost, np.broadcast_to(setting.domain.low, real.shape), real)


def _dead_channel(real: Real, setting: Setting) -> Real:
    axis = channel_axis(setting.domain)
    (channel,) = lively_channels(real, setting, 1)
    changed = np.array(real)
    low = np.broadcast_to(setting.domain.low, real.shape)
    at = line(real, axis, channel)
    changed[at] = low[at]
    return changed


def _offset_channel(real: Real, setting: Setting) -> Real:
    axis = channel_axis(setting.domain)
    (channel,) = lively_channels(real, setting, 1)
    changed = np.array(real)
    at = line(real, axis, channel)
    changed[at] += (np.broadcast_to(setting.domain.unit, real.shape) * setting.column(real))[at]
    return changed


def _swapped(real: Real, setting: Setting) -> Real:
    axis = channel_axis(setting.domain)
    a, b = lively_channels(real, setting, 2)
    changed = np.array(real)
    changed[line(real, axis, a)] = real[line(real, axis, b)]
    changed[line(real, axis, b)] = real[line(real, axis, a)]
    return changed


def _noisy(real: Real, setting: Setting) -> Real:
    domain = setting.domain
    noise = domain.unit * setting.column(real) * setting.rng.normal(size=real.shape)
    return domain.inside(real + noise) if domain.kind == "image" else real + noise


def _gain(real: Real, setting: Setting) -> Real:
    """Multiply by a factor, at random the strength or its inverse."""
    domain = setting.domain
    factor = setting.column(real) ** setting.rng.choice((-1.0, 1.0))
    pivot = domain.low if domain.kind == "image" else domain.centre
    changed = pivot + (real - pivot) * factor
    return domain.inside(changed) if domain.kind == "image" else changed


def _offset(real: Real, setting: Setting) -> Real:
    domain = setting.domain
    side = 1.0 if domain.kind == "image" else setting.rng.choice((-1.0, 1.0))
    changed = real + side * domain.unit * setting.column(real)
    return domain.inside(changed) if domain.kind == "image" else changed


def _scenario(
    kind: str,
    change: Change,
    strengths: tuple[float, float] = (1.0, 1.0),
    *,
    name: str | None = None,
    either: bool = False,
) -> Scenario:
    also = (Cause.COVARIATE_DRIFT,) if either else ()
    return Scenario(
        f"sensor, {name or kind}", Cause.SENSOR_FAULT, kind, _FAMILY, "tuning", change,
        strengths, also=also,
    )  # fmt: skip


SENSOR_TEXTBOOK: Final = (
    _scenario("stuck", _stuck),
    _scenario("flat", _flat),
    _scenario("saturated", _saturated, (3.0, 8.0)),
    _scenario("clipped", _clipped, (0.3, 0.6)),
    _scenario("dropped", _dropped, (0.2, 0.5)),
    _scenario("one channel", _dead_channel, name="dead channel"),
    _scenario("one channel", _offset_channel, (0.3, 0.8), name="channel with an offset"),
    _scenario("swapped", _swapped),
    _scenario("noisy", _noisy, (0.25, 0.6), either=True),
    _scenario("gain", _gain, (1.5, 2.5), either=True),
    _scenario("offset", _offset, (0.2, 0.5), either=True),
)
"""A gain, an offset and noise that come at once are sudden light and haze as well."""
