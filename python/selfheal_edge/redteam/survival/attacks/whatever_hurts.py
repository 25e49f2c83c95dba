"""An attacker who tries what he has, watches what it does, and goes on with what hurt most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers

__all__ = ["whatever_hurts"]

_TRIED_FOR: Final = 4
"""Hours, before he looks what it did."""
_WANDERS: Final = 0.2
"""Share of the times that he tries another one all the same."""


class _Chooser(Attacker):
    """Knows the true labels of what the device sees, and so what each attack cost it."""

    def __init__(self, setup: Setup, arsenal: Sequence[Attack]) -> None:
        super().__init__(setup)
        self._arsenal = arsenal
        self._attackers = [attack.make(setup) for attack in arsenal]
        self._wrong = np.zeros(len(arsenal))
        self._seen = np.zeros(len(arsenal))
        self._now = 0
        self._labels: npt.NDArray[Any] = np.empty(0, np.int64)

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Have the chosen one send what it sends."""
        if turn.step % _TRIED_FOR == 0:
            self._now = self._choose()
        self._labels = labels
        return self._attackers[self._now].inputs(self._as(turn), raw, labels)

    def after(self, turn: Turn, answers: Answers) -> None:
        """Count what was wrong, and have the chosen one do what it does."""
        self._wrong[self._now] += int((answers.labels != self._labels).sum())
        self._seen[self._now] += len(self._labels)
        self._attackers[self._now].after(self._as(turn), answers)
        harm = self._wrong / np.maximum(self._seen, 1)
        turn.notes["wrong answers while it was tried"] = {
            attack.name: f"{share:.1%}"
            for attack, share, seen in zip(self._arsenal, harm, self._seen, strict=True)
            if seen
        }

    def _as(self, turn: Turn) -> Turn:
        return replace(turn, knowledge=self._arsenal[self._now].knowledge)

    def _choose(self) -> int:
        unseen = np.flatnonzero(self._seen == 0)
        if len(unseen):
            return int(unseen[0])
        if self.setup.rng.random() < _WANDERS:
            return int(self.setup.rng.integers(len(self._arsenal)))
        return int(np.argmax(self._wrong / self._seen))


def whatever_hurts(arsenal: Sequence[Attack]) -> Attack:
    """Return the attack that chooses among others.

    Parameters
    ----------
    arsenal
        For classifiers: what a device's own answers show the harm of.
    """
    return Attack(
        "whatever hurt most",
        "adaptive",
        Technique("AML.T0031", "Erode AI Model Integrity"),
        f"tries {len(arsenal)} attacks for {_TRIED_FOR} hours each, then goes on with the worst",
        partial(_Chooser, arsenal=arsenal),
        frozenset(cause for attack in arsenal for cause in attack.causes),
        is_repairable=all(attack.is_repairable for attack in arsenal),
        models=("classifier",),
        days=2.0,
        share=0.5,
    )
