"""Adversarial inputs and questions by walks along the decision boundary, with a fixed step."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting
from selfheal_edge.redteam.scenarios.search import bisected, margin, outcome

__all__ = ["ATTACK_BOUNDARY", "opposite"]

_STEPS: Final = 60
_FAMILY: Final = "attack, boundary"


def opposite(start: Real, label: np.ndarray, setting: Setting) -> Real:
    """Return for each sample the nearest of those that the model answers otherwise."""
    source = setting.source(start)
    answers = setting.answers(source).argmax(1)
    unit = np.broadcast_to(setting.domain.unit, start.shape[1:]).reshape(-1)
    points = source.reshape(len(source), -1) / unit
    result = np.array(start)
    for n, sample in enumerate(start.reshape(len(start), -1) / unit):
        other = np.flatnonzero(answers != label[n])
        if len(other):
            distance = ((points[other] - sample) ** 2).sum(1)
            result[n] = source[other[int(distance.argmin())]]
    return result


def _walked(real: Real, setting: Setting) -> Real:
    """Go from a natural sample of another class to the boundary, and along it to the input."""
    attempt = outcome(real, setting)
    other = opposite(real, attempt.label, setting)
    loss = margin(setting.answers(other), attempt.label)
    attempt = bisected(attempt._replace(best=other, loss=loss), setting)
    unit, rng = setting.domain.unit, setting.rng
    best = np.array(attempt.best)
    for _ in range(_STEPS):
        change = best - real
        size = np.sqrt(((change / unit) ** 2).mean(tuple(range(1, real.ndim)), keepdims=True))
        tried = best + 0.2 * setting.column(real) * size * unit * rng.normal(size=real.shape)
        tried = tried + 0.08 * (real - tried)
        holds = margin(setting.answers(tried), attempt.label) < 0
        best[holds] = tried[holds]
    return best


def _asked(real: Real, setting: Setting) -> Real:
    """Ask about points around one sample on the boundary, again and again."""
    attempt = outcome(real[:1], setting)
    other = opposite(real[:1], attempt.label, setting)
    loss = margin(setting.answers(other), attempt.label)
    edge = bisected(attempt._replace(best=other, loss=loss), setting).best
    noise = setting.rng.normal(size=real.shape)
    return np.asarray(edge + 0.1 * setting.column(real) * setting.domain.unit * noise)


ATTACK_BOUNDARY: Final = (
    Scenario(
        "attack, boundary", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "tuning", _walked,
        (0.5, 1.0), is_crafted=True,
    ),
    Scenario(
        "questions, fixed step", Cause.ADVERSARIAL_INPUT, "questions", _FAMILY, "tuning", _asked,
        (0.3, 1.0),
    ),
)  # fmt: skip
