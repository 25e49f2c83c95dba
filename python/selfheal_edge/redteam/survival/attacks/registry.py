"""The list of attacks: add one here, and it is in every campaign that asks for it."""

from __future__ import annotations

from typing import Final

from selfheal_edge.redteam.scenarios.domain import InputKind
from selfheal_edge.redteam.survival.attack import Attack
from selfheal_edge.redteam.survival.attacks.above_threshold import ABOVE_THRESHOLD
from selfheal_edge.redteam.survival.attacks.alternating_drift import ALTERNATING_DRIFT
from selfheal_edge.redteam.survival.attacks.broken_sensor import BROKEN_SENSOR
from selfheal_edge.redteam.survival.attacks.clean_labels import CLEAN_LABELS
from selfheal_edge.redteam.survival.attacks.clock_jumps import CLOCK_JUMPS
from selfheal_edge.redteam.survival.attacks.commissioning import COMMISSIONING
from selfheal_edge.redteam.survival.attacks.corruption_as_drift import CORRUPTION_AS_DRIFT
from selfheal_edge.redteam.survival.attacks.cut_in_repair import CUT_IN_REPAIR
from selfheal_edge.redteam.survival.attacks.detectors_passed import DETECTORS_PASSED
from selfheal_edge.redteam.survival.attacks.drift_as_attack import DRIFT_AS_ATTACK
from selfheal_edge.redteam.survival.attacks.filled_regimes import FILLED_REGIMES
from selfheal_edge.redteam.survival.attacks.flood import FLOOD
from selfheal_edge.redteam.survival.attacks.guard_flips import GUARD_FLIPS
from selfheal_edge.redteam.survival.attacks.hidden_in_drift import HIDDEN_IN_DRIFT
from selfheal_edge.redteam.survival.attacks.imitated_regime import IMITATED_REGIME
from selfheal_edge.redteam.survival.attacks.many_restarts import MANY_RESTARTS
from selfheal_edge.redteam.survival.attacks.mimicked_drift import MIMICKED_DRIFT
from selfheal_edge.redteam.survival.attacks.old_store import OLD_STORE
from selfheal_edge.redteam.survival.attacks.poison_as_concept import POISON_AS_CONCEPT
from selfheal_edge.redteam.survival.attacks.power_cut import POWER_CUT
from selfheal_edge.redteam.survival.attacks.random_flips import RANDOM_FLIPS
from selfheal_edge.redteam.survival.attacks.random_labels import RANDOM_LABELS
from selfheal_edge.redteam.survival.attacks.real_drift import REAL_DRIFT
from selfheal_edge.redteam.survival.attacks.replayed_errors import REPLAYED_ERRORS
from selfheal_edge.redteam.survival.attacks.searched_flips import SEARCHED_FLIPS
from selfheal_edge.redteam.survival.attacks.skewed_window import SKEWED_WINDOW
from selfheal_edge.redteam.survival.attacks.sleeper import SLEEPER
from selfheal_edge.redteam.survival.attacks.slow_drift import SLOW_DRIFT
from selfheal_edge.redteam.survival.attacks.square_search import SQUARE_SEARCH
from selfheal_edge.redteam.survival.attacks.sticker import STICKER
from selfheal_edge.redteam.survival.attacks.store_damage import STORE_DAMAGE
from selfheal_edge.redteam.survival.attacks.stuck_bursts import STUCK_BURSTS
from selfheal_edge.redteam.survival.attacks.targeted_labels import TARGETED_LABELS
from selfheal_edge.redteam.survival.attacks.transfer import TRANSFER
from selfheal_edge.redteam.survival.attacks.trigger import TRIGGER
from selfheal_edge.redteam.survival.attacks.universal import UNIVERSAL
from selfheal_edge.redteam.survival.attacks.whatever_hurts import whatever_hurts
from selfheal_edge.redteam.survival.plain import ModelKind

__all__ = ["ATTACKS", "attacks_for"]

_ARSENAL: Final = (
    SEARCHED_FLIPS,
    SQUARE_SEARCH,
    TARGETED_LABELS,
    SKEWED_WINDOW,
    REPLAYED_ERRORS,
    STICKER,
)
"""What the one who goes on with the worst tries."""
ATTACKS: Final[tuple[Attack, ...]] = (
    # who see every health report
    ABOVE_THRESHOLD,
    CUT_IN_REPAIR,
    GUARD_FLIPS,
    IMITATED_REGIME,
    MIMICKED_DRIFT,
    SLEEPER,
    SLOW_DRIFT,
    SQUARE_SEARCH,
    whatever_hurts(_ARSENAL),
    # who know how we are built
    ALTERNATING_DRIFT,
    CLEAN_LABELS,
    CLOCK_JUMPS,
    COMMISSIONING,
    CORRUPTION_AS_DRIFT,
    DETECTORS_PASSED,
    DRIFT_AS_ATTACK,
    FILLED_REGIMES,
    FLOOD,
    HIDDEN_IN_DRIFT,
    OLD_STORE,
    POISON_AS_CONCEPT,
    SEARCHED_FLIPS,
    SKEWED_WINDOW,
    STORE_DAMAGE,
    STUCK_BURSTS,
    TARGETED_LABELS,
    TRANSFER,
    TRIGGER,
    # who know nothing but answers
    MANY_RESTARTS,
    POWER_CUT,
    RANDOM_FLIPS,
    RANDOM_LABELS,
    REPLAYED_ERRORS,
    STICKER,
    UNIVERSAL,
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
