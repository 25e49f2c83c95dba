"""A drift that grows only while nothing alarms: below the slope that the charts can see."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import drifted_enough, replaced

__all__ = ["SLOW_DRIFT"]

_FIRST: Final = 0.02


class _Slow(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)
        self._part = self._step = self._now = _FIRST * setup.strength
        self._alarms = 0
        self._sees = True

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Change all inputs by a part of what would cost accuracy."""
        del labels
        self._now = self._part
        return replaced(turn, raw, self.shown(raw[turn.owned]))

    def shown(self, raw: Raw) -> Raw:
        """Return them changed as far as in the latest hour."""
        return self._change(raw, self._now)

    def after(self, turn: Turn, answers: Answers) -> None:
        """Go on while nothing alarms; go back, and on in smaller steps, where something does."""
        del answers
        report = turn.report()
        alarms = int(report.get("alarms", 0))
        is_seen = alarms > self._alarms or not report.get("trusted", True)
        self._alarms = alarms
        if is_seen:
            self._step = max(_FIRST / 8, self._step / 2)
            self._part = max(0.0, self._part - 4 * self._step)
        else:
            self._part = min(1.5, self._part + self._step)
            unseen = turn.notes.get("largest part unseen", 0.0)
            turn.notes["largest part unseen"] = max(unseen, round(self._part, 3))


SLOW_DRIFT: Final = Attack(
    "a drift below the charts' slope",
    "adaptive",
    Technique("AML.T0015", "Evade AI Model"),
    "a drift that grows while nothing alarms and goes back when something does",
    _Slow,
    frozenset({Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT}),
    is_repairable=False,
    days=2.0,
)
