"""Covariate drift as everyday physics makes it: by the level, and by what other channels show."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import InputKind, Real
from selfheal_edge.redteam.scenarios.filters import smooth_field
from selfheal_edge.redteam.scenarios.scenario import Change, Pace, Scenario, Setting

__all__ = ["DRIFT_EVERYDAY"]


def _drowned(real: Real, setting: Setting) -> Real:
    """Let background sound drown the quiet frames and leave the loud ones, as added power does.

    `amount` is the share of frames of an average clip that it drowns.
    """
    domain, rng = setting.domain, setting.rng
    source = setting.source(real)
    # Loudness is what frames differ in most.
    frames = ((source - domain.centre) / domain.unit).reshape(-1, real.shape[2])
    _, _, rows = np.linalg.svd(frames[:: max(1, len(frames) // 2000)], full_matrices=False)
    way = rows[0] * (np.sign(rows[0].sum()) or 1.0)
    loud = ((real - domain.centre) / domain.unit) @ way
    levels = np.quantile(frames @ way, np.clip(setting.amount, 0.0, 0.98))
    part = 1 / (1 + np.exp((loud - levels[:, None]) / (0.2 * np.std(frames @ way))))
    colour = domain.centre + 0.3 * domain.unit * rng.normal(size=real.shape[2])
    noise = colour + 0.08 * domain.unit * rng.normal(size=real.shape)
    return np.asarray((1 - part[..., None]) * real + part[..., None] * noise)


def _common_mode(real: Real, setting: Setting) -> Real:
    """Let all features sway together from sample to sample, each by its own share."""
    domain, rng = setting.domain, setting.rng
    loading = rng.normal(size=real.shape[1:])
    sway = rng.normal(size=(len(real), *([1] * (real.ndim - 1))))
    return np.asarray(real + setting.column(real) * sway * loading * domain.unit)


def _own_noise(real: Real, setting: Setting) -> Real:
    """Give each feature noise of a size of its own."""
    domain, rng = setting.domain, setting.rng
    size = np.exp(0.8 * rng.normal(size=real.shape[1:]))
    return np.asarray(
        real + setting.column(real) * size * domain.unit * rng.normal(size=real.shape)
    )


def _soft_ceiling(real: Real, setting: Setting) -> Real:
    """Let the response flatten towards its end, for all alike."""
    domain = setting.domain
    span = domain.high - domain.low
    at = np.clip((real - domain.low) / np.where(span > 0, span, 1.0), 0.0, 1.0)
    bent = at ** (1 / (1 + setting.column(real)))
    return np.asarray(np.where(span > 0, domain.low + bent * span, real))


def _vignette(real: Real, setting: Setting) -> Real:
    """Darken a smooth pattern of places by a factor."""
    domain = setting.domain
    field = smooth_field(setting.rng, real.shape[1:3], 4)[None, ..., None]
    part = 1 - np.minimum(setting.column(real), 0.95) * field
    return np.asarray(domain.low + (real - domain.low) * part)


def _backlight(real: Real, setting: Setting) -> Real:
    """Add a glow that falls off along a direction."""
    domain, rng = setting.domain, setting.rng
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in real.shape[1:3]), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    glow = np.clip(0.5 + 0.5 * (np.cos(angle) * rows + np.sin(angle) * columns), 0, 1)
    return domain.inside(real + setting.column(real) * glow[None, ..., None] * domain.unit)


def _shaken(real: Real, setting: Setting) -> Real:
    """Smear each image along its rows, as a camera that moves does."""
    before = real
    for step in (1, 2):
        part = np.clip(setting.column(real) - step + 1, 0.0, 1.0) * 0.5
        before = (1 - part) * before + part * np.roll(before, 1, axis=2)
    return np.asarray(before)


def _scenarios(
    kind: str, change: Change, strengths: tuple[float, float], kinds: tuple[InputKind, ...]
) -> list[Scenario]:
    return [
        Scenario(
            f"everyday, {kind}, {pace}", Cause.COVARIATE_DRIFT, kind, "drift, everyday", "tuning",
            change, strengths, kinds, pace,
        )
        for pace in get_args(Pace)
    ]  # fmt: skip


DRIFT_EVERYDAY: Final = (
    *_scenarios("drowned", _drowned, (0.3, 0.95), ("spectrogram",)),
    *_scenarios("common mode", _common_mode, (0.1, 0.4), ("spectrogram", "vector")),
    *_scenarios("own noise", _own_noise, (0.05, 0.25), ("spectrogram", "vector")),
    *_scenarios("soft ceiling", _soft_ceiling, (0.3, 1.0), ("spectrogram", "vector", "image")),
    *_scenarios("vignette", _vignette, (0.4, 0.9), ("image",)),
    *_scenarios("backlight", _backlight, (0.2, 0.5), ("image",)),
    *_scenarios("shaken", _shaken, (0.8, 2.0), ("image",)),
)
"""Each suddenly, gradually and recurring."""
