"""Healthy streams, faults, drifts and mixes of classes that no rule was mended after."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import InputKind, Real
from selfheal_edge.redteam.scenarios.filters import resampled
from selfheal_edge.redteam.scenarios.label_draws import class_shares, drawn
from selfheal_edge.redteam.scenarios.scenario import Change, Pace, Scenario, Setting
from selfheal_edge.redteam.scenarios.wires import channel_axis, line, lively_channels

__all__ = ["HELD_OUT_BENIGN"]


def _sparse_noise(real: Real, setting: Setting) -> Real:
    """Let a tenth of each sample's elements be read with a little noise: hardly a change."""
    noise = 0.01 * setting.domain.unit * setting.rng.normal(size=real.shape)
    return np.where(setting.rng.random(real.shape) < 0.1, setting.domain.inside(real + noise), real)


# ---- Drift of spectrograms


def _voices(real: Real, setting: Setting) -> Real:
    """Let another clip sound behind each: the louder of the two is heard, softly."""
    source, domain = setting.source(real), setting.domain
    other = source[setting.rng.integers(len(source), size=len(real))]
    part = 0.5 * np.minimum(setting.column(real), 1.0)
    louder = np.maximum(real, other)
    return domain.inside((1 - part) * real + part * louder)


def _repeated_frames(real: Real, setting: Setting) -> Real:
    """Let frames that got lost on the way be filled with the one before."""
    lost = setting.rng.random(real.shape[:2]) < np.minimum(setting.amount, 0.95)[:, None]
    changed = np.array(real)
    for t in range(1, real.shape[1]):
        changed[:, t] = np.where(lost[:, t, None], changed[:, t - 1], real[:, t])
    return changed


def _levelled(real: Real, setting: Setting) -> Real:
    """Let an automatic gain draw each sample's level to the middle, and its swings together."""
    part = np.minimum(setting.column(real), 0.9)
    mean = real.mean((1, 2), keepdims=True)
    return np.asarray(
        real + part * (setting.domain.centre.mean() - mean) - 0.5 * part * (real - mean)
    )


def _band_limit(real: Real, setting: Setting) -> Real:
    """Let the upper half of the bands fade into their means."""
    centre = setting.domain.centre
    ramp = np.clip(np.linspace(-1.0, 1.0, real.shape[2]), 0, 1)
    part = np.minimum(setting.column(real), 0.95) * ramp
    return np.asarray(real + part * (centre - real))


# ---- Drift of sensor vectors


def _hysteresis(real: Real, setting: Setting) -> Real:
    """Let each sample keep a part of the one before it."""
    part = np.minimum(setting.column(real), 0.9)
    return np.asarray((1 - part) * real + part * np.concatenate([real[:1], real[:-1]]))


def _humidity(real: Real, setting: Setting) -> Real:
    """Scale all features about the low end together, by another factor for each sample."""
    shape = (len(real), *([1] * (real.ndim - 1)))
    factor = np.exp(setting.column(real) * setting.rng.normal(size=shape))
    return np.asarray(setting.domain.low + (real - setting.domain.low) * factor)


