"""Shifts that change their direction before a sum can grow."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.tools import replaced

__all__ = ["ALTERNATING_DRIFT"]

_BLOCK: Final = 4
_LARGEST: Final = 0.5
"""Of the unit, at the end."""


class _Alternating(Attacker):
    _size = 0.0

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Shift four inputs up, four down, and so on; further each hour."""
        del labels
        self._size = _LARGEST * self.setup.strength * (turn.step + 1) / turn.steps
        return replaced(turn, raw, self.shown(raw[turn.owned]))

    def shown(self, raw: Raw) -> Raw:
        """Return them shifted as far as in the latest hour."""
        domain = self.setup.domain
        real = domain.real(raw)
        side = np.where(np.arange(len(real)) // _BLOCK % 2, -1.0, 1.0)
        moved = real + side.reshape(-1, *[1] * (real.ndim - 1)) * self._size * domain.unit
        return domain.raw(domain.inside(moved))


ALTERNATING_DRIFT: Final = Attack(
    "shifts in alternating directions",
    "design",
    Technique("AML.T0015", "Evade AI Model"),
    f"every {_BLOCK} inputs the shift turns round, and grows by the hour",
    _Alternating,
    frozenset({Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT, Cause.ADVERSARIAL_INPUT}),
    is_repairable=False,
)
