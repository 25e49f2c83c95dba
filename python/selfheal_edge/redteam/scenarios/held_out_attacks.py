"""Attacks that no rule was mended after: sparse ones, and by an evolution of random noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Change, Scenario, Setting
from selfheal_edge.redteam.scenarios.search import Attempt, Proposal, Rows, escalated, outcome

__all__ = ["HELD_OUT_ATTACKS"]

_FAMILY: Final = "attack, held out"
_BUDGET: Final = 144
_SURE: Final = -0.8


def _sparse(setting: Setting) -> Proposal:
    """Return proposals that set a few elements to an end of their range, fewer with less amount."""
    domain, rng = setting.domain, setting.rng
    size = int(np.prod(domain.axes))
    low = np.broadcast_to(domain.low, domain.axes).reshape(-1)
    high = np.broadcast_to(domain.high, domain.axes).reshape(-1)
    shares = 0.25 * setting.amount

    def propose(now: Attempt, rows: Rows, spent: float) -> Real:
        start = now.start[rows].reshape(len(rows), -1)
        tried = now.best[rows].reshape(len(rows), -1).copy()
        for n, row in enumerate(rows):
            most = max(2, int(shares[row] * size))
            changed = np.flatnonzero(tried[n] != start[n])
            step = max(1, int(most * (1 - spent) / 2))
            back = rng.permutation(changed)[: max(0, len(changed) + step - most)]
            tried[n, back] = start[n, back]
            there = rng.integers(size, size=step)
            tried[n, there] = np.where(rng.random(step) < 0.5, low[there], high[there])
        return np.asarray(tried.reshape(len(rows), *domain.axes))

    return propose


def _evolved(setting: Setting) -> Proposal:
    """Return proposals that add Gaussian noise to the best so far, held within the limit."""
    domain, rng = setting.domain, setting.rng
    limits = setting.column(np.empty((0, *domain.axes))) * domain.unit

    def propose(now: Attempt, rows: Rows, spent: float) -> Real:
        start = now.start[rows]
        limit = np.broadcast_to(limits[rows], start.shape)
        tried = now.best[rows] + (0.7 - 0.5 * spent) * limit * rng.normal(size=start.shape)
        return np.asarray(np.clip(tried, start - limit, start + limit))

    return propose


def _attack(make: Callable[[Setting], Proposal], goal: float = 0.0) -> Change:
    def change(real: Real, setting: Setting) -> Real:
        return escalated(outcome(real, setting), setting, make, _BUDGET, goal).best

    return change


def _scenario(
    name: str, make: Callable[[Setting], Proposal], strengths: tuple[float, float], goal: float
) -> Scenario:
    return Scenario(
        f"held out, {name}", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "held_out",
        _attack(make, goal), strengths, is_crafted=True,
    )  # fmt: skip


HELD_OUT_ATTACKS: Final = (
    _scenario("sparse", _sparse, (0.2, 0.5), 0.0),
    _scenario("sparse, confident", _sparse, (0.4, 0.8), _SURE),
    _scenario("evolved", _evolved, (0.25, 0.5), 0.0),
    _scenario("evolved, confident", _evolved, (0.4, 0.8), _SURE),
)
"""Just over the boundary, or until the model is sure of the wrong answer."""
