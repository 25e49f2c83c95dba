"""Adversarial inputs by random waves: smooth perturbations over all of an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Change, Scenario, Setting
from selfheal_edge.redteam.scenarios.search import Attempt, Proposal, Rows, escalated, outcome

__all__ = ["ATTACK_WAVES"]

_BUDGET: Final = 100
_SURE: Final = -0.8


def _waves(setting: Setting) -> Proposal:
    """Return proposals that add a wave of a random frequency, phase and direction."""
    domain, rng = setting.domain, setting.rng
    limits = setting.column(np.empty((0, *domain.axes))) * domain.unit
    axes = domain.axes
    order = rng.permutation(axes[0]) if domain.kind == "vector" else np.arange(axes[0])

    def propose(now: Attempt, rows: Rows, _: float) -> Real:
        count = len(rows)
        angle = 2 * np.pi * rng.random((count, *[1] * len(axes)))
        for n, length in enumerate(axes[:2]):
            places = (order if n == 0 else np.arange(length)) / length
            shape = [1] * (len(axes) + 1)
            shape[n + 1] = length
            cycles = rng.uniform(0, length / 3, (count, *[1] * len(axes)))
            angle = angle + 2 * np.pi * cycles * places.reshape(shape)
        limit = np.broadcast_to(limits[rows], now.start[rows].shape)
        step = 0.5 * limit * np.broadcast_to(np.sin(angle), limit.shape)
        tried = now.best[rows] + step
        return np.asarray(np.clip(tried, now.start[rows] - limit, now.start[rows] + limit))

    return propose


def _attack(goal: float) -> Change:
    make: Callable[[Setting], Proposal] = _waves

    def change(real: Real, setting: Setting) -> Real:
        return escalated(outcome(real, setting), setting, make, _BUDGET, goal).best

    return change


ATTACK_WAVES: Final = (
    Scenario(
        "attack, waves", Cause.ADVERSARIAL_INPUT, "crafted", "attack, waves", "tuning",
        _attack(0.0), (0.25, 0.5), is_crafted=True,
    ),
    Scenario(
        "attack, waves, confident", Cause.ADVERSARIAL_INPUT, "crafted", "attack, waves", "tuning",
        _attack(_SURE), (0.4, 0.8), is_crafted=True,
    ),
)  # fmt: skip
"""Just over the boundary, or until the model is sure of the wrong answer."""
