"""A real drift comes, and the attack hides behind it."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Setup, Technique, Turn
from selfheal_edge.redteam.survival.tools import CraftedSender, drifted_enough

__all__ = ["HIDDEN_IN_DRIFT"]

_BEGINS: Final = 0.2
"""Of the phase, before he sends anything."""


class _Hidden(CraftedSender):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "attack, square")
        self._change = drifted_enough(setup)

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Drift at once."""
        del progress
        return self._change(raw)

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Wait until the drift is known; then send what drifts as well, and misleads."""
        if turn.step < _BEGINS * turn.steps:
            return raw
        sent = super().inputs(turn, raw, labels)
        sent[turn.owned] = self._change(sent[turn.owned])
        return sent


HIDDEN_IN_DRIFT: Final = Attack(
    "an attack behind a real drift",
    "design",
    Technique("AML.T0015", "Evade AI Model"),
    "all inputs drift; among them come crafted ones that drift as well",
    _Hidden,
    frozenset({Cause.COVARIATE_DRIFT, Cause.ADVERSARIAL_INPUT, Cause.SENSOR_FAULT}),
    is_repairable=False,
    models=("classifier",),
    share=0.3,
)
