"""Adversarial patches: a part of the input is replaced, the rest stays as it is."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting
from selfheal_edge.redteam.scenarios.search import Attempt, Rows, outcome, region, search

__all__ = ["ATTACK_PATCH"]

_FAMILY: Final = "attack, patch"
_BUDGET: Final = 120


def _saturated(real: Real, setting: Setting) -> Real:
    """Fill a patch at one place of each input with extremes; search which."""
    domain, rng = setting.domain, setting.rng
    place = region(rng, len(real), domain.axes, setting.strength)
    low, high = (np.broadcast_to(v, real.shape[1:]) for v in (domain.low, domain.high))

    def propose(now: Attempt, rows: Rows, spent: float) -> Real:
        part = region(rng, len(rows), domain.axes, max(0.6 * (1 - spent), 0.05)) * place[rows]
        if spent == 0:
            part = place[rows]
        side = rng.random((len(rows), *([1] * len(domain.axes)))) < 0.5
        return np.where(part > 0, np.where(side, high, low), now.best[rows])

    return search(outcome(real, setting), setting, propose, _BUDGET).best


def _natural(real: Real, setting: Setting) -> Real:
    """Paste a part of another natural input, at a place and from one that mislead."""
    domain, rng = setting.domain, setting.rng
    source = setting.source(real)

    def propose(now: Attempt, rows: Rows, _: float) -> Real:
        part = region(rng, len(rows), domain.axes, setting.strength)
        return np.where(
            part > 0, source[rng.integers(len(source), size=len(rows))], now.start[rows]
        )

    return search(outcome(real, setting), setting, propose, _BUDGET).best


def _sticker(real: Real, setting: Setting) -> Real:
    """Put the same patch at the same place of all inputs, searched on some of them."""
    domain, rng = setting.domain, setting.rng
    attempt = outcome(real, setting)
    tried_on = rng.permutation(len(real))[:32]
    place = region(rng, 1, domain.axes, setting.strength)
    low, high = (np.broadcast_to(v, (1, *real.shape[1:])) for v in (domain.low, domain.high))
    patch = np.where(rng.random(place.shape) < 0.5, high, low)
    least = np.inf
    some, label = real[tried_on], attempt.label[tried_on]
    for step in range(_BUDGET):
        part = region(rng, 1, domain.axes, max(0.5 * (1 - step / _BUDGET), 0.05)) * place
        new = np.where(part > 0, high if rng.random() < 0.5 else low, patch)
        answers = setting.answers(np.where(place > 0, new, some))
        loss = float(answers[np.arange(len(label)), label].mean())
        if loss <= least:
            patch, least = new, loss
    return np.where(place > 0, patch, real)


ATTACK_PATCH: Final = (
    Scenario(
        "patch, saturated", Cause.ADVERSARIAL_INPUT, "patch", _FAMILY, "measured", _saturated,
        (0.1, 0.25), is_crafted=True,
    ),
    Scenario(
        "patch, natural", Cause.ADVERSARIAL_INPUT, "patch", _FAMILY, "measured", _natural,
        (0.15, 0.3), is_crafted=True,
    ),
    Scenario(
        "patch, sticker", Cause.ADVERSARIAL_INPUT, "patch", _FAMILY, "measured", _sticker,
        (0.15, 0.3), is_crafted=True,
    ),
)  # fmt: skip
"""Strengths are shares of the input's elements (after Brown and others, 2017)."""
