"""Adversarial inputs from the gradients of a float twin, learned from the model's answers."""

from __future__ import annotations

from functools import partial
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Technique
from selfheal_edge.redteam.survival.tools import CraftedSender

__all__ = ["TRANSFER"]

TRANSFER: Final = Attack(
    "transfer from a float twin",
    "design",
    Technique("AML.T0043.002", "Black-Box Transfer"),
    "inputs made with the gradients of a twin that was trained on the model's answers",
    partial(CraftedSender, name="attack, transfer"),
    frozenset({Cause.ADVERSARIAL_INPUT}),
    is_repairable=False,
    models=("classifier",),
)
