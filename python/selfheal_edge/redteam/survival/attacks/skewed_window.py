"""While inputs drift a little, his are all of one class: the window that is learned from is his."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.scenarios.gentle import vary
from selfheal_edge.redteam.survival.attack import Attack, Attacker, Setup, Technique, Turn
from selfheal_edge.redteam.survival.tools import drifted_enough, replaced

__all__ = ["SKEWED_WINDOW"]


class _Skewed(Attacker):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = drifted_enough(setup)
        classes, counts = np.unique(setup.pool_labels, return_counts=True)
        self._class = int(classes[counts.argmax()])

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Drift at once: that is the world's."""
        del progress
        return self._change(raw)

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Have the rows that are his say as much the same as their class allows.

        Each has an input of its own class still: what the owner says of it is true.
        """
        setup, given = self.setup, np.asarray(labels)
        mine = turn.owned[given[turn.owned] == self._class]
        own = np.flatnonzero(setup.pool_labels == self._class)
        rows = own[setup.rng.integers(len(own), size=len(mine))]
        real = vary(setup.domain.real(setup.pool[rows]), setup.domain, setup.rng)
        sent = np.array(raw)
        sent[mine] = self._change(setup.domain.raw(real))
        for label in np.unique(given[turn.owned]):
            rows = turn.owned[given[turn.owned] == label]
            if label != self._class:
                sent[rows] = raw[rows[:1]]
        return replaced(turn, raw, sent[turn.owned])


SKEWED_WINDOW: Final = Attack(
    "a window of one class",
    "design",
    Technique("AML.T0059", "Erode Dataset Integrity"),
    "while inputs drift, half are one input of each class: what is aligned to them is wrong",
    _Skewed,
    frozenset({Cause.COVARIATE_DRIFT, Cause.LABEL_SHIFT, Cause.SENSOR_FAULT, Cause.UNKNOWN}),
    is_repairable=False,
    models=("classifier",),
    share=0.5,
)
