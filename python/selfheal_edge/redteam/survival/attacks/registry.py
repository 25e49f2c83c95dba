"""The list of attacks: add one here, and it is in every campaign that asks for it."""

from __future__ import annotations

from typing import Final

from selfheal_edge.redteam.scenarios.domain import InputKind
from selfheal_edge.redteam.survival.attack import Attack
from selfheal_edge.redteam.survival.attacks.broken_sensor import BROKEN_SENSOR
from selfheal_edge.redteam.survival.attacks.power_cut import POWER_CUT
from selfheal_edge.redteam.survival.attacks.random_flips import RANDOM_FLIPS
from selfheal_edge.redteam.survival.attacks.real_drift import REAL_DRIFT
from selfheal_edge.redteam.survival.plain import ModelKind

__all__ = ["ATTACKS", "attacks_for"]

ATTACKS: Final[tuple[Attack, ...]] = (
    RANDOM_FLIPS,
    POWER_CUT,
    # what no adversary does
    BROKEN_SENSOR,
    REAL_DRIFT,
)
"""All of them."""


def attacks_for(kind: InputKind, model: ModelKind) -> tuple[Attack, ...]:
    """Return the attacks that apply to such inputs and such a model, adaptive ones first."""
    order = ("adaptive", "design", "black_box")
    found = [attack for attack in ATTACKS if not attack.fits(kind, model)]
    return tuple(sorted(found, key=lambda attack: order.index(attack.knowledge)))
