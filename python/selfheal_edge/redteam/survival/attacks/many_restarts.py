"""Forty restarts an hour, a thousand a day: cleanly, and by cutting the power."""

from __future__ import annotations

from typing import Final

from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["MANY_RESTARTS"]

_AN_HOUR: Final = 40


class _Restarts(Attacker):
    def after(self, turn: Turn, answers: Answers) -> None:
        """Restart it, every fourth time cleanly."""
        del answers
        for n in range(max(1, round(_AN_HOUR * self.setup.strength))):
            turn.restart(clean=n % 4 == 3)


MANY_RESTARTS: Final = Attack(
    "a thousand restarts a day",
    "black_box",
    Technique("AML.T0029", "Denial of AI Service"),
    f"{_AN_HOUR} restarts an hour, three of four by cutting the power",
    _Restarts,
    days=0.25,
)
