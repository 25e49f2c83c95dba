"""Which condition inputs come from: the gate of repairs that belong to one condition.

A repair is made for a condition (night, rain, a noisy street) and harms outside of it. What the
model makes of inputs changes with a repair, so that conditions are told apart by numbers of the
inputs alone. Each condition is known by examples of these. Between two of them, one linear
direction tells best (their difference, divided by the spread within); the logarithm of its
likelihood ratio is summed from input to input, and the sum is let go when it falls below zero.

Those logarithms are scaled so that, over the examples of the condition that serves, a bet of their
exponentials earns nothing. Then the sum reaches the logarithm of an interval at most once in that
many inputs while the condition lasts, whatever the numbers' distribution is (Lorden 1971, with the
examples' own distribution in place of a model).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.errors import IntegrityError

__all__ = [
    "EXAMPLES",
    "MOST_NUMBERS",
    "Condition",
    "Gate",
    "Passage",
    "conditions_from_bytes",
    "conditions_to_bytes",
    "every_kth",
]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

_MAGIC: Final = b"SHEcond1"

EXAMPLES: Final = 64
"""Examples that a condition is known by, at most."""
MOST_NUMBERS: Final = 64
"""Numbers of an input that are used, at most: of more, every k-th."""

_LEAST: Final = 16
_MOST_CONDITIONS: Final = 16
_CLIP: Final = 3.0
_SHRINKAGE: Final = 0.2
_FOLDS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One condition, by examples of its inputs' numbers."""

    name: str
    examples: Singles
    """Shape (n, numbers), n from 16 to 64."""

    @classmethod
    def of(cls, name: str, numbers: npt.NDArray[np.floating]) -> Condition:
        """Return a condition known by examples; of more than 64 they are spread evenly.

        Parameters
        ----------
        name
            What it is called.
        numbers
            Numbers of its inputs: shape (n, numbers), at least 16 finite rows.

        Raises
        ------
        ValueError
            For fewer rows.
        """
        rows = np.asarray(numbers, np.float32)
        if rows.ndim != 2 or not rows.shape[1]:
            raise ValueError(f"numbers: expected shape (n, numbers), got {rows.shape}")
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows) < _LEAST:
            raise ValueError(f"numbers: expected at least {_LEAST} finite rows, got {len(rows)}")
        if len(rows) > EXAMPLES:
            rows = rows[np.linspace(0, len(rows) - 1, EXAMPLES).round().astype(np.intp)]
        return cls(name, np.ascontiguousarray(rows[:, :: every_kth(rows.shape[1])]))

    def same_numbers(self, numbers: npt.NDArray[np.floating]) -> Floats:
        """Return the numbers that examples are made of, float64."""
        rows = np.asarray(numbers, np.float64)
        return rows[:, :: every_kth(rows.shape[1])]


def every_kth(numbers: int) -> int:
    """Return k: of so many numbers of an input, every k-th is used, the first one and so on."""
    return max(1, math.ceil(numbers / MOST_NUMBERS))


def conditions_to_bytes(conditions: Sequence[Condition]) -> bytes:
    """Return what `conditions_from_bytes` takes."""
    parts = [_MAGIC]
    for condition in conditions:
        name = condition.name.encode()
        parts.append(struct.pack("<HHH", len(name), *condition.examples.shape) + name)
        parts.append(condition.examples.astype("<f4").tobytes())
    return b"".join(parts)


def conditions_from_bytes(data: bytes) -> tuple[Condition, ...]:
    """Read what `conditions_to_bytes` returned.

    Raises
    ------
    IntegrityError
        When it is not that.
    """
    found: list[Condition] = []
    try:
        if data[: len(_MAGIC)] != _MAGIC:
            raise ValueError("another format")
        at = len(_MAGIC)
        while at < len(data):
            length, rows, numbers = struct.unpack_from("<HHH", data, at)
            at += 6
            name = data[at : at + length].decode()
            at += length
            end = at + 4 * rows * numbers
            examples = np.frombuffer(data[at:end], "<f4").reshape(rows, numbers)
            found.append(Condition.of(name, examples))
            at = end
        if at != len(data) or len(found) > _MOST_CONDITIONS:
            raise ValueError("another length")
        if len(widths := {c.examples.shape[1] for c in found}) > 1:
            raise ValueError(f"expected the same numbers of all, got {sorted(widths)}")
    except (ValueError, struct.error) as error:
        raise IntegrityError(f"conditions: expected a readable row: {error}") from None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Passage:
    """What a stretch of inputs says of where it comes from."""

    to: int | None
    """Index of the condition that the inputs have come to; None: none of the others."""
    is_open: bool
    """Whether more inputs may still say that it is another one."""


