"""What a caller knows beside a prediction: a temperature, a battery's voltage, a load."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, SupportsFloat

import numpy as np
import numpy.typing as npt

from selfheal_edge.text import quoted

__all__ = ["MOST_NAMES", "ContextLog", "read_context"]

MOST_NAMES: Final = 8
"""Values that one prediction may come with."""
_LONGEST_NAME: Final = 64
_KEPT: Final = 256
"""Predictions, as many as scores are kept of."""


def read_context(context: object) -> dict[str, float]:
    """Return the values of a `context` argument, checked.

    Raises
    ------
    TypeError, ValueError
        Where it is no mapping of at most `MOST_NAMES` names to finite numbers.
    """
    if not isinstance(context, Mapping):
        raise TypeError(
            "context: expected a dict of numbers by name, such as {'temperature': 61.0}, "
            f"got {type(context).__name__}"
        )
    if len(context) > MOST_NAMES:
        raise ValueError(f"context: expected at most {MOST_NAMES} names, got {len(context)}")
    return {_name(name): _number(name, value) for name, value in context.items()}


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"context: expected names that are strings, got {type(name).__name__}")
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise ValueError(
            f"context: expected names of 1 to {_LONGEST_NAME} characters, got {quoted(name)}"
        )
    return name


def _number(name: str, value: Any) -> float:
    if isinstance(value, (str, bytes)) or not isinstance(value, SupportsFloat):
        raise TypeError(
            f"context: expected a number for {quoted(name)}, got {type(value).__name__}"
        )
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"context: expected a number for {quoted(name)}, got {type(value).__name__}"
        ) from None
    if not np.isfinite(number):
        raise ValueError(f"context: expected a finite number for {quoted(name)}, got {number}")
    return number


@dataclass(slots=True)
class _Run:
    """Predictions in a row that came with the same values."""

    first: int
    end: int
    """The first one after them."""
    values: dict[str, float]


class ContextLog:
    """The context of the latest 256 predictions; used under the inference lock.

    Bytes: at most 256 runs of `MOST_NAMES` numbers.
    """

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque(maxlen=_KEPT)

    def begin(self, first: int, count: int, values: dict[str, float]) -> None:
        """Say what the predictions `first` to ``first + count - 1``, still to come, come with."""
        self._runs.append(_Run(first, first + count, values))

    def end(self, number: int) -> None:
        """Say which was the last of them: fewer where one failed."""
        run = self._runs[-1]
        run.end = min(run.end, number + 1)
        while self._runs and self._runs[0].end <= number + 1 - _KEPT:
            self._runs.popleft()

    def latest(self, number: int) -> dict[str, npt.NDArray[np.float64]]:
        """Return the values of the predictions up to `number`.

        Returns
        -------
        dict
            By name: shape (n,) with n = min(256, number), oldest first, NaN where a prediction came
            without. Names that none of them came with are left out.
        """
        count = min(_KEPT, number)
        start = number + 1 - count  # the number of the oldest
        found: dict[str, npt.NDArray[np.float64]] = {}
        for run in self._runs:
            first, end = max(run.first - start, 0), min(run.end - start, count)
            if first >= end:
                continue
            for name, value in run.values.items():
                column = found.get(name)
                if column is None:
                    column = found[name] = np.full(count, np.nan)
                column[first:end] = value
        return found
