"""Time loops over inputs turn by turn, in windows so short that a machine's moods hit all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

WINDOW_NS: Final = 300_000


@dataclass(frozen=True)
class Timing:
    """Seconds a call in each of many windows."""

    windows: npt.NDArray[np.float64]

    @property
    def median(self) -> float:
        """Of all windows."""
        return float(np.median(self.windows))

    @property
    def least(self) -> float:
        """In the shortest window: what the code takes where nothing disturbs it."""
        return float(self.windows.min())


def ratio_bounds(ours: Timing, theirs: Timing) -> tuple[float, float]:
    """Return 95 % bounds of the median ratio of two windows of the same round.

    By order statistics: how many of n ratios lie below the median is binomial.
    """
    ratios = np.sort(ours.windows / theirs.windows)
    n = len(ratios)
    aside = int(n / 2 - 1.96 * np.sqrt(n) / 2)
    return float(ratios[max(0, aside)]), float(ratios[min(n - 1, n - 1 - aside)])


def take_turns(
    works: Sequence[Callable[[Sequence[T]], None]],
    inputs: Sequence[T],
    seconds: float,
    least_windows: int = 31,
) -> list[Timing]:
    """Measure loops over inputs turn by turn, in windows of about 0.3 ms.

    Every window of each has the same number of calls, and goes on with the inputs where its last
    one ended. The order is drawn anew every round, so that no loop always finds the caches as
    the same neighbour left them.
    """
    for work in works:
        work(inputs)
    start = time.perf_counter_ns()
    works[0](inputs)
    one = (time.perf_counter_ns() - start) / len(inputs)
    calls = max(1, min(len(inputs), round(WINDOW_NS / one)))
    twice = [*inputs, *inputs]
    places = [0] * len(works)
    times: list[list[int]] = [[] for _ in works]
    rng = np.random.default_rng(0)
    gc.collect()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < least_windows:
        for k in rng.permutation(len(works)):
            chunk = twice[places[k] : places[k] + calls]
            places[k] = (places[k] + calls) % len(inputs)
            work = works[k]
            start = time.perf_counter_ns()
            work(chunk)
            times[k].append(time.perf_counter_ns() - start)
    return [Timing(np.asarray(t) / calls / 1e9) for t in times]
