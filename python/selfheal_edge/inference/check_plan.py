"""How much is checked at each prediction, from what this device takes for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from selfheal_edge.health import DetectionLatency
from selfheal_edge.integrity.guarded_image import GuardedImage
from selfheal_edge.integrity.weights import Weights
from selfheal_edge.policy import Policy, Verify
from selfheal_edge.tflite.coverage.table import Coverage

__all__ = ["CheckPlan", "Timing", "plan_checks"]

_SECONDS: Final = 2e-3  # for timing one way; two rounds are always timed, after one to warm up
_LEAST: Final = 2
_MOST: Final = 64
_FASTEST: Final = 1e-12  # seconds a byte, whatever a coarse clock says
_LEAST_SHARE: Final = 4  # of the budget is for checks, whatever signals and charts take
_ROW_BYTES: Final = 16 * 512  # that the core checks at once


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that the parts of one inference took."""

    model: float
    """Copying in, running, copying out."""
    checking: float
    beside: float
    """Signals and charts."""
    call: float
    """All of it, called from Python."""


Probe: TypeAlias = Callable[[Sequence[GuardedImage], int | None], Callable[[], Timing]]
"""Makes what serves one inference, leaves no trace of it, and times it: with all bytes of these
images checked (None), or as many of the largest of them."""


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What is checked at each prediction."""

    live_bytes: int
    """Of the largest image that counts, at each prediction at least."""
    is_swept: bool
    """Whether live bytes are swept at predictions at all."""
    verifying: Verify
    """``"before"`` or ``"around"``: all that executes; ``"budget"``: a slice."""
    executing: frozenset[str]
    """Images whose bytes answers come from; the others are swept as time goes by."""
    all_watched: bool
    """Whether nothing executes from elsewhere."""
    latency: DetectionLatency


def plan_checks(weights: Weights, policy: Policy, probe: Probe) -> CheckPlan:
    """Settle what is checked at each prediction.

    Where the policy leaves it to a budget, inferences are timed here on known questions, with all
    that surrounds them and all bytes checked, some milliseconds in all: what the budget leaves
    beside signals and charts is for checking.
    """
    table = weights.coverage
    images = weights.images
    named = {row.image for row in table.rows if row.coverage is Coverage.EXECUTING}
    executing = frozenset((named or {"source"}) | {"input"})
    checked = [image for name, image in images.items() if name in executing]
    all_watched = table.worst is Coverage.EXECUTING

    def plan(live_bytes: int, verifying: Verify, inference: float | None = None) -> CheckPlan:
        is_swept = executing
        if policy.scrub_bytes_per_predict is not None:
            is_swept = frozenset(images)  # a number of bytes is for each image
        predictions: int | None = 0
        if verifying == "budget":
            block = next(iter(images.values())).image.block_bytes
            swept = (image.guard for name, image in images.items() if name in is_swept)
            size = max(guard.live_blocks * block for guard in swept)
            # Less than a block a prediction gathers until it is one: that is how late a round is.
            late = max(0, block - live_bytes)
            predictions = math.ceil((size + late) / live_bytes) if live_bytes else None
        seconds = None if inference is None or predictions is None else predictions * inference
        return CheckPlan(
            live_bytes,
            policy.scrub_bytes_per_predict != 0 and policy.integrity_budget != 0,
            verifying,
            is_swept,
            all_watched,
            DetectionLatency(predictions, seconds),
        )

    if policy.verify != "budget":
        return plan(0, policy.verify)
    if policy.scrub_bytes_per_predict is not None:
        return plan(policy.scrub_bytes_per_predict, "budget")
    if policy.integrity_budget == 0:
        return plan(0, "budget")
    rows = _timed(probe(checked, None))
    model = _usual(row.model for row in rows)
    # Raw calls are three where `predict` is one, each with an array to look at: measured at 1.5 to
    # 1.6 times its cost, they leave half of it to what surrounds the model.
    call = min(row.call - row.model - row.checking - row.beside for row in rows)
    beside = _usual(row.beside for row in rows) - max(0.0, call) / 2
    budget = policy.integrity_budget * model
    # Where signals and charts take more than their share, a row is checked now and then.
    left = max(budget / _LEAST_SHARE, budget - beside)
    checking = _usual(row.checking for row in rows)
    if checking <= left:
        return plan(0, "before", model)
    largest = max(image.nbytes for image in checked)
    # Rows here and there take longer than all of them in order: timed as they will be checked.
    size = max(min(largest, _ROW_BYTES), int(largest * left / max(_FASTEST, checking)))
    live_bytes = size * left / max(_FASTEST * size, _mean(probe(checked, size)))
    return plan(max(1, int(live_bytes)), "budget", model)


def _usual(seconds: Iterable[float]) -> float:
    """Return the lower quartile: what disturbs the machine only ever adds."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 4]


def _mean(infer: Callable[[], Timing]) -> float:
    """Return the mean of what checking takes, without those that were interrupted."""
    seconds = sorted(row.checking for row in _timed(infer))
    calm = seconds[: -(len(seconds) // 8) or None]
    return sum(calm) / len(calm)


def _timed(infer: Callable[[], Timing]) -> list[Timing]:
    infer()
    end = time.perf_counter() + _SECONDS
    rows: list[Timing] = []
    while len(rows) < _LEAST or (len(rows) < _MOST and time.perf_counter() < end):
        rows.append(infer())
    return rows
