"""Adversarial inputs by signs: hunted in halves, or one coordinate after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Change, Scenario, Setting
from selfheal_edge.redteam.scenarios.search import Attempt, Proposal, Rows, escalated, outcome

__all__ = ["ATTACK_SIGN"]

_FAMILY: Final = "attack, sign"
_BUDGET: Final = 144
_SURE: Final = -0.8


def _parts(size: int) -> Iterator[slice]:
    """Yield all of the elements, then halves, quarters … of them, again and again."""
    pieces = 1
    while True:
        edges = np.linspace(0, size, pieces + 1).astype(int)
        for start, stop in pairwise(edges.tolist()):
            if stop > start:
                yield slice(start, stop)
        pieces = pieces * 2 if pieces * 2 <= size else 1


def _signs(setting: Setting) -> Proposal:
    """Return proposals that flip the signs of ever smaller parts of the perturbation."""
    domain, rng = setting.domain, setting.rng
    limits = setting.column(np.empty((0, *domain.axes))) * domain.unit
    size = int(np.prod(domain.axes))
    order = rng.permutation(size) if domain.kind == "vector" else np.arange(size)
    parts = _parts(size)

    def propose(now: Attempt, rows: Rows, spent: float) -> Real:
        start = now.start[rows].reshape(len(rows), -1)
        limit = np.broadcast_to(limits[rows], now.start[rows].shape).reshape(len(rows), -1)
        if spent == 0:
            tried = start + limit * rng.choice((-1.0, 1.0), (len(rows), 1))
        else:
            part = order[next(parts)]
            tried = now.best[rows].reshape(len(rows), -1).copy()
            towards = np.where(tried[:, part] > start[:, part], -1.0, 1.0)
            tried[:, part] = start[:, part] + towards * limit[:, part]
        return np.asarray(tried.reshape(len(rows), *domain.axes))

    return propose


def _single_steps(setting: Setting) -> Proposal:
    """Return proposals that move a few random elements at a time, far."""
    domain, rng = setting.domain, setting.rng
    limits = 2.5 * setting.column(np.empty((0, *domain.axes))) * domain.unit
    size = int(np.prod(domain.axes))
    few = max(1, size // 64)

    def propose(now: Attempt, rows: Rows, _: float) -> Real:
        start = now.start[rows].reshape(len(rows), -1)
        limit = np.broadcast_to(limits[rows], now.start[rows].shape).reshape(len(rows), -1)
        tried = now.best[rows].reshape(len(rows), -1).copy()
        where, n = rng.integers(size, size=(len(rows), few)), np.arange(len(rows))[:, None]
        side = rng.choice((-1.0, 1.0), (len(rows), 1))
        tried[n, where] = start[n, where] + side * limit[n, where]
        return np.asarray(tried.reshape(len(rows), *domain.axes))

    return propose


def _attack(make: Callable[[Setting], Proposal], goal: float = 0.0) -> Change:
    def change(real: Real, setting: Setting) -> Real:
        return escalated(outcome(real, setting), setting, make, _BUDGET, goal).best

    return change


ATTACK_SIGN: Final = (
    Scenario(
        "attack, sign", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "measured", _attack(_signs),
        (0.25, 0.5), is_crafted=True,
    ),
    Scenario(
        "attack, sign, confident", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "measured",
        _attack(_signs, _SURE), (0.4, 0.8), is_crafted=True,
    ),
    Scenario(
        "attack, single steps", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "measured",
        _attack(_single_steps), (0.3, 0.5), is_crafted=True,
    ),
)  # fmt: skip
"""The first two after Chen and others, the third after Guo and others.

References
----------
Chen, Zhang, Hu and Zhu, "Boosting Decision-Based Black-Box Adversarial Attacks with Random Sign
Flip" (ECCV 2020); Al-Dujaili and O'Reilly, "Sign Bits Are All You Need for Black-Box Attacks"
(ICLR 2020); Guo, Gardner, You, Wilson and Weinberger, "Simple Black-box Adversarial Attacks"
(ICML 2019).
"""
