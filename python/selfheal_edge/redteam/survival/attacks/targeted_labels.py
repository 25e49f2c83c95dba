"""A source with a key lies about one class alone, and says the truth of all others."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import confused_pair

__all__ = ["TARGETED_LABELS"]

_AN_HOUR: Final = 24


class _Targeted(Attacker):
    _pair: tuple[int, int] | None = None

    def after(self, turn: Turn, answers: Answers) -> None:
        """Agree with the device, but for one class that is called the one most like it."""
        setup = self.setup
        if self._pair is None:
            self._pair = confused_pair(turn.ask(setup.pool), setup.pool_labels)
        taken, called = self._pair
        rows = setup.rng.permutation(len(answers.ids))[: round(_AN_HOUR * setup.strength)]
        for row in rows.tolist():
            answer = int(answers.labels[row])
            label = called if answer == taken else max(0, answer)
            turn.say(label, int(answers.ids[row]), "colleague", key=True)


TARGETED_LABELS: Final = Attack(
    "targeted labels, with a key",
    "design",
    Technique("AML.T0020", "Poison Training Data"),
    "a source with a key calls one class another, and is honest otherwise",
    _Targeted,
    frozenset({Cause.POISONING}),
    models=("classifier",),
    share=0.0,
    days=2.0,
)
