"""The device is started anew, and its first hours are the attacker's."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.attack import Attack, Setup, Technique, Turn
from selfheal_edge.redteam.survival.tools import CraftedSender

__all__ = ["COMMISSIONING"]

_HOURS: Final = 3
_PERIOD: Final = 8


class _FirstHours(CraftedSender):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, "attack, square, confident")

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Start it without its store, and own the hours in which it settles what is normal."""
        hour = turn.step % _PERIOD
        if hour == 0:
            path = turn.target.store_file
            if path is not None:
                for one in path.parent.glob(f"{path.name}*"):
                    one.unlink()
                turn.spent.writes += 1
            turn.restart(clean=False)
        return super().inputs(turn, raw, labels) if hour < _HOURS else raw


COMMISSIONING: Final = Attack(
    "the hours after a first start",
    "design",
    Technique("AML.T0020", "Poison Training Data"),
    f"the store is deleted, and the {_HOURS} hours that follow bring crafted inputs alone",
    _FirstHours,
    frozenset({Cause.ADVERSARIAL_INPUT}),
    is_repairable=False,
    models=("classifier",),
)
