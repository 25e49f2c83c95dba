"""When what needs no chart is an alarm: limits that a calibration supports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["SensorLimits", "flat_limit", "run_limit"]

_LEAST_RUN: Final = 8
_FLAT_SHARE: Final = 0.25
_RARER: Final = 10.0  # than the charts' false alarms, so that these add little to them
_FEWEST: Final = 5  # excesses that the shape of a tail is read from, where there are as many
_FEWEST_RUNS: Final = 3  # that its mean is read from
_FEWEST_BY_CHANCE: Final = 400  # samples from which repetitions are taken for chance
_LEAST_LONG: Final = 150.0
_TRUST: Final = 1e6  # samples times limit, where runs hang together


@dataclass(frozen=True, slots=True)
class SensorLimits:
    """When what needs no chart is an alarm."""

    max_repeats: int
    """Inputs in a row that equal the one before; 0: never."""
    max_frozen: int
    """Answers in a row that equal the one before, to inputs that differ; 0: never."""
    least_spread: Mapping[str, float] = field(default_factory=dict)
    """Below it an input is flat: by the name of its `input_std`."""

    def __post_init__(self) -> None:
        """Refuse numbers that no calibration gives."""
        if self.max_repeats < 0 or self.max_frozen < 0:
            raise ValueError(
                f"limits: expected runs of at least 0, got {self.max_repeats}, {self.max_frozen}"
            )
        for name, least in self.least_spread.items():
            if not 0.0 <= least < math.inf:
                raise ValueError(f"limits: expected spreads from 0 on, got {least} for {name!r}")


def _upper_ratio(count: float) -> float:
    """Return by how much the mean of `count` exponential values may be short of the true one.

    That is count over the 10 % quantile of a gamma distribution of this shape, by Wilson and
    Hilferty: 9.5 for one value, 2.1 for five, 1.1 for a hundred.
    """
    root = 1.0 - 1.0 / (9.0 * count) - 1.2816 / (3.0 * math.sqrt(count))
    return 1.0 / max(root, 0.47) ** 3


def _tail(excesses: npt.NDArray[np.float64], samples: int, interval: float) -> float:
    """Return how far above their threshold excesses reach once in `interval` samples.

    The tail is exponential, with the largest mean that nine calibrations of ten allow, unless the
    excesses spread by more than one of that does: then it is a generalised Pareto's with their
    moments (Hosking and Wallis 1987), whichever reaches farther.
    """
    rate = len(excesses) * interval / samples
    if not rate > 1.0:
        return 0.0
    count = len(excesses)
    mean = float(excesses.mean()) * _upper_ratio(count)
    reach = mean * math.log(rate)
    # Squared coefficient of variation, 1 of an exponential distribution, short in small samples.
    spread = float(excesses.var(ddof=1)) / float(excesses.mean()) ** 2 if count > 1 else 0.0
    if count >= _FEWEST and spread > 1.0:
        shape = 0.5 * (1.0 - 1.0 / (spread * _upper_ratio(count)))
        scale = mean * (1.0 - shape)
        reach = max(reach, scale / shape * (rate**shape - 1.0))
    return reach


def run_limit(flags: npt.NDArray[np.bool_], interval: float) -> int:
    """Return how many in a row are an alarm, given those of calibration, in order; 0: never.

    Parameters
    ----------
    flags
        Whether a sample repeats the one before: shape (n,).
    interval
        Wanted mean number of samples between two false alarms of the whole monitor.

    Notes
    -----
    Chance does not explain how long a slow or coarse sensor repeats itself: its runs do. Their
    tail, exponential or heavier, is read above every length that at least three runs exceed; the
    longest of what follows is the limit, and at least twice the longest run that was
    seen. Where that is longer than `interval`, or more than a quarter of calibration is one run,
    repetition says nothing. Of n samples that repeat twice in a row the limit is at least 1e6 / n,
    since rare long runs may be missing, and a tail may be a power's: a sensor that is stuck is
    found the later, the less of it was seen. Where chance explains what repeats, 150 will do.
    """
    samples = len(flags)
    padded = np.concatenate(([False], flags, [False])).astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    runs = (edges[1::2] - edges[::2]).astype(np.float64)
    if runs.size == 0:
        return _LEAST_RUN
    longest = float(runs.max())
    if longest > samples / 4.0:
        return 0
    limit = max(float(_LEAST_RUN), 2.0 * longest)
    if longest > 1.0:
        least = _TRUST / samples
        limit = max(limit, least if _hangs_together(flags) else min(_LEAST_LONG, least))
    fewest = min(_FEWEST_RUNS, runs.size)
    for threshold in np.unique(np.concatenate(([0.0], runs))):
        above = runs[runs > threshold] - threshold
        if above.size < fewest:
            break
        limit = max(limit, float(threshold) + _tail(above, samples, _RARER * interval))
    return math.ceil(limit) if limit <= interval else 0


def _hangs_together(flags: npt.NDArray[np.bool_]) -> bool:
    """Return whether a repetition follows another one more often than chance has it.

    By half a standard deviation, since what hangs together shows it late; fewer than 400 samples
    tell nothing of it.
    """
    followed = float(np.count_nonzero(flags[:-1]))
    both = np.count_nonzero(flags[1:] & flags[:-1])
    share = float(flags.mean())
    by_chance = followed * share + 0.5 * math.sqrt(followed * share * (1.0 - share))
    return len(flags) < _FEWEST_BY_CHANCE or bool(both > by_chance)


def flat_limit(spreads: npt.NDArray[np.float64], interval: float) -> float | None:
    """Return the spread below which an input is flat; None where flat inputs are normal.

    Parameters
    ----------
    spreads
        Of the inputs of calibration, in order: shape (n,).
    interval
        As for `run_limit`.

    Notes
    -----
    A quarter of the least spread that was seen, or less: what the tail of the logarithms, in bursts
    of which only the least counts, does not reach in `interval`.
    """
    spreads = spreads[np.isfinite(spreads)]
    if spreads.size == 0 or spreads.min() <= 0.0:
        return None
    depth = -np.log(spreads)
    deepest = float(depth.max()) - math.log(_FLAT_SHARE)
    count = min(_FEWEST, spreads.size - 1)
    while 0 < count <= spreads.size // 4:
        threshold = np.partition(depth, -count - 1)[-count - 1]
        is_above = depth > threshold
        starts = np.flatnonzero(is_above & ~np.concatenate(([False], is_above[:-1])))
        if starts.size:
            bursts = np.maximum.reduceat(np.where(is_above, depth, threshold), starts)
            tail = _tail(bursts - threshold, spreads.size, _RARER * interval)
            deepest = max(deepest, float(threshold) + tail)
        count *= 2
    return math.exp(-deepest)
