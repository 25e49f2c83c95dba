"""Covariate drift of spectrograms: rooms, noise, and what stands before the microphone."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Change, Pace, Scenario, Setting

__all__ = ["DRIFT_ACOUSTICS"]


def _tilt(real: Real, setting: Setting) -> Real:
    """Raise one end of the bands and lower the other: something covers the microphone."""
    slope = np.linspace(-1.0, 1.0, real.shape[2]) * setting.rng.choice((-1.0, 1.0))
    return np.asarray(real + setting.column(real) * slope * setting.domain.unit)


def _noise_floor(real: Real, setting: Setting) -> Real:
    """Let a floor come up from below: soft maximum of the signal and a trembling level."""
    domain = setting.domain
    room = domain.centre - domain.low
    level = domain.low + np.minimum(setting.column(real), 1.0) * room
    floor = level + 0.06 * domain.unit * setting.rng.normal(size=real.shape)
    width = 0.1 * domain.unit
    return np.asarray(width * np.logaddexp(real / width, floor / width))


def _reverberation(real: Real, setting: Setting) -> Real:
    """Let each frame ring on in those behind it; `amount` is what is left one frame later."""
    keep = np.minimum(setting.amount, 0.95)[:, None]
    changed = np.array(real)
    for t in range(1, real.shape[1]):
        changed[:, t] = (1 - keep) * real[:, t] + keep * changed[:, t - 1]
    return changed


def _level(real: Real, setting: Setting) -> Real:
    """Move all bands alike: a speaker nearer or farther, as logarithms have it."""
    side = setting.rng.choice((-1.0, 1.0))
    return np.asarray(real + side * setting.column(real) * setting.domain.unit)


def _tempo(real: Real, setting: Setting) -> Real:
    """Stretch or squeeze time about the middle by a share."""
    frames = real.shape[1]
    side = setting.rng.choice((-1.0, 1.0))
    middle = (frames - 1) / 2
    factor = np.exp(side * setting.amount)[:, None]
    at = np.clip(middle + factor * (np.arange(frames) - middle), 0, frames - 1)
    before = np.minimum(at.astype(int), frames - 2) if frames > 1 else np.zeros_like(at, int)
    part = (at - before)[..., None]
    n = np.arange(len(real))[:, None]
    after = np.minimum(before + 1, frames - 1)
    return np.asarray((1 - part) * real[n, before] + part * real[n, after])


def _scenarios(
    kind: str, change: Change, strengths: tuple[float, float], *, light: bool = False
) -> list[Scenario]:
    return [
        Scenario(
            f"acoustics, {kind}, {pace}", Cause.COVARIATE_DRIFT, kind, "drift, acoustics",
            "measured", change, strengths, ("spectrogram",), pace,
            (Cause.SENSOR_FAULT,) if light and pace != "gradual" else (),
        )
        for pace in get_args(Pace)
    ]  # fmt: skip


DRIFT_ACOUSTICS: Final = (
    *_scenarios("tilt", _tilt, (0.2, 0.5)),
    *_scenarios("noise floor", _noise_floor, (0.4, 0.9)),
    *_scenarios("reverberation", _reverberation, (0.4, 0.8)),
    *_scenarios("level", _level, (0.2, 0.5), light=True),
    *_scenarios("tempo", _tempo, (0.15, 0.35)),
)
"""A level that changes at once is a gain of the microphone as well: either is right there."""
