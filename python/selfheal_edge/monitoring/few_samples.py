"""A chart for few samples of a kind among many others, such as crafted inputs in a stream.

A sample counts when a signal lies beyond what all but a handful of calibration's samples reached.
How often such samples begin is known from calibration no better than a few events allow
(Clopper and Pearson 1934); between that share and two in a hundred more a Bernoulli CUSUM (Reynolds
and Stoumbos 1999) decides, whose run length follows exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["FEW_RATE", "SMALL_MARGINS", "FewSamples", "learn_few", "log_run"]

SMALL_MARGINS: Final = "small_margins"
"""Name of the alarm."""
FEW_RATE: Final = 0.1
"""Its part of the false alarms that are allowed."""

_SOUGHT: Final = 0.02
"""Share of samples to be found fastest, beside what calibration leaves possible."""
_FEWEST: Final = 3
"""Samples of calibration that lie beyond the cut, at most; of many, one in 200."""
_MORE: Final = 200
_DOUBT: Final = 0.1
"""Share of calibrations that may show so few events by luck."""
_LARGEST_SHARE: Final = 0.1
_LARGEST_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class FewSamples:
    """A count of samples below a cut: + `rise` where a run of them begins, - 1 for others."""

    signal: str
    cut: float
    """A sample counts below it."""
    rise: int
    limit: int
    """The count above which it is an alarm."""
    share: float
    """Of calibration's samples, at which a run began."""

    def __post_init__(self) -> None:
        """Refuse what `learn_few` cannot have made."""
        is_known = math.isfinite(self.cut) and 0.0 <= self.share <= _LARGEST_SHARE
        if not is_known or not 1 <= self.rise <= self.limit <= _LARGEST_LIMIT:
            raise ValueError(f"few samples: expected a chart, got {self}")


def learn_few(signal: str, column: npt.NDArray[np.float64], interval: float) -> FewSamples | None:
    """Return a chart with a false alarm every `interval` samples at most often.

    Parameters
    ----------
    signal
        Its name.
    column
        Its values in calibration, in order: shape (n,); NaN counts as an ordinary sample.
    interval
        Wanted mean number of samples between false alarms, for 90 % of calibrations. Samples may
        come in runs; runs may not gather.

    Returns
    -------
    FewSamples or None
        None where calibration cannot support one: too few samples, or too many equal ones at the
        end that matters.
    """
    samples = len(column)
    known = np.sort(column[np.isfinite(column)])
    most = max(_FEWEST, samples // _MORE)
    if len(known) <= most:
        return None
    # Ties are on the side of what is ordinary.
    above = known[most]
    below = known[known < above]
    cut = float(above if not len(below) else 0.5 * (below[-1] + above))
    if not len(below):
        cut = float(np.nextafter(above, -math.inf))
    is_beyond = np.nan_to_num(column, nan=math.inf) < cut
    begun = int(np.count_nonzero(is_beyond[1:] & ~is_beyond[:-1]) + is_beyond[0])
    share = _largest_share(begun, samples)
    if share > _LARGEST_SHARE:
        return None
    sought = share + _SOUGHT
    gain = math.log(sought / share)
    rise = max(1, round(gain / -math.log((1.0 - sought) / (1.0 - share))))
    limit = _solve(share, rise, math.log(interval))
    return None if limit is None else FewSamples(signal, cut, rise, limit, begun / samples)


def _largest_share(count: int, samples: int) -> float:
    """Return the share that shows `count` or fewer of `samples` in `_DOUBT` of calibrations."""
    low, high = count / samples, 1.0
    for _ in range(50):
        p = 0.5 * (low + high)
        term = samples * math.log1p(-p)
        total = math.exp(term)
        for k in range(1, count + 1):
            term += math.log((samples - k + 1) / k) + math.log(p) - math.log1p(-p)
            total += math.exp(term)
        low, high = (p, high) if total > _DOUBT else (low, p)
    return high


def log_run(share: float, rise: int, limit: int) -> float:
    """Return the log of the mean run length from zero, of independent samples.

    A level is left downwards by one step at a time, so that all follows from the levels above:
    the chance to come down by one before an alarm, and the time until either. Exact up to a mean
    run of about 1e14, infinite some way beyond.
    """
    safe = np.zeros(limit + 2)  # log of the chance to come from the top down to below this level
    spent = np.zeros(limit + 2)  # times, weighted by that, summed from the top
    for level in range(limit, -1, -1):
        up = level + rise
        if up > limit:
            alarm, time = 1.0, 0.0
        else:
            alarm = -math.expm1(safe[level + 1] - safe[up + 1])
            time = (spent[level + 1] - spent[up + 1]) / math.exp(safe[up + 1])
        if level == 0:
            if alarm <= 0.0:  # lost beside the chances of the levels above
                return math.inf
            return math.log1p(share * time) - math.log(share) - math.log(alarm)
        back = 1.0 - share * (1.0 - alarm)
        spent[level] = spent[level + 1] + (1.0 + share * time) / back * math.exp(safe[level + 1])
        safe[level] = safe[level + 1] + math.log1p(-share * alarm / back)
    raise AssertionError("a limit below zero")


def _solve(share: float, rise: int, log_interval: float) -> int | None:
    low, high = rise - 1, 2 * rise
    while log_run(share, rise, high) < log_interval:
        low, high = high, 2 * high
        if high > _LARGEST_LIMIT:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if log_run(share, rise, middle) >= log_interval else (middle, high)
        )
    return high
