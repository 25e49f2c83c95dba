"""Covariate drift of the plainest kind: noise, and fine structure that fades."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.filters import blurred
from selfheal_edge.redteam.scenarios.scenario import Change, Pace, Scenario, Setting

__all__ = ["DRIFT_PLAIN"]


def _noise(real: Real, setting: Setting) -> Real:
    domain = setting.domain
    changed = real + setting.column(real) * domain.unit * setting.rng.normal(size=real.shape)
    return domain.inside(changed) if domain.kind == "image" else changed


def _blur(real: Real, setting: Setting) -> Real:
    """Blur images, smear spectrograms in time, and draw features towards their means."""
    if setting.domain.kind == "image":
        return blurred(real, setting.amount, (1, 2))
    if setting.domain.kind == "spectrogram":
        return blurred(real, 2.0 * setting.amount, (1,))
    part = np.minimum(0.2 * setting.column(real), 0.9)
    return np.asarray(real + part * (setting.domain.centre - real))


def _scenarios(kind: str, change: Change, strengths: tuple[float, float]) -> list[Scenario]:
    return [
        Scenario(
            f"drift, {kind}, {pace}", Cause.COVARIATE_DRIFT, kind, "drift, plain", "tuning",
            change, strengths, pace=pace,
        )
        for pace in get_args(Pace)
    ]  # fmt: skip


DRIFT_PLAIN: Final = (
    *_scenarios("noise", _noise, (0.1, 0.3)),
    *_scenarios("blur", _blur, (0.7, 2.5)),
)
"""Each suddenly, gradually and recurring."""
