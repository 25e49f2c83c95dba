"""Label shift: a class triples, classes stay away, or all come in another mix."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.label_draws import class_shares, drawn
from selfheal_edge.redteam.scenarios.scenario import Change, Pace, Scenario, Setting

__all__ = ["LABEL_MIX"]


def _times(real: Real, setting: Setting) -> Real:
    """Let one class come `amount` times as often, no class more than at 90 %."""
    assert setting.labels is not None
    classes, shares = class_shares(setting.labels)
    chosen = setting.rng.integers(len(classes))
    wanted = np.empty(len(real), classes.dtype)
    for n, amount in enumerate(setting.amount):
        now = shares.copy()
        now[chosen] = 0.0
        share = min(max(1.0, amount) * shares[chosen], 0.9)
        now *= (1 - share) / max(now.sum(), 1e-12)
        now[chosen] = 1 - now.sum()
        wanted[n] = setting.rng.choice(classes, p=now)
    return drawn(wanted, setting)


def _few(real: Real, setting: Setting) -> Real:
    """Let `strength` of the classes stay away, at least one and not all."""
    assert setting.labels is not None
    classes, shares = class_shares(setting.labels)
    gone = int(np.clip(round(setting.strength * len(classes)), 1, max(1, len(classes) - 1)))
    kept = setting.rng.permutation(len(classes))[gone:]
    now = np.zeros(len(classes))
    now[kept] = shares[kept]
    return drawn(setting.rng.choice(classes, len(real), p=now / now.sum()), setting)


def _dirichlet(real: Real, setting: Setting) -> Real:
    """Draw another mix; the smaller the strength, the more uneven."""
    assert setting.labels is not None
    classes, _ = class_shares(setting.labels)
    now = setting.rng.dirichlet(np.full(len(classes), setting.strength))
    return drawn(setting.rng.choice(classes, len(real), p=now), setting)


def _scenario(
    kind: str, change: Change, strengths: tuple[float, float], pace: Pace = "sudden"
) -> Scenario:
    return Scenario(
        f"labels, {kind}, {pace}", Cause.LABEL_SHIFT, kind, "labels, mix", "measured", change,
        strengths, pace=pace, needs_labels=True,
    )  # fmt: skip


LABEL_MIX: Final = (
    _scenario("a class triples", _times, (3.0, 3.0)),
    _scenario("a class grows", _times, (4.0, 8.0), "gradual"),
    _scenario("few classes", _few, (0.5, 0.8)),
    _scenario("another mix", _dirichlet, (0.2, 0.6)),
)
"""What three times a class is depends on its share; ten even classes go from 10 to 30 %."""
