"""Covariate drift of sensor vectors: elements that age, together or each by itself."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Change, Pace, Scenario, Setting

__all__ = ["DRIFT_AGEING"]


def _own_gains(real: Real, setting: Setting) -> Real:
    """Let each feature's gain about its mean drift by an amount of its own."""
    centre = setting.domain.centre
    logs = setting.rng.normal(size=real.shape[1:])
    return np.asarray(centre + (real - centre) * np.exp(setting.column(real) * logs))


def _own_offsets(real: Real, setting: Setting) -> Real:
    """Let each feature drift by an amount of its own."""
    steps = setting.rng.normal(size=real.shape[1:])
    return np.asarray(real + setting.column(real) * steps * setting.domain.unit)


def _together(real: Real, setting: Setting) -> Real:
    """Let features drift along three directions in which samples differ anyway."""
    source = setting.source(real)
    unit, centre = setting.domain.unit, setting.domain.centre
    _, spread, directions = np.linalg.svd((source - centre) / unit, full_matrices=False)
    count = min(3, len(spread))
    weights = setting.rng.normal(size=count) * spread[:count] / np.sqrt(len(source))
    step = weights @ directions[:count]
    step *= np.sqrt(len(step)) / max(float(np.linalg.norm(step)), 1e-12)
    return np.asarray(real + setting.column(real) * step * unit)


def _ageing(real: Real, setting: Setting) -> Real:
    """Let all features lose response towards the lower end, some more than others."""
    domain = setting.domain
    part = setting.column(real) * setting.rng.uniform(0.3, 1.0, real.shape[1:])
    return np.asarray(real - np.minimum(part, 0.95) * (real - domain.low))


def _mixing(real: Real, setting: Setting) -> Real:
    """Let each feature pick up its neighbours': moisture, crosstalk."""
    part = np.minimum(setting.column(real), 0.9)
    unit, centre = setting.domain.unit, setting.domain.centre
    scores = (real - centre) / unit
    around = 0.5 * (np.roll(scores, 1, axis=1) + np.roll(scores, -1, axis=1))
    return np.asarray(centre + unit * ((1 - part) * scores + part * around))


def _scenarios(kind: str, change: Change, strengths: tuple[float, float]) -> list[Scenario]:
    return [
        Scenario(
            f"ageing, {kind}, {pace}", Cause.COVARIATE_DRIFT, kind, "drift, ageing", "measured",
            change, strengths, ("vector",), pace,
        )
        for pace in get_args(Pace)
    ]  # fmt: skip


DRIFT_AGEING: Final = (
    *_scenarios("own gains", _own_gains, (0.2, 0.5)),
    *_scenarios("own offsets", _own_offsets, (0.12, 0.35)),
    *_scenarios("together", _together, (0.12, 0.35)),
    *_scenarios("lost response", _ageing, (0.1, 0.3)),
    *_scenarios("crosstalk", _mixing, (0.3, 0.7)),
)
"""Each suddenly, gradually and recurring."""
