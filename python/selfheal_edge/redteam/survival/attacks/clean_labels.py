"""Honest labels, dishonest inputs: he owns what decides, and truthful people confirm it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import ByClass, confused_pair, replaced

__all__ = ["CLEAN_LABELS"]

_MIXED: Final = (0.35, 0.5)
"""Of the other class that is mixed into an input; its own class is still what people see."""


class _Clean(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._made: ByClass | None = None

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Send inputs of one class that lie where another one's victims are."""
        if self._made is None:
            self._made = self._mix(turn)
        new = self._made.draw(labels[turn.owned], self.setup.rng, 0.5)
        return replaced(turn, raw, new)

    def _mix(self, turn: Turn) -> ByClass:
        setup, domain = self.setup, self.setup.domain
        own, victim = confused_pair(turn.ask(setup.pool), setup.pool_labels)
        real = domain.real(setup.pool)
        near = np.flatnonzero(setup.pool_labels == victim)
        mixed = real.copy()
        for row in np.flatnonzero(setup.pool_labels == own).tolist():
            other = real[near[setup.rng.integers(len(near))]] if len(near) else real[row]
            part = setup.strength * setup.rng.uniform(*_MIXED)
            mixed[row] = (1 - min(0.5, part)) * real[row] + min(0.5, part) * other
        made = domain.raw(mixed)
        scores = turn.ask(made)
        # First what the model calls the victim's class: there its labels pull furthest.
        return ByClass(made, setup.pool_labels, -scores[:, victim])

    def after(self, turn: Turn, answers: Answers) -> None:
        """Say nothing: the owner himself answers, and says the truth."""


CLEAN_LABELS: Final = Attack(
    "honest labels of dishonest inputs",
    "design",
    Technique("AML.T0043", "Craft Adversarial Data"),
    "inputs of one class laid among another's, so that true labels teach what hurts the rest",
    _Clean,
    frozenset({Cause.ADVERSARIAL_INPUT, Cause.COVARIATE_DRIFT, Cause.LABEL_SHIFT}),
    is_repairable=False,
    models=("classifier",),
    share=0.4,
    days=2.0,
)
