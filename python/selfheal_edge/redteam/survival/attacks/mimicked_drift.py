"""A drift that stays until a repair serves, and is over then: what was healed is what hurts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import drifted_enough, replaced

__all__ = ["MIMICKED_DRIFT"]


class _Mimic(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)
        self._is_on = self._was_on = True

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Drift, until something was learned from it."""
        del labels
        self._was_on = self._is_on
        return replaced(turn, raw, self.shown(raw[turn.owned])) if self._is_on else raw

    def shown(self, raw: Raw) -> Raw:
        """Return what drifted, if it did."""
        return np.asarray(self._change(raw)) if self._was_on else raw

    def after(self, turn: Turn, answers: Answers) -> None:
        """Stop when a repair serves; begin anew when what was before serves again."""
        del answers
        report = turn.report()
        self._is_on = not (report.get("generation", 0) or report.get("on_probation", False))
        if self._was_on and not self._is_on:
            turn.notes["repairs provoked"] = turn.notes.get("repairs provoked", 0) + 1


MIMICKED_DRIFT: Final = Attack(
    "a drift that ends when it is healed",
    "adaptive",
    Technique("AML.T0031", "Erode AI Model Integrity"),
    "inputs drift until a repair serves, and are as before at once, again and again",
    _Mimic,
    frozenset({Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT, Cause.RESOURCE_ATTACK}),
    is_repairable=False,
    days=2.0,
)
