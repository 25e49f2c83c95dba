"""Everything that is bounded is filled: quarantine, pool, questions and quotas."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import CraftedSender

__all__ = ["FLOOD"]

_ASKED: Final = 64


class _Flood(CraftedSender):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "attack, square")

    def after(self, turn: Turn, answers: Answers) -> None:
        """Label all of it, with a key and without; have as many questions asked as there may be."""
        for row in turn.owned.tolist():
            label = max(0, int(answers.labels[row]))
            turn.say(label, int(answers.ids[row]), "colleague", key=True)
            turn.say(label, int(answers.ids[row]), f"name {row}")
        turn.notes["questions"] = len(turn.target.wanted(_ASKED))


FLOOD: Final = Attack(
    "a flood of suspects and labels",
    "design",
    Technique("AML.T0046", "Spamming AI System with Chaff Data"),
    "crafted inputs, each labelled as the device called it, by one with a key and many without",
    _Flood,
    frozenset({Cause.ADVERSARIAL_INPUT, Cause.POISONING}),
    is_repairable=False,
    models=("classifier",),
)
