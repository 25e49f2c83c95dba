"""Feedback that contradicts answers: how much of it, from whom, and who agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from selfheal_edge.diagnosis.feedback import Feedback

__all__ = ["Contradictions", "contradictions_of"]

LEAST: Final = 32
"""Fewer labels say too little."""
_EACH: Final = 4
_SLIPS: Final = 0.06  # of people who answer: 0.8 to 12.7 % are published
_UNCERTAIN: Final = 1.25  # a calibration's own error rate is known to a quarter
_FALSE: Final = 1 / 625
"""How often, at most, honest labels look like a changed meaning, and likewise like one source's
poison, where they contradict answers as often as is explained. With a look every 16 labels each is
expected once in 10,000 labels at most, and either is found less often
(`benchmarks/diagnosis_feedback.py`)."""
_EXCESS_IF_AGREED: Final = 1.0  # standard errors above what the model's own errors give
_AGREED: Final = 0.5
_ENOUGH: Final = 8
_NEIGHBOURS: Final = 6


@dataclass(frozen=True, slots=True)
class Contradictions:
    """What a set of labels shows."""

    items: int
    rate: float
    """Share of ordinary inputs whose label contradicts the answer."""
    expected: float
    """How often labels contradict answers by themselves: the model's errors and people's slips."""
    excess: float
    """By how many standard errors that is more than the model's own errors explain."""
    chance: float
    """How likely so many are where that is how often labels contradict: exact, binomial."""
    sources: tuple[str, ...]
    """In the order of their first label."""
    rates: tuple[float, ...]
    """Each source's own."""
    apart: float
    """By how many standard errors the most contradicting source stands out from the others."""
    apart_chance: float
    """How likely one of the sources would have so many of all contradictions, or more, if each
    label contradicted as likely as any other: exact (Fisher), times the sources compared."""
    suspect: str
    """That source."""
    support: float
    """Of its contradictions, the share that other sources' labels nearby confirm; NaN if none is
    near enough to tell."""
    agreement: float
    """Of all contradictions, the share that other sources' labels nearby confirm; NaN likewise."""
    only_errors: bool
    """Whether hardly a label agrees: errors alone are reported, and no rate can be told."""


def contradictions_of(feedback: Sequence[Feedback], error_rate: float) -> Contradictions | None:
    """Count contradictions by source.

    Parameters
    ----------
    feedback
        Labels, oldest first; those on inputs that do not look ordinary are left out, where the
        model may be wrong for another reason.
    error_rate
        How often answers are wrong by themselves, from calibration.
    """
    items = [one for one in feedback if one.is_ordinary]
    if len(items) < LEAST:
        return None
    wrong = np.array([not one.correct for one in items])
    names = tuple(dict.fromkeys(one.source for one in items))
    of = np.array([names.index(one.source) for one in items])
    rates = tuple(float(wrong[of == n].mean()) for n in range(len(names)))
    expected = max(_UNCERTAIN * error_rate + _SLIPS, 1 / len(items))
    excess = (wrong.mean() - expected) / math.sqrt(expected * (1 - expected) / len(items))
    total = int(wrong.sum())
    apart, apart_chance, suspect, compared = 0.0, 1.0, names[0], 0
    for n, name in enumerate(names):
        mine = wrong[of == n]
        others = len(items) - len(mine)
        if len(mine) < _EACH or others < _EACH:
            continue
        compared += 1
        chance = _chance_of_share(int(mine.sum()), len(mine), total, len(items))
        if chance < apart_chance:
            pooled = (total + 1) / (len(items) + 2)
            error = math.sqrt(pooled * (1 - pooled) * (1 / len(mine) + 1 / others))
            apart = float(mine.mean() - (total - mine.sum()) / others) / error
            apart_chance, suspect = chance, name
    return Contradictions(
        len(items),
        float(wrong.mean()),
        expected,
        float(excess),
        _chance_of(total, len(items), expected),
        names,
        rates,
        apart,
        min(1.0, max(1, compared) * apart_chance),
        suspect,
        _support(items, [suspect]),
        _support(items, names),
        bool(wrong.mean() > 0.95),
    )


def is_excessive(found: Contradictions) -> bool:
    """Whether labels contradict answers more often than the model's own errors explain.

    Fewer are enough where sources agree on what is right instead: slips do not.
    """
    is_agreed = found.agreement >= _AGREED and found.rate * found.items >= _ENOUGH
    return found.chance <= _FALSE or (is_agreed and found.excess >= _EXCESS_IF_AGREED)


def stands_out(found: Contradictions) -> bool:
    """Whether one source contradicts far more often than the others, and than is usual."""
    own = found.rates[found.sources.index(found.suspect)]
    return found.apart_chance <= _FALSE and own > 2 * found.expected


def _chance_of(count: int, n: int, p: float) -> float:
    """Return how likely at least `count` of n are, each with the chance p."""
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(count, n + 1))


def _chance_of_share(count: int, size: int, total: int, n: int) -> float:
    """Return how likely at least `count` of the `total` that are marked lie in `size` of n."""
    ways = sum(
        math.comb(total, k) * math.comb(n - total, size - k)
        for k in range(count, min(size, total) + 1)
    )
    return ways / math.comb(n, size)


def _support(items: Sequence[Feedback], suspects: Sequence[str]) -> float:
    """Return how often others' labels near contradictions of these sources say the same."""
    found = [_support_of(items, suspect) for suspect in suspects]
    agreeing = [share for shares in found for share in shares]
    return float(np.mean(agreeing)) if agreeing else math.nan


def _support_of(items: Sequence[Feedback], suspect: str) -> list[float]:
    others = [one for one in items if one.source != suspect and one.embedding is not None]
    mine = [
        one
        for one in items
        if one.source == suspect and not one.correct and one.embedding is not None
    ]
    if not mine or len(others) < _NEIGHBOURS:
        return []
    places = np.stack([one.embedding for one in others if one.embedding is not None])
    scale = places.std(axis=0) + 1e-6
    agreeing = []
    for one in mine:
        assert one.embedding is not None
        away = np.square((places - one.embedding) / scale).sum(axis=1)
        near = [others[n] for n in np.argsort(away)[:_NEIGHBOURS]]
        same = [other for other in near if other.predicted == one.predicted]
        if same:
            agreeing.append(float(np.mean([other.label == one.label for other in same])))
    return agreeing
