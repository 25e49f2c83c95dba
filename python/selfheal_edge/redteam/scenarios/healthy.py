"""Nothing is wrong: inputs as they come."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting

__all__ = ["HEALTHY"]


def _as_they_come(real: Real, _: Setting) -> Real:
    return np.array(real)


HEALTHY: Final = (
    Scenario("healthy, each once", None, "unchanged", "healthy", "tuning", _as_they_come),
)
"""Every sample comes once, in random order."""
