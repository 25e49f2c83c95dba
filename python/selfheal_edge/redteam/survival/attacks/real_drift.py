"""No attack: the world drifts, as it does. Defences that answer it by nothing are none."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import NO_TECHNIQUE, Attack, Attacker, Setup
from selfheal_edge.redteam.survival.conditions import changed_enough

__all__ = ["REAL_DRIFT"]

_DRIFTS: Final = (
    "weather, dirt, sudden",
    "weather, fog, sudden",
    "weather, brightness, sudden",
    "acoustics, tilt, sudden",
    "acoustics, noise floor, sudden",
    "ageing, own offsets, sudden",
    "ageing, own gains, sudden",
)
_GROWS_FOR: Final = 0.25
"""Of the phase, until it is there in full."""


class _Drift(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = changed_enough(setup, _DRIFTS)

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Grow, and stay."""
        return self._change(raw, min(1.0, progress / _GROWS_FOR))


REAL_DRIFT: Final = Attack(
    "a real drift",
    "black_box",
    NO_TECHNIQUE,
    "inputs drift within a quarter of the time, and stay so",
    _Drift,
    frozenset({Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT}),
    is_repairable=False,
)
