"""The power goes as soon as the device reports that it repairs or tries something."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import drifted_enough

__all__ = ["CUT_IN_REPAIR"]

_FLIPS: Final = 6


class _Cutter(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)
        self._seen: tuple[Any, ...] = ()

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Drift: there is something to be learned."""
        return self._change(raw) if progress > 0.1 else raw

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Flip bits before the hour, so that there is something to be restored as well."""
        del labels
        for offset in self.setup.rng.choice(self.setup.weights, _FLIPS).tolist():
            turn.flip(offset, int(self.setup.rng.integers(8)))
        return raw

    def after(self, turn: Turn, answers: Answers) -> None:
        """Cut the power where the report tells of a step that was taken since the last hour."""
        del answers
        report = turn.report()
        steps = ("repairs", "generation", "condition", "on_probation", "trouble")
        now = tuple(report.get(step) for step in steps)
        if now != self._seen:
            turn.restart(clean=False)
        self._seen = now


CUT_IN_REPAIR: Final = Attack(
    "power cuts at every step of a repair",
    "adaptive",
    Technique("AML.T0029", "Denial of AI Service"),
    "drift and flips; the process is killed whenever the report tells of a new step",
    _Cutter,
    frozenset({Cause.WEIGHT_CORRUPTION, Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT}),
    is_repairable=False,
)
