"""One perturbation, added to all inputs."""

from __future__ import annotations

from functools import partial
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Technique
from selfheal_edge.redteam.survival.tools import CraftedSender

__all__ = ["UNIVERSAL"]

UNIVERSAL: Final = Attack(
    "a universal perturbation",
    "black_box",
    Technique("AML.T0043.001", "Black-Box Optimization"),
    "one perturbation, searched at home, is added to all inputs",
    partial(CraftedSender, name="attack, universal"),
    frozenset({Cause.ADVERSARIAL_INPUT}),
    is_repairable=False,
    models=("classifier",),
)
