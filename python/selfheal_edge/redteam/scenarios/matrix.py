"""The confusion matrix of what was named."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.redteam.scenarios.observed import Observed

__all__ = ["COLUMNS", "ROWS", "Matrix", "confusion"]

_HEALTHY: Final = "healthy"
_OTHER: Final = "other"
_NOTHING_MOVED: Final = "nothing moved"
"""The kind of an unknown cause that says so: as a false alarm looks."""
ROWS: Final[tuple[str, ...]] = (
    _HEALTHY,
    Cause.SENSOR_FAULT.value,
    Cause.COVARIATE_DRIFT.value,
    Cause.LABEL_SHIFT.value,
    Cause.ADVERSARIAL_INPUT.value,
)
"""The five hard causes."""
COLUMNS: Final[tuple[str, ...]] = (*ROWS, Cause.UNKNOWN.value, _OTHER)
"""What may be named; "healthy" is that nothing stands, or that nothing has moved."""


def _truth(seen: Observed) -> str:
    return _HEALTHY if seen.scenario.cause is None else seen.scenario.cause.value


def _named(seen: Observed, at: int) -> str:
    """Return what was named, the truth where another cause is as right."""
    cause, kind = seen.verdicts[at].cause, seen.verdicts[at].kind
    if cause is Cause.UNKNOWN and kind == _NOTHING_MOVED:
        return _HEALTHY
    if cause is not None and seen.scenario.is_right(cause):
        return _truth(seen)
    if cause is None:
        return _HEALTHY
    return cause.value if cause.value in COLUMNS else _OTHER


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """What was named, a row for each true cause.

    Of faults, drifts and attacks those count that raised an alarm after the onset and none before
    it; healthy streams count all.
    """

    counts: npt.NDArray[np.int64]
    """Shape (len(ROWS), len(COLUMNS))."""
    streams: npt.NDArray[np.int64]
    """How many there were of each true cause, those without an alarm among them."""
    at: int

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """Share that was named rightly, a row each; not a number where there is none."""
        totals = self.counts.sum(1)
        return np.asarray(np.diagonal(self.counts) / np.where(totals > 0, totals, np.nan))

    @property
    def alarms(self) -> npt.NDArray[np.float64]:
        """Share of streams in the matrix; of healthy ones, share of which something was said."""
        shares = self.counts.sum(1) / np.where(self.streams > 0, self.streams, np.nan)
        shares[0] = 1 - self.recall[0]
        return np.asarray(shares)

    @property
    def macro_f1(self) -> float:
        """Mean over the rows that have streams of the harmonic mean of recall and precision."""
        scores = []
        for n in range(len(ROWS)):
            right = int(self.counts[n, n])
            total = int(self.counts[n].sum()) + int(self.counts[:, n].sum())
            if self.counts[n].sum() > 0:
                scores.append(2 * right / total)
        return float(np.mean(scores)) if scores else math.nan

    def text(self) -> str:
        """Return the matrix as a table of plain characters."""
        short = [_short(name) for name in COLUMNS]
        lines = [
            f"{'true / named':14}" + "".join(f"{name:>11}" for name in short) + "   recall  alarms"
        ]
        for n, name in enumerate(ROWS):
            cells = "".join(f"{count:11d}" for count in self.counts[n])
            lines.append(
                f"{_short(name):14}{cells}{_percent(self.recall[n]):>9}{_percent(self.alarms[n]):>8}"
            )
        return "\n".join(lines)


def _short(name: str) -> str:
    return {Cause.ADVERSARIAL_INPUT.value: "attack"}.get(name, name.split("_", maxsplit=1)[0])


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def confusion(seen: Iterable[Observed], at: int) -> Matrix:
    """Count what stood `at` predictions after the onset."""
    counts = np.zeros((len(ROWS), len(COLUMNS)), np.int64)
    streams = np.zeros(len(ROWS), np.int64)
    for one in seen:
        row = ROWS.index(_truth(one))
        if one.is_early and row > 0:
            continue  # what stands may be of the false alarm
        streams[row] += 1
        if row == 0 or one.verdicts[at].is_alarmed:
            counts[row, COLUMNS.index(_named(one, at))] += 1
    return Matrix(counts, streams, at)
