"""Flips of low bits while inputs shift a little: damage that looks like the world's doing."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import drifted_enough, replaced

__all__ = ["CORRUPTION_AS_DRIFT"]

_PART: Final = 0.5
_AN_HOUR: Final = 200


class _Dressed(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Shift inputs as far as costs little."""
        del labels
        return replaced(turn, raw, self._change(raw[turn.owned], _PART))

    def after(self, turn: Turn, answers: Answers) -> None:
        """Flip low bits of many weights: each change is small, as a drift of the model would be."""
        del answers
        rng = self.setup.rng
        for offset in rng.choice(self.setup.weights, round(_AN_HOUR * self.setup.strength)):
            turn.flip(int(offset), int(rng.integers(4)))


CORRUPTION_AS_DRIFT: Final = Attack(
    "corruption dressed as drift",
    "design",
    Technique("AML.T0018", "Manipulate AI Model"),
    f"{_AN_HOUR} low bits of weights an hour, while inputs shift",
    _Dressed,
    frozenset({Cause.WEIGHT_CORRUPTION, Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT}),
)
