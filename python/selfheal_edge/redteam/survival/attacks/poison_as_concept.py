"""Sources with keys agree that two classes have changed their names."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import confused_pair

__all__ = ["POISON_AS_CONCEPT"]

_SOURCES: Final = 3
_AN_HOUR: Final = 24


class _Renamed(Attacker):
    _pair: tuple[int, int] | None = None

    def after(self, turn: Turn, answers: Answers) -> None:
        """Have three sources swap two classes, and be right otherwise."""
        setup = self.setup
        if self._pair is None:
            self._pair = confused_pair(turn.ask(setup.pool), setup.pool_labels)
        a, b = self._pair
        rows = setup.rng.permutation(len(answers.ids))[: round(_AN_HOUR * setup.strength)]
        for n, row in enumerate(rows.tolist()):
            answer = max(0, int(answers.labels[row]))
            label = {a: b, b: a}.get(answer, answer)
            turn.say(label, int(answers.ids[row]), f"colleague {n % _SOURCES}", key=True)


POISON_AS_CONCEPT: Final = Attack(
    "poisoning dressed as concept drift",
    "design",
    Technique("AML.T0020", "Poison Training Data"),
    f"{_SOURCES} sources with keys swap two classes, as if these had changed their meaning",
    _Renamed,
    frozenset({Cause.POISONING, Cause.CONCEPT_DRIFT}),
    models=("classifier",),
    share=0.0,
)