def _zero_in_groups(real: Real, setting: Setting) -> Real:
    """Move the zero of groups of eight neighbouring features, each group by its own step."""
    groups = -(-real.shape[1] // 8)
    steps = np.repeat(setting.rng.normal(size=groups), 8)[: real.shape[1]]
    return np.asarray(real + setting.column(real) * steps * setting.domain.unit)


def _slow_swing(real: Real, setting: Setting) -> Real:
    """Let all features follow a slow wave, each by its own share."""
    wave = np.sin(2 * np.pi * np.arange(len(real)) / 100).reshape(-1, 1)
    loading = setting.rng.normal(size=real.shape[1:])
    return np.asarray(real + setting.column(real) * (1 + wave) / 2 * loading * setting.domain.unit)


# ---- Drift of images


def _tone(real: Real, setting: Setting) -> Real:
    """Bend the tone curve: middle values darker, ends as they were."""
    domain = setting.domain
    span = domain.high - domain.low
    at = np.clip((real - domain.low) / span, 0.0, 1.0)
    return np.asarray(domain.low + span * at ** (1 + setting.column(real)))


def _zoomed(real: Real, setting: Setting) -> Real:
    """Look from farther away."""
    height, width = real.shape[1:3]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    factor = (1 + setting.amount)[:, None, None]
    middle_r, middle_c = (height - 1) / 2, (width - 1) / 2
    return resampled(
        real, middle_r + factor * (rows - middle_r), middle_c + factor * (columns - middle_c),
        setting.domain.low,
    )  # fmt: skip


def _few_levels(real: Real, setting: Setting) -> Real:
    """Leave few levels of grey, rounded with a dither."""
    domain = setting.domain
    step = np.maximum(setting.column(real), 0.01) * (domain.high - domain.low)
    dither = setting.rng.uniform(-0.5, 0.5, real.shape)
    return domain.inside(domain.low + step * np.rint((real - domain.low) / step + dither))


# ---- Faults


def _bounces(real: Real, setting: Setting) -> Real:
    """Let a contact of one channel open for some samples in a row, and read the floor then."""
    (channel,) = lively_channels(real, setting, 1)
    at = line(real, channel_axis(setting.domain), channel)
    low = np.broadcast_to(setting.domain.low, real.shape)
    changed = np.array(real)
    opened = np.repeat(setting.rng.random(-(-len(real) // 4)) < 0.7, 4)[: len(real)]
    part = changed[at]
    part[opened] = low[at][opened]
    changed[at] = part
    return changed


def _stuck_bit(real: Real, setting: Setting) -> Real:
    """Let the converter's second highest bit always read one, for all elements."""
    domain = setting.domain
    span = np.where(domain.high > domain.low, domain.high - domain.low, 1.0)
    level = np.clip((real - domain.low) / span * 256, 0, 255).astype(int)
    return np.asarray(domain.low + (level | 64) / 256 * span)


def _frozen(real: Real, setting: Setting) -> Real:
    """Show a mean of a few frames for ever, with a little noise."""
    domain = setting.domain
    noise = 0.005 * domain.unit * setting.rng.normal(size=real.shape)
    return domain.inside(real[:3].mean(0, keepdims=True) + noise)


def _too_loud(real: Real, setting: Setting) -> Real:
    """Multiply until values stand at both ends."""
    domain = setting.domain
    middle = (domain.low + domain.high) / 2
    return domain.inside(middle + (real - middle) * setting.column(real))


# ---- Labels


def _two_classes(real: Real, setting: Setting) -> Real:
    """Let two classes make up `strength` of the stream, the others share the rest."""
    assert setting.labels is not None
    classes, shares = class_shares(setting.labels)
    chosen = setting.rng.permutation(len(classes))[: min(2, len(classes) - 1)]
    now = shares.copy()
    now[chosen] = 0.0
    now *= (1 - setting.strength) / max(now.sum(), 1e-12)
    now[chosen] = setting.strength / len(chosen)
    return drawn(setting.rng.choice(classes, len(real), p=now / now.sum()), setting)


def _drifts(
    kind: str,
    change: Change,
    strengths: tuple[float, float],
    kinds: tuple[InputKind, ...],
    *,
    light: bool = False,
) -> list[Scenario]:
    return [
        Scenario(
            f"held out, {kind}, {pace}", Cause.COVARIATE_DRIFT, kind, "drift, held out",
            "held_out", change, strengths, kinds, pace,
            (Cause.SENSOR_FAULT,) if light and pace != "gradual" else (),
        )
        for pace in get_args(Pace)
    ]  # fmt: skip


def _fault(
    name: str, kind: str, change: Change, strengths: tuple[float, float] = (1.0, 1.0)
) -> Scenario:
    return Scenario(
        f"held out, {name}", Cause.SENSOR_FAULT, kind, "sensor, held out", "held_out", change,
        strengths,
    )  # fmt: skip


HELD_OUT_BENIGN: Final = (
    Scenario(
        "held out, healthy", None, "unchanged", "healthy, held out", "held_out", _sparse_noise
    ),
    *_drifts("voices", _voices, (0.4, 1.0), ("spectrogram",)),
    *_drifts("repeated frames", _repeated_frames, (0.2, 0.6), ("spectrogram",)),
    *_drifts("levelled", _levelled, (0.3, 0.8), ("spectrogram",), light=True),
    *_drifts("band limit", _band_limit, (0.4, 0.9), ("spectrogram",)),
    *_drifts("hysteresis", _hysteresis, (0.2, 0.5), ("vector",)),
    *_drifts("humidity", _humidity, (0.1, 0.3), ("vector",)),
    *_drifts("zero in groups", _zero_in_groups, (0.12, 0.35), ("vector",)),
    *_drifts("slow swing", _slow_swing, (0.2, 0.5), ("vector",)),
    *_drifts("tone", _tone, (0.5, 1.5), ("image",), light=True),
    *_drifts("zoomed", _zoomed, (0.2, 0.5), ("image",)),
    *_drifts("few levels", _few_levels, (0.3, 0.6), ("image",)),
    _fault("bounces", "one channel", _bounces),
    _fault("stuck bit", "saturated", _stuck_bit),
    _fault("frozen", "stuck", _frozen),
    _fault("too loud", "saturated", _too_loud, (3.0, 6.0)),
    Scenario(
        "held out, two classes", Cause.LABEL_SHIFT, "two classes", "labels, held out", "held_out",
        _two_classes, (0.6, 0.9), needs_labels=True,
    ),
)  # fmt: skip
"""Of other families than those for tuning and those that measured before."""
