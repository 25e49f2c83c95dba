"""Conditions one after the other, each steady for some hours: the slots for known ones are his."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.tools import replaced

__all__ = ["FILLED_REGIMES"]

_HOURS: Final = 4
_SIZE: Final = 0.5


class _Fills(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._sides: dict[int, npt.NDArray[np.float64]] = {}
        self._number = 0

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Shift all inputs by a pattern that is another one every four hours."""
        del labels
        number = turn.step // _HOURS
        if number not in self._sides:
            real = self.setup.domain.real(raw[turn.owned])
            self._sides[number] = self.setup.rng.choice((-1.0, 1.0), real.shape[1:])
        self._number = number
        turn.notes["conditions shown"] = number + 1
        return replaced(turn, raw, self.shown(raw[turn.owned]))

    def shown(self, raw: Raw) -> Raw:
        """Return them with the latest pattern."""
        domain = self.setup.domain
        size = _SIZE * self.setup.strength * domain.unit
        return domain.raw(domain.inside(domain.real(raw) + size * self._sides[self._number]))


FILLED_REGIMES: Final = Attack(
    "conditions that fill the slots",
    "design",
    Technique("AML.T0059", "Erode Dataset Integrity"),
    f"another steady shift every {_HOURS} hours, so that conditions worth knowing are forgotten",
    _Fills,
    frozenset({Cause.COVARIATE_DRIFT, Cause.ADVERSARIAL_INPUT, Cause.SENSOR_FAULT, Cause.UNKNOWN}),
    is_repairable=False,
    days=2.0,
)
