"""A condition that the device has healed is imitated, so that its repair serves the others."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.contestant import Answers
from selfheal_edge.redteam.survival.tools import drifted_enough, replaced

__all__ = ["IMITATED_REGIME"]

_DRIFTS_FOR: Final = 0.5
"""Of the phase: a real drift, which is healed."""
_PERIOD: Final = 56
"""Inputs from one imitation to the next."""
_LEAST: Final = 4


class _Imitator(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)
        self._run = 24
        self._sent: int | None = None

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Drift in the first half: that is the world's."""
        return self._change(raw) if progress <= _DRIFTS_FOR else raw

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Send runs of drifted inputs among the others', as few as make the repair serve them."""
        del labels
        if turn.step < _DRIFTS_FOR * turn.steps:
            return raw
        self._sent = self._run
        places = np.arange(len(raw)) % _PERIOD < self._run
        rows = turn.owned[places[turn.owned]]
        sent = np.array(raw[turn.owned])
        sent[np.isin(turn.owned, rows)] = self._change(raw[rows])
        turn.notes["inputs that imitate"] = turn.notes.get("inputs that imitate", 0) + len(rows)
        return replaced(turn, raw, sent)

    def shown(self, raw: Raw) -> Raw:
        """Return them with as many drifted ones among them as he sent: once the drift is over."""
        if self._sent is None:
            return raw
        rows = np.arange(len(raw)) % _PERIOD < self._sent
        made = np.array(raw)
        made[rows] = self._change(raw[rows])
        return made

    def after(self, turn: Turn, answers: Answers) -> None:
        """Send fewer while the repair serves at the hour's end, more while it does not."""
        del answers
        if turn.step < _DRIFTS_FOR * turn.steps:
            return
        serves = bool(turn.report().get("generation", 0))
        self._run = int(np.clip(self._run - 2 if serves else self._run + 2, _LEAST, _PERIOD - 8))
        turn.notes["hours captured"] = turn.notes.get("hours captured", 0) + serves


IMITATED_REGIME: Final = Attack(
    "a known condition imitated",
    "adaptive",
    Technique("AML.T0074", "Masquerading"),
    "after a real drift was healed, runs of drifted inputs have its repair serve all others",
    _Imitator,
    frozenset(),
    is_repairable=False,
    share=1.0,
    days=2.0,
)
