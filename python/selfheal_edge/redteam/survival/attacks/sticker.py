"""The same patch at the same place of each input: a sticker on the lens."""

from __future__ import annotations

from functools import partial
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.survival.attack import Attack, Technique
from selfheal_edge.redteam.survival.tools import CraftedSender

__all__ = ["STICKER"]

STICKER: Final = Attack(
    "a sticker",
    "black_box",
    Technique("AML.T0041", "Physical Environment Access"),
    "the same patch at the same place of each input",
    partial(CraftedSender, name="patch, sticker"),
    frozenset({Cause.ADVERSARIAL_INPUT}),
    is_repairable=False,
    models=("classifier",),
)
