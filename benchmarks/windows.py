"""Time loops over inputs turn by turn, in windows so short that a machine's moods hit all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

T = TypeVar("T")

WINDOW_NS: Final = 300_000


@dataclass(frozen=True)
class Timing:
    """Seconds a call over many windows."""

    median: float
    least: float
    windows: int


def take_turns(
    works: Sequence[Callable[[Sequence[T]], None]],
    inputs: Sequence[T],
    seconds: float,
    least_windows: int = 31,
) -> list[Timing]:
    """Measure loops over inputs turn by turn, in windows of about 0.3 ms.

    Every window of each has the same number of calls, and goes on with the inputs where its last
    one ended. Who follows whom is drawn anew every round, so that nobody always finds the caches
    as the same neighbour left them.
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
    return [Timing(float(np.median(t)) / calls / 1e9, min(t) / calls / 1e9, len(t)) for t in times]
