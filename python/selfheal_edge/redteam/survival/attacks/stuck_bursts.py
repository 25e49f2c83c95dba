"""Inputs that are equal to the bit, for a moment: each one is a trouble, and is written down."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import replaced

__all__ = ["STUCK_BURSTS"]

_BURST: Final = 24


class _Stuck(Attacker):
    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Repeat one input some dozen times at the hour's beginning."""
        del labels
        rows = turn.owned[:_BURST]
        sent = np.array(raw[turn.owned])
        sent[: len(rows)] = raw[rows[:1]]
        return replaced(turn, raw, sent)

    def after(self, turn: Turn, answers: Answers) -> None:
        """Have what is in memory written: close and open it."""
        del answers
        turn.restart()


STUCK_BURSTS: Final = Attack(
    "stuck bursts that force writes",
    "design",
    Technique("AML.T0034", "Cost Harvesting"),
    f"{_BURST} equal inputs and a restart each hour: alarms, diagnoses, journal, state",
    _Stuck,
    frozenset({Cause.SENSOR_FAULT, Cause.RESOURCE_ATTACK}),
    is_repairable=False,
)
