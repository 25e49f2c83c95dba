"""A source with a key that is honest until its word decides: then it answers what it likes."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import drifted_enough

__all__ = ["SLEEPER"]

_AN_HOUR: Final = 8
_TRUSTED_FOR: Final = 0.25
"""Of the phase, in which it only agrees."""


class _Sleeper(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Drift once it is trusted: only then is anything learned."""
        return raw if progress <= _TRUSTED_FOR else self._change(raw)

    def after(self, turn: Turn, answers: Answers) -> None:
        """Answer the device's own questions: honestly first, then for the worse answer of two."""
        limit = max(1, round(_AN_HOUR * self.setup.strength))
        if turn.step < _TRUSTED_FOR * turn.steps or not turn.report().get("on_probation", False):
            for row in range(min(limit, len(answers.ids))):
                label = max(0, int(answers.labels[row]))
                turn.say(label, int(answers.ids[row]), "colleague", key=True)
            return
        for asked in turn.target.wanted(limit):
            honest = None
            if asked.input is not None:
                honest = int(turn.ask(asked.input[None])[0].argmax())
            others = [a for a in asked.answers if a != honest]
            label = others[0] if others else (0 if honest is None else honest)
            turn.say(int(label), asked.id, "colleague", key=True)


SLEEPER: Final = Attack(
    "a source that earns trust, then lies",
    "adaptive",
    Technique("AML.T0020", "Poison Training Data"),
    "a source with a key agrees for hours; while a repair is on probation it speaks for the worse",
    _Sleeper,
    frozenset({Cause.POISONING, Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT}),
    is_repairable=False,
    models=("classifier",),
    share=0.0,
    days=2.0,
)
