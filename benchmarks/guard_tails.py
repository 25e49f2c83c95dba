"""How long single calls take while damage is being healed, and whether long runs grow."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import harness
import selfheal_edge as she
from guard_cases import INPUTS, Case, Raw, Serve

MODES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "inline": {},
        "background": {"mode": "background"},
        "background, hot spare": {"mode": "background", "hot_spare": True},
    }
)
PAUSE: Final = 0.005
SEGMENT: Final = 0.25
FEWEST: Final = 10  # samples beyond a percentile, below which it is no figure


class _Flipper:
    """A thread that flips a bit every few milliseconds, here or there or nowhere."""

    def __init__(self, model: she.SelfHealingModel) -> None:
        image = "packed" if "packed" in model.weights.images else "source"
        live = she.redteam.inject(model).memory(image)
        regions = model.weights.images[image].regions.values()
        self._offsets = np.concatenate(
            [np.arange(r.offset, r.offset + r.nbytes) for r in regions if r.kind == "weights"]
        ).tolist()
        self.memory: dict[bool, npt.NDArray[np.uint8]] = {True: live, False: live.copy()}
        self.harms = False
        self.flips = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        draw = np.random.default_rng(0)
        while not self._ended.wait(PAUSE):
            offset = self._offsets[int(draw.integers(len(self._offsets)))]
            harms = self.harms
            self.memory[harms][offset] ^= np.uint8(1 << int(draw.integers(8)))
            self.flips += harms

    def __enter__(self) -> _Flipper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.memory.clear()


def _latencies(serve: Serve, case: Case, place: int, times: list[int]) -> int:
    """Time single calls for a segment; return where in the inputs it ended."""
    inputs, clock = case.inputs, time.perf_counter_ns
    end = clock() + int(SEGMENT * 1e9)
    before = clock()
    while before < end:
        serve(inputs[place])
        after = clock()
        times.append(after - before)
        place = (place + 1) % INPUTS
        before = after
    return place


def _measure(
    case: Case, policy: Mapping[str, Any], seconds: float
) -> tuple[dict[str, Any], int, int]:
    """Return single calls' times by who and what, blocks found, and repairs that did not hold."""
    kinds = ("raw", "calm", "healing")
    times: dict[str, list[int]] = {kind: [] for kind in kinds}
    places = {"raw": 0, "guarded": 0}
    healed = 0
    with case.open(case.baseline, **policy) as model, _Flipper(model) as flipper:
        serves: dict[str, Callable[[Any], object]] = {
            "raw": Raw(case).one,
            "calm": model.predict,
            "healing": model.predict,
        }
        for _ in range(max(1, round(seconds / SEGMENT))):
            for kind in kinds:
                flipper.harms = kind == "healing"
                stream = "raw" if kind == "raw" else "guarded"
                before = model.health.corrupt_blocks
                places[stream] = _latencies(serves[kind], case, places[stream], times[kind])
                flipper.harms = False
                model.wait_healed()
                healed += model.health.corrupt_blocks - before
                if kind == "healing":  # what the sweep has not reached is not the next one's
                    model.weights.scrub()
                    model.wait_healed()
        failed = model.health.failed_repairs
    return {kind: np.asarray(t) / 1e3 for kind, t in times.items()}, healed, failed


def tails(case: Case, seconds: float) -> list[harness.Row]:
    """Rows of p99 and p99.9: healing, calm, and raw, each beside the same second thread."""
    rows = []
    # A repair that meets a new flip fails, and says so with a traceback; here they are counted.
    logging.getLogger("selfheal_edge").setLevel(logging.ERROR)
    for mode, policy in MODES.items():
        times, healed, failed = _measure(case, policy, seconds)
        label = f"{case.label}, {mode}"
        rows += [
            harness.Row(f"{label}: blocks found while timed", healed, "blocks", None, True),
            harness.Row(f"{label}: repairs that did not hold", failed, "repairs", None, False),
        ]
        for name, percent in (("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)):
            if min(map(len, times.values())) * (100.0 - percent) < 100.0 * FEWEST:
                continue
            at = {kind: float(np.percentile(t, percent)) for kind, t in times.items()}
            rows += [
                harness.Row(f"{label}: {name} while healing", at["healing"], "us", None, False),
                harness.Row(f"{label}: {name} calm", at["calm"], "us", None, False),
                harness.Row(f"{label}: {name} raw", at["raw"], "us", None, False),
                harness.Row(
                    f"{label}: {name} while healing / calm",
                    at["healing"] / at["calm"],
                    "ratio",
                    None,
                    False,
                ),
                harness.Row(
                    f"{label}: {name} while healing / raw",
                    at["healing"] / at["raw"],
                    "ratio",
                    None,
                    False,
                ),
            ]
    return rows


def resident_kib() -> float:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


def soak(case: Case, count: int) -> list[harness.Row]:
    """Serve `count` predictions, with damage 200 times on the way, healed in the background.

    Memory is looked at after a hundredth, when all that is made once has been made, and at the end;
    what grows until then is the journal, up to `Policy.max_events`. Alarms here are no false ones:
    damage that shows in the answers before the sweep has found it raises them.
    """
    inputs, expected = case.inputs, []
    with case.open(case.baseline, mode="background") as model:
        serve = model.predict
        injector = she.redteam.inject(model)
        expected = [np.copy(np.asarray(serve(x))) for x in inputs]
        every = max(INPUTS, count // 200)
        warm = max(INPUTS, count // 100)
        before, began = resident_kib(), time.perf_counter()
        settled = before
        done = flips = 0
        while done < count:
            for x in inputs:
                serve(x)
            done += INPUTS
            if done // every > flips:
                flips += 1
                injector.flip_bits(1, seed=flips)
            if done - INPUTS < warm <= done:
                settled = resident_kib()
        took = time.perf_counter() - began
        model.weights.scrub()
        model.wait_healed()
        grown = resident_kib() - settled
        wrong = sum(
            not np.array_equal(np.asarray(serve(x)), y)
            for x, y in zip(inputs, expected, strict=True)
        )
        corrupt = len(model.weights.scrub(repair=False))
        health = model.health
    label = f"{case.label}, soak of {done}"
    return [
        harness.Row(f"{label}: resident at the start", before, "KiB", None, False),
        harness.Row(f"{label}: resident after a hundredth", settled, "KiB", None, False),
        harness.Row(f"{label}: grown since", grown, "KiB", 1024.0, False),
        harness.Row(f"{label}: flips", flips, "flips", None, True),
        harness.Row(f"{label}: blocks found", health.corrupt_blocks, "blocks", None, True),
        harness.Row(f"{label}: blocks corrupt at the end", corrupt, "blocks", 0, False),
        harness.Row(f"{label}: alarms", health.alarms, "alarms", None, False),
        harness.Row(f"{label}: wrong answers at the end", wrong, "answers", 0, False),
        harness.Row(f"{label}: one prediction", took / done * 1e6, "us", None, False),
    ]
