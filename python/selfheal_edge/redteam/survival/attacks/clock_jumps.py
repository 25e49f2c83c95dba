"""The clock leaps years ahead and back, so that what is counted by the hour comes anew."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["CLOCK_JUMPS"]

_YEAR: Final = 365.25 * 86400.0
_SWINGS: Final = 8
_LABELS: Final = 64


class _Jumps(Attacker):
    def after(self, turn: Turn, answers: Answers) -> None:
        """Swing the clock, and at each swing say as much as a stranger may."""
        rng, said = self.setup.rng, 0
        for swing in range(_SWINGS):
            far = float(rng.uniform(0.01, 2.0)) * _YEAR * self.setup.strength
            turn.jump(far)
            if self.setup.classes:
                rows = rng.permutation(len(answers.ids))[: _LABELS // _SWINGS]
                for row in rows.tolist():
                    label = (max(0, int(answers.labels[row])) + 1) % self.setup.classes
                    said += turn.say(label, int(answers.ids[row]), f"name {swing}")
            turn.jump(-far)
        turn.notes["strangers' labels taken"] = turn.notes.get("strangers' labels taken", 0) + said


CLOCK_JUMPS: Final = Attack(
    "a clock that swings by years",
    "design",
    Technique("AML.T0031", "Erode AI Model Integrity"),
    f"{_SWINGS} leaps ahead and back an hour, each time as many strangers' labels as are taken",
    _Jumps,
    frozenset({Cause.POISONING}),
    days=0.5,
)
