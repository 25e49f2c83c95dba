"""One perturbation that misleads the model on most inputs."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting
from selfheal_edge.redteam.scenarios.search import held, outcome, region

__all__ = ["ATTACK_UNIVERSAL"]

_BUDGET: Final = 300
_INPUTS: Final = 48


def _universal(real: Real, setting: Setting) -> Real:
    """Search a perturbation on some inputs, then add it to all."""
    domain, rng = setting.domain, setting.rng
    source = setting.source(real)
    some = source[rng.permutation(len(source))[:_INPUTS]]
    attempt = outcome(some, setting)
    rows = np.arange(len(some))
    limit = setting.strength * np.broadcast_to(domain.unit, (1, *real.shape[1:]))
    change = limit * rng.choice((-1.0, 1.0), limit.shape)
    least = np.inf
    for step in range(_BUDGET):
        part = region(rng, 1, domain.axes, max(0.3 * (1 - step / _BUDGET), 0.02))
        new = np.where(part > 0, limit * rng.choice((-1.0, 1.0)), change)
        answers = setting.answers(held(some + new, some, setting))
        loss = float(answers[rows, attempt.label].mean())
        if loss <= least:
            change, least = new, loss
    return held(real + change, real, setting)


ATTACK_UNIVERSAL: Final = (
    Scenario(
        "attack, universal", Cause.ADVERSARIAL_INPUT, "crafted", "attack, universal", "measured",
        _universal, (0.2, 0.4), is_crafted=True,
    ),
)  # fmt: skip
"""The aim of Moosavi-Dezfooli and others (2017), by random search."""
