"""The list of scenarios: add one here, and it is in every run."""

from __future__ import annotations

from typing import Final

from selfheal_edge.redteam.scenarios.attack_adaptive import ATTACK_ADAPTIVE
from selfheal_edge.redteam.scenarios.attack_boundary import ATTACK_BOUNDARY
from selfheal_edge.redteam.scenarios.attack_patch import ATTACK_PATCH
from selfheal_edge.redteam.scenarios.attack_questions import ATTACK_QUESTIONS
from selfheal_edge.redteam.scenarios.attack_sign import ATTACK_SIGN
from selfheal_edge.redteam.scenarios.attack_square import ATTACK_SQUARE
from selfheal_edge.redteam.scenarios.attack_transfer import ATTACK_TRANSFER
from selfheal_edge.redteam.scenarios.attack_universal import ATTACK_UNIVERSAL
from selfheal_edge.redteam.scenarios.attack_waves import ATTACK_WAVES
from selfheal_edge.redteam.scenarios.domain import Domain
from selfheal_edge.redteam.scenarios.drift_acoustics import DRIFT_ACOUSTICS
from selfheal_edge.redteam.scenarios.drift_ageing import DRIFT_AGEING
from selfheal_edge.redteam.scenarios.drift_everyday import DRIFT_EVERYDAY
from selfheal_edge.redteam.scenarios.drift_plain import DRIFT_PLAIN
from selfheal_edge.redteam.scenarios.drift_weather import DRIFT_WEATHER
from selfheal_edge.redteam.scenarios.healthy import HEALTHY
from selfheal_edge.redteam.scenarios.healthy_again import HEALTHY_AGAIN
from selfheal_edge.redteam.scenarios.held_out_attacks import HELD_OUT_ATTACKS
from selfheal_edge.redteam.scenarios.held_out_benign import HELD_OUT_BENIGN
from selfheal_edge.redteam.scenarios.label_mix import LABEL_MIX
from selfheal_edge.redteam.scenarios.label_one_class import LABEL_ONE_CLASS
from selfheal_edge.redteam.scenarios.scenario import Part, Scenario
from selfheal_edge.redteam.scenarios.sensor_textbook import SENSOR_TEXTBOOK
from selfheal_edge.redteam.scenarios.sensor_worn import SENSOR_WORN

__all__ = ["SCENARIOS", "scenarios_for"]

SCENARIOS: Final[tuple[Scenario, ...]] = (
    # tuning
    *HEALTHY,
    *SENSOR_TEXTBOOK,
    *DRIFT_PLAIN,
    *DRIFT_EVERYDAY,
    *LABEL_ONE_CLASS,
    *ATTACK_BOUNDARY,
    *ATTACK_WAVES,
    # measured
    *HEALTHY_AGAIN,
    *SENSOR_WORN,
    *DRIFT_WEATHER,
    *DRIFT_ACOUSTICS,
    *DRIFT_AGEING,
    *LABEL_MIX,
    *ATTACK_SQUARE,
    *ATTACK_SIGN,
    *ATTACK_TRANSFER,
    *ATTACK_PATCH,
    *ATTACK_UNIVERSAL,
    *ATTACK_QUESTIONS,
    *ATTACK_ADAPTIVE,
    # held_out
    *HELD_OUT_BENIGN,
    *HELD_OUT_ATTACKS,
)
"""All of them."""


def scenarios_for(domain: Domain, part: Part) -> tuple[Scenario, ...]:
    """Return the scenarios of one part that apply to a domain."""
    return tuple(s for s in SCENARIOS if s.part == part and s.fits(domain))
