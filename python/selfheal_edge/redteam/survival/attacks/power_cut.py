"""The power goes again and again, whatever is being done."""

from __future__ import annotations

from typing import Final

from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["POWER_CUT"]


class _Cut(Attacker):
    def after(self, turn: Turn, answers: Answers) -> None:
        """Cut the power once an hour."""
        del answers
        turn.restart(clean=False)


POWER_CUT: Final = Attack(
    "power cuts",
    "black_box",
    Technique("AML.T0029", "Denial of AI Service"),
    "the process is killed once an hour; it starts from what its flash held",
    _Cut,
    days=0.25,
)
