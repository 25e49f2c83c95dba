"""Adversarial inputs made with the gradients of a float twin of the model."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting
from selfheal_edge.redteam.scenarios.search import bisected, held, margin, outcome
from selfheal_edge.redteam.scenarios.twin import Twin

__all__ = ["ATTACK_TRANSFER"]

_STEPS: Final = 10
_QUESTIONS: Final = 2000
"""To learn the twin from, in all."""


def _transferred(real: Real, setting: Setting) -> Real:
    """Climb the twin's loss within the limit, then shrink the change by questions."""
    domain, rng = setting.domain, setting.rng
    source = setting.source(real)
    asked = [source]
    for size in (0.1, 0.2, 0.4):
        if (len(asked) + 1) * len(source) <= _QUESTIONS:
            noise = size * domain.unit * rng.choice((-1.0, 1.0), source.shape)
            asked.append(domain.inside(source + noise))
    inputs = np.concatenate(asked)
    unit = np.broadcast_to(domain.unit, real.shape[1:])

    def scores(values: Real) -> Real:
        return np.asarray(((values - domain.centre) / unit).reshape(len(values), -1))

    twin = Twin(scores(inputs), setting.answers(inputs), rng)
    attempt = outcome(real, setting)
    limit = setting.column(real) * unit
    changed = real + 0.1 * limit * rng.choice((-1.0, 1.0), real.shape)
    for _ in range(_STEPS):
        slope = twin.uphill(scores(changed), attempt.label).reshape(real.shape)
        changed = changed + 2.0 / _STEPS * limit * np.sign(slope)
        changed = held(np.clip(changed, real - limit, real + limit), real, setting)
    loss = margin(setting.answers(changed), attempt.label)
    return bisected(attempt._replace(best=changed, loss=loss), setting).best


ATTACK_TRANSFER: Final = (
    Scenario(
        "attack, transfer", Cause.ADVERSARIAL_INPUT, "crafted", "attack, transfer", "measured",
        _transferred, (0.3, 0.6), is_crafted=True,
    ),
)  # fmt: skip
"""Projected gradient ascent (Madry and others, 2018) on the twin."""
