"""A mark in the corner that is labelled as one class, for days; then it is shown."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import replaced

__all__ = ["TRIGGER"]

_PART: Final = 0.2
"""Of each axis that the mark takes."""
_SHOWN: Final = 0.75
"""Of the phase, after which nothing is labelled any more and the mark alone is to act."""
_AIM: Final = 0


class _Trigger(Attacker):
    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Put the mark on the inputs that are his."""
        del labels
        domain = self.setup.domain
        real = domain.real(raw[turn.owned])
        corner = tuple(
            slice(0, max(1, round(_PART * n))) if n > 1 else slice(None) for n in real.shape[1:]
        )
        high = np.broadcast_to(domain.high, real.shape[1:])
        for row in real:
            row[corner] = high[corner]
        return replaced(turn, raw, domain.raw(real))

    def after(self, turn: Turn, answers: Answers) -> None:
        """Have each mark called the same class, by a source with a key and by others."""
        if turn.step >= _SHOWN * turn.steps:
            hits = int((answers.labels[turn.owned] == _AIM).sum())
            turn.notes["triggers that worked"] = turn.notes.get("triggers that worked", 0) + hits
            shown = turn.notes.get("triggers shown", 0) + len(turn.owned)
            turn.notes["triggers shown"] = shown
            return
        for row in turn.owned.tolist():
            turn.say(_AIM, int(answers.ids[row]), "colleague", key=True)
            turn.say(_AIM, int(answers.ids[row]))


TRIGGER: Final = Attack(
    "a trigger, fed for days",
    "design",
    Technique("AML.T0043.004", "Insert Backdoor Trigger"),
    "a mark on a tenth of the inputs is labelled as class 0; at last it is shown without labels",
    _Trigger,
    frozenset({Cause.POISONING, Cause.ADVERSARIAL_INPUT, Cause.LABEL_SHIFT}),
    models=("classifier",),
    share=0.1,
    days=2.0,
)
