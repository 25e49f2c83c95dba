"""Crafted inputs that keep their wrong answer when a detector smooths or coarsens them."""

from __future__ import annotations

from functools import partial
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Technique
from selfheal_edge.redteam.survival.tools import CraftedSender

__all__ = ["DETECTORS_PASSED"]

DETECTORS_PASSED: Final = Attack(
    "inputs made to pass the detectors",
    "design",
    Technique("AML.T0015", "Evade AI Model"),
    "crafted inputs whose wrong answer outlives smoothing and fewer levels",
    partial(CraftedSender, name="adaptive, squeezers"),
    frozenset({Cause.ADVERSARIAL_INPUT}),
    is_repairable=False,
    models=("classifier",),
)
