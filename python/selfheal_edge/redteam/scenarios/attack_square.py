"""Adversarial inputs by random squares (after Andriushchenko and others, 2020)."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting
from selfheal_edge.redteam.scenarios.search import (
    Attempt,
    Proposal,
    Rows,
    escalated,
    outcome,
    region,
)

__all__ = ["ATTACK_SQUARE", "squares"]

_FAMILY: Final = "attack, square"
_BUDGET: Final = 144
_SURE: Final = -0.8
"""Margin of the old answer at which the new one is confident."""
_FIRST_SHARE: Final = 0.3


def squares(setting: Setting) -> Proposal:
    """Return proposals that move random squares to a fixed distance above or below the input."""
    domain, rng = setting.domain, setting.rng
    limits = setting.column(np.empty((0, *domain.axes))) * domain.unit

    def propose(now: Attempt, rows: Rows, spent: float) -> Real:
        share = _FIRST_SHARE if spent == 0 else _FIRST_SHARE * 0.5 ** int(6 * spent)
        count = len(rows)
        start = now.start[rows]
        limit = np.broadcast_to(limits[rows], start.shape)
        # Colours move each by itself, as the original has it.
        shape = (count, *([1] * (len(domain.axes) - 1)), domain.colours)
        if domain.kind == "vector":
            shape = start.shape
        side = rng.choice((-1.0, 1.0), shape)
        if spent == 0:  # all of it, in stripes
            side = rng.choice((-1.0, 1.0), (count, *[1] * (len(domain.axes) - 1), domain.axes[-1]))
            if domain.kind == "image":
                side = rng.choice((-1.0, 1.0), (count, 1, domain.axes[1], domain.axes[2]))
            return np.asarray(start + limit * side)
        mask = region(rng, count, domain.axes, share)
        return np.where(mask > 0, start + limit * side, now.best[rows])

    return propose


def _square(real: Real, setting: Setting, goal: float = 0.0) -> Real:
    return escalated(outcome(real, setting), setting, squares, _BUDGET, goal).best


def _confident(real: Real, setting: Setting) -> Real:
    return _square(real, setting, _SURE)


ATTACK_SQUARE: Final = (
    Scenario(
        "attack, square", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "measured", _square,
        (0.25, 0.5), is_crafted=True,
    ),
    Scenario(
        "attack, square, confident", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "measured",
        _confident, (0.4, 0.8), is_crafted=True,
    ),
)  # fmt: skip
"""Just over the boundary, or until the model is sure of the wrong answer.

References
----------
Andriushchenko, Croce, Flammarion and Hein, "Square Attack: a query-efficient black-box adversarial
attack via random search", ECCV 2020.
"""
