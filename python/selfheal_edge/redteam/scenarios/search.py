"""What attacks without gradients share: margins, random search over many inputs at once, bisection.

All questions go to the quantised model itself, in batches; every sample of a batch is attacked on
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Real
from selfheal_edge.redteam.scenarios.scenario import Setting

__all__ = [
    "Attempt",
    "Proposal",
    "Rows",
    "bisected",
    "escalated",
    "held",
    "margin",
    "outcome",
    "region",
    "search",
]

_BISECTIONS: Final = 5
_ESCALATION: Final = ((0.25, 1 / 6), (0.5, 1 / 3), (1.0, 1 / 2))
"""Shares of the strength, and of the questions that are spent on it."""

Rows = npt.NDArray[np.int64]


class Attempt(NamedTuple):
    """Where an attack on each of n samples stands."""

    start: Real
    """The samples as they were, shape (n, *axes)."""
    label: Rows
    """What the model answered to them."""
    best: Real
    """The worst found."""
    loss: Real
    """Margin of the old answer at `best`: below 0 the answer has changed."""


Proposal = Callable[[Attempt, Rows, float], Real]
"""Given an attempt, the rows still at work and the share of the budget that is spent: new inputs
for those rows."""


def margin(probabilities: Real, label: Rows) -> Real:
    """Return the probability of `label` less the greatest other one, shape (n,)."""
    rows = np.arange(len(label))
    others = probabilities.copy()
    others[rows, label] = -np.inf
    return np.asarray(probabilities[rows, label] - others.max(1))


def held(real: Real, start: Real, setting: Setting) -> Real:
    """Return inputs held within what was seen in calibration, or the sample itself beyond that."""
    domain = setting.domain
    return np.clip(real, np.minimum(domain.low, start), np.maximum(domain.high, start))


def outcome(start: Real, setting: Setting) -> Attempt:
    """Return an attempt that has not begun; a question a sample."""
    probabilities = setting.answers(start)
    label = np.asarray(probabilities.argmax(1), np.int64)
    return Attempt(start, label, start.copy(), margin(probabilities, label))


def region(rng: np.random.Generator, count: int, axes: tuple[int, ...], share: float) -> Real:
    """Return random masks of 0 and 1, shape (count, *axes), with about `share` of the elements.

    Squares of an image, all colours alike; rectangles of a spectrogram; single features of a
    vector.
    """
    if len(axes) == 1:
        mask = rng.random((count, *axes)) < share
        mask[np.arange(count), rng.integers(axes[0], size=count)] = True
        return mask.astype(np.float64)
    result = np.ones((count, *axes))
    for axis, length in enumerate(axes[:2]):
        side = int(np.clip(round(np.sqrt(share) * length), 1, length))
        first = rng.integers(length - side + 1, size=count)[:, None]
        inside = (np.arange(length) >= first) & (np.arange(length) < first + side)
        result *= inside.reshape(count, *(length if a == axis else 1 for a in range(len(axes))))
    return result


def search(
    attempt: Attempt, setting: Setting, propose: Proposal, budget: int, goal: float = 0.0
) -> Attempt:
    """Try proposals on all samples whose margin is not below `goal`; keep what is no better.

    `budget` questions a sample at most.
    """
    best, loss = attempt.best.copy(), attempt.loss.copy()
    for step in range(budget):
        rows = np.flatnonzero(loss >= goal)
        if len(rows) == 0:
            break
        now = attempt._replace(best=best, loss=loss)
        tried = held(propose(now, rows, step / budget), attempt.start[rows], setting)
        found = margin(setting.answers(tried), attempt.label[rows])
        # A quantised margin has plateaus: moving along them is what gets across.
        is_kept = found <= loss[rows]
        best[rows[is_kept]] = tried[is_kept]
        loss[rows[is_kept]] = found[is_kept]
    return attempt._replace(best=best, loss=loss)


def escalated(
    attempt: Attempt,
    setting: Setting,
    make: Callable[[Setting], Proposal],
    budget: int,
    goal: float = 0.0,
) -> Attempt:
    """Search within a quarter of the strength, then a half, then all of it; then shrink.

    A sample that reaches its goal at one strength is not attacked at the next.
    """
    first = attempt.loss
    for part, share in _ESCALATION:
        weaker = replace(setting, amount=part * setting.amount)
        rows = np.flatnonzero(attempt.loss >= goal)
        best, loss = attempt.best.copy(), attempt.loss.copy()
        best[rows], loss[rows] = attempt.start[rows], first[rows]
        begun = attempt._replace(best=best, loss=loss)
        attempt = search(begun, setting, make(weaker), int(share * budget), goal)
    return bisected(attempt, setting, goal)


def bisected(attempt: Attempt, setting: Setting, goal: float = 0.0) -> Attempt:
    """Shrink what reached its goal towards the sample as it was, as far as it still does."""
    best, loss = attempt.best.copy(), attempt.loss.copy()
    rows = np.flatnonzero(loss < goal)
    if len(rows) == 0:
        return attempt
    start, change = attempt.start[rows], best[rows] - attempt.start[rows]
    least, most = np.zeros(len(rows)), np.ones(len(rows))
    shape = (-1, *([1] * (best.ndim - 1)))
    for _ in range(_BISECTIONS):
        part = (least + most) / 2
        tried = start + part.reshape(shape) * change
        found = margin(setting.answers(tried), attempt.label[rows])
        holds = found < goal
        best[rows[holds]], loss[rows[holds]] = tried[holds], found[holds]
        most, least = np.where(holds, part, most), np.where(holds, least, part)
    return attempt._replace(best=best, loss=loss)
