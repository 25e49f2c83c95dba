"""Troubles that are just large enough, and end as soon as they are answered: again and again."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import drifted_enough, replaced

__all__ = ["ABOVE_THRESHOLD"]

_GROWS: Final = 1.5
_SHRINKS: Final = 0.8
_MOST: Final = 3.0


class _Above(Attacker):
    """Sends a burst; calm until the device trusts itself again; then the next, barely enough."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)
        self._part = setup.strength
        self._alarms = 0
        self._is_calm = True

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Shift one half of the hour while the device is calm."""
        del labels
        if not self._is_calm:
            return raw
        rows = turn.owned[: len(turn.owned) // 2]
        sent = np.array(raw[turn.owned])
        sent[: len(rows)] = self._change(raw[rows], self._part)
        return replaced(turn, raw, sent)

    def after(self, turn: Turn, answers: Answers) -> None:
        """Look for the least that is answered."""
        del answers
        report = turn.report()
        alarms = int(report.get("alarms", 0))
        was_heard = alarms > self._alarms
        if self._is_calm:
            part = self._part * (_SHRINKS if was_heard else _GROWS)
            self._part = float(np.clip(part, 0.1, _MOST))
            turn.notes["troubles made"] = turn.notes.get("troubles made", 0) + was_heard
        self._alarms = alarms
        self._is_calm = bool(report.get("trusted", True))


ABOVE_THRESHOLD: Final = Attack(
    "troubles just above the threshold",
    "adaptive",
    Technique("AML.T0034.001", "Resource-Intensive Queries"),
    "bursts that barely alarm, each as soon as the one before is over",
    _Above,
    frozenset({Cause.RESOURCE_ATTACK, Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT}),
    is_repairable=False,
    days=2.0,
)
