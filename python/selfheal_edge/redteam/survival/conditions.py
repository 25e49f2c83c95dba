"""Changes of the world itself, as strong as they have to be to matter to one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.scenarios.registry import SCENARIOS
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting
from selfheal_edge.redteam.survival.attack import Setup

__all__ = ["Change", "changed_enough"]

_STEPS: Final = 16
_COSTS: Final = 0.08
"""Of the model's accuracy: less is not worth a repair."""
_LEAST, _MOST = 0.1, 2.0
"""Of the scenario's own least and greatest strength."""


class Change:
    """A scenario at one strength, the same one whenever it is applied.

    Parameters
    ----------
    setup
        Where it happens.
    scenario
        What happens.
    strength
        In the scenario's units.
    """

    def __init__(self, setup: Setup, scenario: Scenario, strength: float) -> None:
        self.scenario, self.strength = scenario, strength
        self._setup = setup
        self._seed = int(setup.rng.integers(2**63))
        self._pool = setup.domain.real(setup.pool)

    def __call__(self, raw: Raw, part: float = 1.0) -> Raw:
        """Return changed copies of raw inputs, at a part of the strength."""
        if part <= 0:
            return raw
        domain, strength = self._setup.domain, part * self.strength
        # Not by `Scenario.apply`, which draws rows first: what it draws of the world, such as where
        # the dirt lies, would be another for each number of samples.
        setting = Setting(
            domain,
            np.random.default_rng(self._seed),
            strength,
            np.full(len(raw), strength),
            pool=self._pool,
        )
        return domain.raw(self.scenario.change(domain.real(raw), setting))


def changed_enough(setup: Setup, names: Sequence[str]) -> Change:
    """Return the gentlest change that costs the model eight points of accuracy.

    Parameters
    ----------
    setup
        Where it happens; its strength multiplies what is found.
    names
        Of scenarios that may be taken: the first that costs enough, else the one that costs most.

    Notes
    -----
    Asks the model some hundred times for each.
    """
    found = [s for s in SCENARIOS if s.name in names and s.fits(setup.domain)]
    found.sort(key=lambda s: names.index(s.name))
    rows = np.random.default_rng(0).permutation(len(setup.pool))[:200]
    raw = setup.pool[rows]
    usual = setup.share_right(raw, rows)
    worst: tuple[float, float, Change] | None = None
    for scenario in found:
        least, most = scenario.strengths
        change = Change(setup, scenario, most)
        for strength in np.geomspace(_LEAST * least, _MOST * most, _STEPS):
            change.strength = float(strength)
            lost = usual - setup.share_right(change(raw), rows)
            if worst is None or lost > worst[0]:
                worst = lost, change.strength, change
            if lost >= _COSTS:
                break
        if worst is not None and worst[0] >= _COSTS:
            break
    assert worst is not None
    _, strength, change = worst
    change.strength = strength * setup.strength
    return change
