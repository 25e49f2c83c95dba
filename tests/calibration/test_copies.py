"""What learned something can be copied, and sent to another process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.support import Array, stream

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path

COPIERS: tuple[Callable[[Any], Any], ...] = (
    copy.copy,
    copy.deepcopy,
    lambda x: pickle.loads(pickle.dumps(x)),
    lambda x: pickle.loads(pickle.dumps(x, 2)),
)
RNG = np.random.default_rng(0)
ROWS = RNG.normal(0, 1, (900, 3))
ROWS[700:, 1] += 2.0


def bank() -> she.MonitorBank:
    references = [she.Reference(RNG.normal(0, 1, 500)) for _ in range(3)]
    return she.MonitorBank(references, arl0=5_000)


@pytest.mark.parametrize("copier", COPIERS)
def test_a_bank_goes_on_where_it_was(copier: Any) -> None:
    one = bank()
    one.update_many(ROWS[:650])
    other = copier(one)
    assert other.state() == one.state()
    assert np.array_equal(other.update_many(ROWS[650:]), one.update_many(ROWS[650:]))
    assert one.alarms or other.count == 900
    assert other.state() == one.state()


@pytest.mark.parametrize("copier", COPIERS)
def test_small_parts(copier: Any) -> None:
    reference = she.Reference(RNG.normal(0, 1, 500))
    assert copier(reference).state() == reference.state()
    moments = she.Moments(window=5)
    moments.update_many(ROWS[:9, 0].copy())
    assert copier(moments).state() == moments.state()
    for ring in (she.RingBuffer(4), she.RingBuffer(4, dtype="float32")):
        for x in (1.0, 2.5, 3.0):
            ring.push(x)
        assert copier(ring).state() == ring.state()


@pytest.mark.parametrize("copier", COPIERS)
def test_a_baseline_serves_as_before(
    digits_baseline: she.Baseline, samples: Array, copier: Any
) -> None:
    again = copier(digits_baseline)
    assert again.to_bytes() == digits_baseline.to_bytes()
    with she.SelfHealingModel(digits_model_path(), again, seed=0) as model:
        assert model.health.state == "healthy"
        model.predict(samples[0])


@pytest.mark.parametrize("copier", COPIERS[1:])
def test_a_monitor_goes_on_where_it_was(
    digits_baseline: she.Baseline, samples: Array, copier: Any
) -> None:
    one = she.PerformanceMonitor(digits_baseline)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, monitor=one) as model:
        for x in stream(samples, 200):
            model.predict(x)
    other = copier(one)
    assert (other.count, other.names) == (200, one.names)
    assert np.array_equal(other.window, one.window, equal_nan=True)
    assert other.memory_bytes == one.memory_bytes
    row = np.array([r.lowest for r in digits_baseline.references.values()])
    moved = [row + 5 * n for n in range(40)]
    told = [[m.core.update(x, False, 0), m.alarms()] for m in (one, other) for x in moved]
    assert told[:40] == told[40:]
    assert any(raised for raised, _ in told)
    one.reset()
    assert other.window.size != one.window.size  # they share nothing


def measure(part: Any) -> Any:
    """Work in another process: count the alarms that rows raise."""
    if isinstance(part, she.MonitorBank):
        return part.update_many(ROWS).tolist()
    if isinstance(part, she.Reference):
        return part.score(0.3)
    if isinstance(part, she.PerformanceMonitor):
        return part.count, part.names
    return part.model_sha256, sorted(part.references)


@pytest.mark.slow
def test_a_process_pool(digits_baseline: she.Baseline) -> None:
    parts = [
        bank(),
        next(iter(digits_baseline.references.values())),
        she.PerformanceMonitor(digits_baseline),
        digits_baseline,
    ]
    # A process that starts from nothing has only what is sent.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(measure, parts)) == [measure(copy.deepcopy(part)) for part in parts]


def test_a_damaged_state_is_refused() -> None:
    state = bank().__getstate__()
    broken = bytes([*state[:40], state[40] ^ 1, *state[41:]])
    with pytest.raises(ValueError, match="checksum"):
        she.MonitorBank.__new__(she.MonitorBank).__setstate__(broken)
