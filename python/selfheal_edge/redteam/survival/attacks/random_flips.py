"""Random bit flips in the weights that execute: radiation, failing memory, blind rowhammer."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["RANDOM_FLIPS"]

_AN_HOUR: Final = 40


class _Flips(Attacker):
    def after(self, turn: Turn, answers: Answers) -> None:
        """Flip bits of weights and biases."""
        del answers
        rng = self.setup.rng
        for offset in rng.choice(self.setup.weights, round(_AN_HOUR * self.setup.strength)):
            turn.flip(int(offset), int(rng.integers(8)))


RANDOM_FLIPS: Final = Attack(
    "random bit flips",
    "black_box",
    Technique("AML.T0018", "Manipulate AI Model"),
    f"{_AN_HOUR} random bits an hour in the weights that execute",
    _Flips,
    frozenset({Cause.WEIGHT_CORRUPTION}),
)
