"""Covariate drift of images: weather, light, and a camera that has moved."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.filters import resampled, smooth_field
from selfheal_edge.redteam.scenarios.scenario import Change, Pace, Scenario, Setting

__all__ = ["DRIFT_WEATHER"]


def _fog(real: Real, setting: Setting) -> Real:
    """Mix in a bright veil that is thicker in places."""
    domain = setting.domain
    height, width = real.shape[1:3]
    veil = 0.7 + 0.3 * smooth_field(setting.rng, (height, width))[..., None]
    part = np.minimum(setting.column(real) * veil, 0.95)
    bright = domain.low + 0.75 * (domain.high - domain.low)
    return np.asarray((1 - part) * real + part * bright)


def _contrast(real: Real, setting: Setting) -> Real:
    mean = real.mean((1, 2, 3), keepdims=True)
    return np.asarray(mean + (real - mean) * (1 - np.minimum(setting.column(real), 0.95)))


def _brightness(real: Real, setting: Setting) -> Real:
    """Add light, or take it away where the scene is bright."""
    domain = setting.domain
    is_dark = float(np.mean(setting.source(real))) < float((domain.low + domain.high) / 2)
    side = 1.0 if is_dark else -1.0
    return domain.inside(real + side * setting.column(real) * domain.unit)


def _grid(real: Real) -> tuple[Real, Real]:
    height, width = real.shape[1:3]
    rows, columns = np.meshgrid(
        np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64), indexing="ij"
    )
    return rows[None], columns[None]


def _rotation(real: Real, setting: Setting) -> Real:
    """Turn by `amount` radians."""
    rows, columns = _grid(real)
    r, c = rows - rows.mean(), columns - columns.mean()
    angle = setting.rng.choice((-1.0, 1.0)) * setting.amount[:, None, None]
    sine, cosine = np.sin(angle), np.cos(angle)
    return resampled(
        real, rows.mean() + cosine * r - sine * c, columns.mean() + sine * r + cosine * c,
        setting.domain.low,
    )  # fmt: skip


def _shift(real: Real, setting: Setting) -> Real:
    """Move by a share of the width, in one direction for all."""
    rows, columns = _grid(real)
    angle = setting.rng.uniform(0, 2 * np.pi)
    step = setting.amount[:, None, None]
    down, right = step * real.shape[1] * np.sin(angle), step * real.shape[2] * np.cos(angle)
    return resampled(real, rows - down, columns - right, setting.domain.low)


def _precipitation(real: Real, setting: Setting) -> Real:
    """Let streaks fall, other ones in each image; `amount` is the share that they cover."""
    domain, rng = setting.domain, setting.rng
    height, width = real.shape[1:3]
    falls = rng.random((len(real), height, width, 1)) < setting.column(real) / 2
    falls[:, 1:] |= falls[:, :-1].copy()
    bright = domain.low + 0.8 * (domain.high - domain.low)
    return np.where(falls, 0.4 * real + 0.6 * bright, real)


def _salt_and_pepper(real: Real, setting: Setting) -> Real:
    """Let random pixels of each image be white or black."""
    draw = setting.rng.random(real.shape[:3])[..., None]
    amount = setting.column(real)
    changed = np.where(draw < amount / 2, setting.domain.low, real)
    return np.where(draw > 1 - amount / 2, setting.domain.high, changed)


def _dirt(real: Real, setting: Setting) -> Real:
    """Let a smooth pattern of dirt darken the same places of every image."""
    domain = setting.domain
    height, width = real.shape[1:3]
    field = smooth_field(setting.rng, (height, width))[..., None]
    cover = setting.column(real) * np.clip(3.0 * field - 1.0, 0.0, 1.0)
    middle = domain.low + 0.5 * (domain.high - domain.low)
    return np.asarray((1 - cover) * real + cover * middle)


def _scenarios(
    kind: str, change: Change, strengths: tuple[float, float], *, light: bool = False
) -> list[Scenario]:
    return [
        Scenario(
            f"weather, {kind}, {pace}", Cause.COVARIATE_DRIFT, kind, "drift, weather", "measured",
            change, strengths, ("image",), pace,
            (Cause.SENSOR_FAULT,) if light and pace != "gradual" else (),
        )
        for pace in get_args(Pace)
    ]  # fmt: skip


DRIFT_WEATHER: Final = (
    *_scenarios("fog", _fog, (0.3, 0.6), light=True),
    *_scenarios("contrast", _contrast, (0.3, 0.6), light=True),
    *_scenarios("brightness", _brightness, (0.15, 0.4), light=True),
    *_scenarios("rotation", _rotation, (0.2, 0.5)),
    *_scenarios("shift", _shift, (0.1, 0.2)),
    *_scenarios("precipitation", _precipitation, (0.15, 0.4)),
    *_scenarios("salt and pepper", _salt_and_pepper, (0.05, 0.2)),
    *_scenarios("dirt", _dirt, (0.4, 0.8)),
)
"""What sudden light does, a gain or an offset of the sensor does as well: either is right there."""
