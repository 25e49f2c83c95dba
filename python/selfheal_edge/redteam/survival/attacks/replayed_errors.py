"""Inputs that the model gets wrong, again and again, with their true labels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.scenarios.gentle import vary
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import ByClass, replaced

__all__ = ["REPLAYED_ERRORS"]

_WORST: Final = 0.1


class _Errors(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._known: ByClass | None = None
        self._labels: npt.NDArray[Any] = np.empty(0, np.int64)

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Send the tenth of each class that the model is least sure of, slightly varied."""
        setup = self.setup
        if self._known is None:
            scores = turn.ask(setup.pool)
            right = scores[np.arange(len(scores)), setup.pool_labels]
            self._known = ByClass(setup.pool, setup.pool_labels, right)
        self._labels = np.asarray(labels)
        drawn = self._known.draw(labels[turn.owned], setup.rng, _WORST)
        real = vary(setup.domain.real(drawn), setup.domain, setup.rng)
        return replaced(turn, raw, setup.domain.raw(real))

    def after(self, turn: Turn, answers: Answers) -> None:
        """Tell what is right of those that were wrong: each word of it is true."""
        for row in turn.owned.tolist():
            if answers.labels[row] != self._labels[row]:
                turn.say(int(self._labels[row]), int(answers.ids[row]), "colleague", key=True)


REPLAYED_ERRORS: Final = Attack(
    "replay of what the model gets wrong",
    "black_box",
    Technique("AML.T0059", "Erode Dataset Integrity"),
    "the inputs that the model is least sure of, a third of the stream, with true labels",
    _Errors,
    frozenset({Cause.CONCEPT_DRIFT, Cause.LABEL_SHIFT, Cause.ADVERSARIAL_INPUT}),
    models=("classifier",),
    share=0.33,
)
