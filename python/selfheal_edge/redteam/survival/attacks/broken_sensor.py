"""No attack: a sensor breaks, and still gives something."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import NO_TECHNIQUE, Attack, Attacker, Setup
from selfheal_edge.redteam.survival.conditions import changed_enough

__all__ = ["BROKEN_SENSOR"]

_FAULTS: Final = ("sensor, offset", "sensor, channel with an offset", "sensor, gain")


class _Fault(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = changed_enough(setup, _FAULTS)

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Break at once."""
        del progress
        return self._change(raw)


BROKEN_SENSOR: Final = Attack(
    "a broken sensor",
    "black_box",
    NO_TECHNIQUE,
    "the sensor adds an offset to what it measures",
    _Fault,
    frozenset({Cause.SENSOR_FAULT, Cause.COVARIATE_DRIFT}),
    is_repairable=False,
)
