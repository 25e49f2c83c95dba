"""Attackers who know the detectors, and keep below them while they mislead the model.

The detectors are known to them in full, the matched control included: an input's fine structure is
taken away and put back mirrored, or permuted; a crafted perturbation loses its effect there, and
these attackers search for perturbations that do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.attack_square import squares
from selfheal_edge.redteam.scenarios.domain import Domain, Real
from selfheal_edge.redteam.scenarios.filters import blurred
from selfheal_edge.redteam.scenarios.scenario import Change, Scenario, Setting
from selfheal_edge.redteam.scenarios.search import Attempt, held, margin, outcome, region, search

__all__ = ["ATTACK_ADAPTIVE"]

_FAMILY: Final = "attack, adaptive"
_CROSSING: Final = 90
_HIDING: Final = 18
"""Proposals after the answer has changed; each costs a question, and one a probe."""
_COMPONENTS: Final = 8

Probe = Callable[[Real], tuple[Real, ...]]
"""Inputs to what a detector makes of them; the model should answer alike."""


def _smoother(domain: Domain, source: Real) -> Callable[[Real], Real]:
    """Return what takes the fine structure away."""
    if domain.kind == "vector":
        scores = (source - domain.centre) / domain.unit
        directions = np.linalg.svd(scores, full_matrices=False)[2][:_COMPONENTS]

        def projected(real: Real) -> Real:
            now = (real - domain.centre) / domain.unit
            return np.asarray(domain.centre + domain.unit * (now @ directions.T @ directions))

        return projected
    axes = (1, 2) if domain.kind == "image" else (1,)
    return lambda real: blurred(real, np.ones(len(real)), axes)


def _matched_control(setting: Setting, source: Real) -> Probe:
    domain = setting.domain
    smooth = _smoother(domain, source)
    size = int(np.prod(domain.axes[:2])) if domain.kind == "image" else int(np.prod(domain.axes))
    order = setting.rng.permutation(size)

    def probe(real: Real) -> tuple[Real, ...]:
        base = smooth(real)
        fine = real - base
        if domain.kind == "vector":
            mirrored = -fine
            permuted = fine[:, order]
        else:
            mirrored = np.flip(fine, (1, 2) if domain.kind == "image" else (1,))
            flat = fine.reshape(len(fine), size, -1)
            permuted = flat[:, order].reshape(fine.shape)
        return base + mirrored, base + permuted

    return probe


def _squeezers(setting: Setting, source: Real) -> Probe:
    domain = setting.domain
    smooth = _smoother(domain, source)
    step = 0.25 * domain.unit

    def probe(real: Real) -> tuple[Real, ...]:
        coarse = domain.low + step * np.rint((real - domain.low) / step)
        return coarse, smooth(real)

    return probe


def _seen(attempt: Attempt, tried: Real, rows: np.ndarray, probe: Probe, setting: Setting) -> Real:
    """Return what the detector makes of inputs: how far the old answer comes back, shape (n,)."""
    label = attempt.label[rows]
    here = margin(setting.answers(tried), label)
    back = [margin(setting.answers(seen), label) for seen in probe(tried)]
    return np.asarray(np.maximum.reduce([b - here + 0.5 * ((b > 0) != (here > 0)) for b in back]))


def _hidden(real: Real, setting: Setting, probe: Probe) -> Real:
    """Cross the boundary, then make the detector see less without coming back."""
    rng, domain = setting.rng, setting.domain
    attempt = search(outcome(real, setting), setting, squares(setting), _CROSSING, -0.05)
    best = np.array(attempt.best)
    rows = np.flatnonzero(attempt.loss < 0)
    if len(rows) == 0:
        return best
    limit = np.broadcast_to(setting.column(real) * domain.unit, real.shape)[rows]
    score = _seen(attempt, best[rows], rows, probe, setting)
    for step in range(_HIDING):
        start, now = real[rows], best[rows]
        if step % 3 == 0:
            tried = start + (now - start) * rng.uniform(
                0.7, 1.0, (len(rows), *[1] * (real.ndim - 1))
            )
        else:
            part = region(rng, len(rows), domain.axes, 0.15)
            tried = np.where(part > 0, start + limit * rng.uniform(-1, 1, real[:1].shape), now)
        tried = held(tried, start, setting)
        found = _seen(attempt, tried, rows, probe, setting)
        holds = (margin(setting.answers(tried), attempt.label[rows]) < 0) & (found < score)
        best[rows[holds]] = tried[holds]
        score = np.where(holds, found, score)
    return best


def _against(make: Callable[[Setting, Real], Probe]) -> Change:
    def change(real: Real, setting: Setting) -> Real:
        return _hidden(real, setting, make(setting, setting.source(real)))

    return change


ATTACK_ADAPTIVE: Final = (
    Scenario(
        "adaptive, matched control", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "measured",
        _against(_matched_control), (0.3, 0.5), is_crafted=True,
    ),
    Scenario(
        "adaptive, squeezers", Cause.ADVERSARIAL_INPUT, "crafted", _FAMILY, "measured",
        _against(_squeezers), (0.3, 0.5), is_crafted=True,
    ),
)  # fmt: skip
