"""How much is checked at each prediction, from what this device takes for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from selfheal_edge.health import DetectionLatency
from selfheal_edge.integrity.weights import Weights
from selfheal_edge.policy import Policy, Verify
from selfheal_edge.tflite.coverage.table import Coverage
from selfheal_edge.tflite.session import Session

__all__ = ["CheckPlan", "plan_checks"]

_RUNS: Final = 5
_SECONDS: Final = 1e-3  # for timing one thing; once is always timed
_SLICE_BLOCKS: Final = 64


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What is checked at each prediction."""

    fast_bytes: int
    """Of the largest image that counts, at each prediction at least."""
    verifying: Verify
    """``"before"`` or ``"around"``: all that executes; ``"budget"``: a slice."""
    executing: frozenset[str]
    """Images whose bytes answers come from; the others are swept as time goes by."""
    all_watched: bool
    """Whether nothing executes from elsewhere."""
    latency: DetectionLatency


def plan_checks(session: Session, weights: Weights, policy: Policy) -> CheckPlan:
    """Settle what is checked at each prediction.

    Where the policy leaves it to a budget, an inference and a check are timed here, some
    milliseconds in all: as much is checked as the budget's share of an inference's time allows. A
    recurrent model, which would remember it, is not timed: `scrub_bytes_per_predict` holds for it.
    """
    table = weights.coverage
    images = weights.images
    named = {row.image for row in table.rows if row.coverage is Coverage.EXECUTING}
    executing = frozenset((named or {"source"}) | {"input"})
    checked = [image for name, image in images.items() if name in executing]
    all_watched = table.worst is Coverage.EXECUTING

    def plan(fast_bytes: int, verifying: Verify, inference: float | None) -> CheckPlan:
        is_swept = executing
        if verifying == "budget" and policy.integrity_budget is None:
            is_swept = frozenset(images)  # a number of bytes is for each image
        predictions: int | None = 0
        if verifying == "budget":
            size = max(image.nbytes for name, image in images.items() if name in is_swept)
            predictions = math.ceil(size / fast_bytes) if fast_bytes else None
        seconds = None if inference is None or predictions is None else predictions * inference
        return CheckPlan(
            fast_bytes, verifying, is_swept, all_watched, DetectionLatency(predictions, seconds)
        )

    if policy.verify != "budget":
        return plan(policy.scrub_bytes_per_predict, policy.verify, None)
    share = policy.integrity_budget
    if share is None:
        return plan(policy.scrub_bytes_per_predict, "budget", None)
    if session.stateful or share == 0:
        return plan(policy.scrub_bytes_per_predict if share else 0, "budget", None)
    inputs = [np.zeros(spec.shape, spec.dtype) for spec in session.instance.inputs]
    run = partial(session.instance.run, inputs)
    inference = _shortest(run)
    allowed = share * inference
    if sum(_after(run, partial(i.image.check, keyed=True)) for i in checked) <= allowed:
        return plan(0, "before", inference)
    largest = max(checked, key=lambda i: i.nbytes)
    blocks = min(largest.image.block_count, _SLICE_BLOCKS)
    size = blocks * largest.image.block_bytes
    seconds_a_byte = _after(run, partial(largest.guard.step, size)) / size
    together = sum(image.nbytes for image in checked) / largest.nbytes
    # Half of the share is for what time paces: images that do not execute, and what guards them.
    fast_bytes = int(allowed / 2 / seconds_a_byte / together)
    return plan(max(1, fast_bytes), "budget", inference)


def _shortest(work: Callable[[], object]) -> float:
    end = time.perf_counter() + _SECONDS
    shortest = math.inf
    for _ in range(_RUNS):
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        shortest = min(shortest, now - start)
        if now >= end:
            break
    return shortest


def _after(run: Callable[[], object], work: Callable[[], object]) -> float:
    """Return what `work` takes right after an inference, which has had the caches for itself.

    The median of a few: the best would be what it takes where all is at hand, as never in service.
    """
    end = time.perf_counter() + _SECONDS
    times = []
    for _ in range(_RUNS):
        run()
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        times.append(now - start)
        if now >= end:
            break
    return sorted(times)[len(times) // 2]