class Gate:
    """Tells which of several conditions inputs come from.

    Parameters
    ----------
    conditions
        At least one, all of the same numbers.
    current
        Index of the one that is served now.
    interval
        Mean number of inputs, at least, between two passages by mistake while it lasts.

    Notes
    -----
    Cost: five solves of as many equations as there are numbers (at most 64) for each other
    condition when it is made, a product an input when it is asked.
    """

    def __init__(
        self, conditions: list[Condition] | tuple[Condition, ...], current: int, interval: float
    ) -> None:
        if not 0 <= current < len(conditions):
            raise ValueError(f"current: expected 0 to {len(conditions) - 1}, got {current}")
        if not 1 < interval < math.inf:
            raise ValueError(f"interval: expected above 1 and finite, got {interval}")
        widths = {c.examples.shape[1] for c in conditions}
        if len(widths) != 1:
            raise ValueError(f"conditions: expected the same numbers of all, got {sorted(widths)}")
        self._current = conditions[current]
        others = [k for k in range(len(conditions)) if k != current]
        self.others: tuple[int, ...] = tuple(others)
        """Indices of the conditions that the core numbers from 0."""
        self.core = _core.ConditionGate(
            widths.pop(),
            [_rival(conditions[current], conditions[k]) for k in others],
            math.log(interval * max(1, len(others))),
        )
        """The same in the core, for the hot path."""

    def passed(self, numbers: npt.NDArray[np.floating]) -> Passage:
        """Return where inputs have come to, oldest first.

        Parameters
        ----------
        numbers
            Of the inputs since an alarm, or since the last passage: shape (n, numbers). Rows that
            are not finite are left out.
        """
        to, is_open = self.core.judge(self._rows(numbers))
        return Passage(None if to is None else self.others[to], is_open)

    def first_passage(self, numbers: npt.NDArray[np.floating]) -> int:
        """Return how many inputs of a stream come until a passage is seen; 0: never.

        Parameters
        ----------
        numbers
            As for `passed`. Each input is looked at, with those before it, 48 in all.
        """
        return self.core.first_passage(self._rows(numbers))

    def _rows(self, numbers: npt.NDArray[np.floating]) -> Floats:
        rows = self._current.same_numbers(numbers)
        return np.ascontiguousarray(rows[np.isfinite(rows).all(axis=1)])


def _rival(
    here: Condition, there: Condition
) -> tuple[list[float], list[float], list[float], float, float, int]:
    """Return what the core tells inputs of one condition by from those of another.

    The logarithm of how much likelier an input is there is scaled by that of examples which the
    direction was not learned from, a part at a time: the direction itself tells its own examples
    apart better than inputs that are to come.
    """
    a, b = here.examples.astype(np.float64), there.examples.astype(np.float64)
    held = [_logs(a[k::_FOLDS], *_direction(_without(a, k), _without(b, k))) for k in range(_FOLDS)]
    direction, centre = _direction(a, b)
    mean = b.mean(axis=0)
    spread = np.maximum(b.std(axis=0), 1e-6 + 1e-3 * np.abs(mean))
    factor = _fair(np.concatenate(held))
    return direction.tolist(), mean.tolist(), spread.tolist(), centre, factor, len(b)


def _without(examples: Floats, fold: int) -> Floats:
    return np.delete(examples, np.s_[fold::_FOLDS], axis=0)


def _direction(a: Floats, b: Floats) -> tuple[Floats, float]:
    """Return what tells two conditions' rows apart best, and where their middle lies on it."""
    centre = (a.mean(axis=0) + b.mean(axis=0)) / 2
    gap = b.mean(axis=0) - a.mean(axis=0)
    within = np.concatenate((a - a.mean(axis=0), b - b.mean(axis=0)))
    scale = np.maximum(within.std(axis=0), 1e-9 + 1e-6 * np.abs(centre))
    unit = within / scale
    width = unit.shape[1]
    share = _SHRINKAGE + (1 - _SHRINKAGE) * width / (width + len(unit))
    correlation = (1 - share) * (unit.T @ unit) / len(unit) + share * np.eye(width)
    direction = np.asarray(np.linalg.solve(correlation, gap / scale) / scale, np.float64)
    return direction, float(centre @ direction)


def _logs(rows: Floats, direction: Floats, centre: float) -> Floats:
    return np.asarray(np.clip(rows @ direction - centre, -_CLIP, _CLIP), np.float64)


def _fair(logs: Floats) -> float:
    """Return the largest factor, at most 1, at which a bet of exp(factor * logs) earns nothing."""
    low, high = 0.0, 1.0
    if _earns(logs, high) <= 1.0:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _earns(logs, middle) <= 1.0 else (low, middle)
    return low


def _earns(logs: Floats, factor: float) -> float:
    """Return the mean of the bet, with one example more that is as bad as the worst but one."""
    earned = np.exp(factor * logs)
    worst = np.sort(earned)[-2:].mean()
    return float((earned.sum() + worst) / (len(earned) + 1))
