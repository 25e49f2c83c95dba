"""A few crafted inputs in a real drift, so that all of it is taken for an attack."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Setup, Technique
from selfheal_edge.redteam.survival.tools import CraftedSender, drifted_enough

__all__ = ["DRIFT_AS_ATTACK"]


class _Dressed(CraftedSender):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "attack, boundary")
        self._change = drifted_enough(setup)

    def condition(self, raw: Raw, progress: float) -> Raw:
        """Drift at once: that is the world's, and should be healed."""
        del progress
        return self._change(raw)


DRIFT_AS_ATTACK: Final = Attack(
    "drift dressed as an attack",
    "design",
    Technique("AML.T0046", "Spamming AI System with Chaff Data"),
    "a tenth of the inputs of a real drift is crafted: good data shall be quarantined",
    _Dressed,
    frozenset({Cause.ADVERSARIAL_INPUT, Cause.COVARIATE_DRIFT, Cause.SENSOR_FAULT}),
    is_repairable=False,
    models=("classifier",),
    share=0.1,
)
