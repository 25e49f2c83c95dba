"""Questions of an attacker who walks along the boundary and adapts his step to the answers."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Scenario, Setting

__all__ = ["ATTACK_QUESTIONS"]

_WALK: Final = 96
"""Questions about one input; then he goes on to the next."""
_BISECTIONS: Final = 8
_WINDOW: Final = 6
"""Answers after which the step is adapted."""
_LEAST_STEP: Final = 0.01


class _Attacker:
    """Asks one question after the other, none twice."""

    def __init__(self, setting: Setting, room: int) -> None:
        self._setting = setting
        self._room = room
        self._seen: set[bytes] = set()
        self.asked: list[Real] = []

    @property
    def is_done(self) -> bool:
        return len(self.asked) >= self._room

    def ask(self, point: Real) -> tuple[int, Real]:
        """Return the answer, and what was asked: `point`, or beside it where that was asked."""
        setting = self._setting
        size = 0.01
        while (key := setting.domain.raw(point[None]).tobytes()) in self._seen:
            point = point + size * setting.domain.unit * setting.rng.normal(size=point.shape)
            size *= 2
        self._seen.add(key)
        self.asked.append(point)
        return int(setting.answers(point[None])[0].argmax()), point


def _walk(attacker: _Attacker, setting: Setting, source: Real) -> None:
    """Ask `_WALK` questions about one sample."""
    rng, domain = setting.rng, setting.domain
    last = len(attacker.asked) + _WALK
    start = source[rng.integers(len(source))]
    label, start = attacker.ask(start)
    edge = source[rng.integers(len(source))]
    answer, edge = attacker.ask(edge)
    while answer == label and len(attacker.asked) < last and not attacker.is_done:
        answer, edge = attacker.ask(source[rng.integers(len(source))])
    inside = start
    for _ in range(_BISECTIONS):
        if attacker.is_done or answer == label:
            return
        middle = (inside + edge) / 2
        found, middle = attacker.ask(middle)
        inside, edge = (middle, edge) if found == label else (inside, middle)
    step, pull = setting.strength, 0.2
    crossed: list[bool] = []
    while len(attacker.asked) < last and not attacker.is_done:
        away = (edge - start) / domain.unit
        size = float(np.sqrt(np.mean(away**2)))
        noise = rng.normal(size=edge.shape)
        noise -= away * float(np.sum(noise * away)) / max(float(np.sum(away**2)), 1e-12)
        tried = edge + max(step * size, _LEAST_STEP) * domain.unit * noise
        tried = domain.inside(tried + pull * (start - tried))
        found, tried = attacker.ask(tried)
        if found != label:
            edge = tried
        crossed.append(found != label)
        if len(crossed) == _WINDOW:
            # About half of the questions should cross: then the boundary is flat at this scale.
            share = float(np.mean(crossed))
            step *= 1.5 if share > 0.6 else 0.67 if share < 0.3 else 1.0
            pull *= 1.3 if share > 0.6 else 0.7 if share < 0.3 else 1.0
            pull = min(pull, 0.5)
            crossed.clear()


def _questions(real: Real, setting: Setting) -> Real:
    """Return the questions in the order in which they are asked."""
    attacker = _Attacker(setting, len(real))
    source = setting.source(real)
    while not attacker.is_done:
        _walk(attacker, setting, source)
    return np.stack(attacker.asked[: len(real)])


ATTACK_QUESTIONS: Final = (
    Scenario(
        "questions, adaptive step", Cause.ADVERSARIAL_INPUT, "questions", "attack, questions",
        "measured", _questions, (0.1, 0.4),
    ),
)  # fmt: skip
"""After Brendel, Rauber and Bethge, "Decision-Based Adversarial Attacks" (ICLR 2018)."""
