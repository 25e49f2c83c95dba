"""What is dangerous in a name: an attack taken for what adapts, a benign cause for an attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.observed import Observed
from selfheal_edge.redteam.scenarios.scenario import Scenario

__all__ = [
    "ADAPTS",
    "MALICIOUS",
    "adaptable_share",
    "hides",
    "is_hard_attack",
    "slander_share",
    "unknown_share",
]

MALICIOUS: Final = frozenset({Cause.ADVERSARIAL_INPUT, Cause.POISONING, Cause.RESOURCE_ATTACK})
ADAPTS: Final = frozenset({Cause.COVARIATE_DRIFT, Cause.LABEL_SHIFT, Cause.CONCEPT_DRIFT})
"""Causes after which a model learns from what it sees: surrender, if an attacker makes it."""
_EASY_TO_HIDE: Final = ("patch", "universal", "adaptive")


def hides(scenario: Scenario) -> bool:
    """Whether it is one of the attacks that hide best: patches, universal and adaptive ones."""
    is_attack = scenario.cause == Cause.ADVERSARIAL_INPUT
    return is_attack and any(word in scenario.family for word in _EASY_TO_HIDE)


def is_hard_attack(seen: Observed) -> bool:
    """Whether an attack hides, by its kind or by its share of the stream.

    These are told apart from boundary, confident and question attacks on half of the stream.
    """
    is_attack = seen.scenario.cause == Cause.ADVERSARIAL_INPUT
    return hides(seen.scenario) or (is_attack and seen.share < 0.5)


def adaptable_share(seen: Sequence[Observed], at: int) -> float:
    """Return the share of attacks with an alarm that were taken for something that adapts."""
    taken = [
        one.verdicts[at].cause in ADAPTS
        for one in seen
        if one.scenario.cause in MALICIOUS and one.verdicts[at].is_alarmed and not one.is_early
    ]
    return float(np.mean(taken)) if taken else math.nan


def unknown_share(seen: Sequence[Observed], at: int) -> float:
    """Return the share of streams with an alarm of which the cause stayed unknown."""
    unknown = [
        one.verdicts[at].cause is Cause.UNKNOWN
        for one in seen
        if one.verdicts[at].is_alarmed and not one.is_early
    ]
    return float(np.mean(unknown)) if unknown else math.nan


def slander_share(seen: Sequence[Observed], at: int) -> float:
    """Return the share of benign streams with an alarm that were called malicious."""
    called = [
        one.verdicts[at].cause in MALICIOUS
        for one in seen
        if one.scenario.cause not in MALICIOUS and one.verdicts[at].is_alarmed and not one.is_early
    ]
    return float(np.mean(called)) if called else math.nan
