"""Nothing is wrong: scenes that come again, never twice the same."""

from __future__ import annotations

from typing import Final

from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.gentle import vary
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting

__all__ = ["HEALTHY_AGAIN"]


def _varied(real: Real, setting: Setting) -> Real:
    return vary(real, setting.domain, setting.rng)


def _drawn_again(real: Real, setting: Setting) -> Real:
    """Return samples drawn with replacement: some come again, slightly varied."""
    source = setting.source(real)
    drawn = source[setting.rng.integers(len(source), size=len(real))]
    return vary(drawn, setting.domain, setting.rng)


HEALTHY_AGAIN: Final = (
    Scenario("healthy, varied", None, "unchanged", "healthy again", "measured", _varied),
    Scenario("healthy, drawn again", None, "again", "healthy again", "measured", _drawn_again),
)
"""Small movements as any scene has them, with and without scenes that come again."""
