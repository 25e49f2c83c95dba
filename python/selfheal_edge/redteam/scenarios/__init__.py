"""Streams with a known cause: healthy ones, faults, drifts, label shifts and attacks.

Plain NumPy functions on raw inputs, so that they run on any model: images, spectrograms and sensor
vectors. A file holds one family of generators, `registry` lists them. Each family belongs to one of
three parts: "tuning" may be looked at while a diagnoser is built; "measured" measures it and tells
what to work on; "held_out" is scored when all rules stand.
"""

from selfheal_edge.redteam.scenarios.domain import Domain, kind_of
from selfheal_edge.redteam.scenarios.registry import SCENARIOS, scenarios_for
from selfheal_edge.redteam.scenarios.scenario import Scenario
from selfheal_edge.redteam.scenarios.streams import Stream, stream

__all__ = ["SCENARIOS", "Domain", "Scenario", "Stream", "kind_of", "scenarios_for", "stream"]
