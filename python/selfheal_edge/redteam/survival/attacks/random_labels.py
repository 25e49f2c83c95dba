"""Labels at random, under names that any caller can type."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["RANDOM_LABELS"]

_AN_HOUR: Final = 40


class _Random(Attacker):
    def after(self, turn: Turn, answers: Answers) -> None:
        """Say anything of the hour's answers, each time in another name."""
        rng, count = self.setup.rng, round(_AN_HOUR * self.setup.strength)
        for row in rng.permutation(len(answers.ids))[:count].tolist():
            label = int(rng.integers(self.setup.classes))
            turn.say(label, int(answers.ids[row]), f"name {rng.integers(10**9)}")


RANDOM_LABELS: Final = Attack(
    "random labels from many names",
    "black_box",
    Technique("AML.T0020", "Poison Training Data"),
    f"{_AN_HOUR} labels an hour at random, each in a name that was made up",
    _Random,
    frozenset({Cause.POISONING}),
    models=("classifier",),
    share=0.0,
)
