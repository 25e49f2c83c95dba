"""A monitor is solved for once a baseline, and begins anew each time."""

from __future__ import annotations

import gc
import weakref

import pytest

import selfheal_edge as she
from selfheal_edge.monitoring.monitor import PerformanceMonitor
from selfheal_edge.monitoring.signals import Measurement


def copy_of(baseline: she.Baseline) -> she.Baseline:
    return she.Baseline.from_bytes(baseline.to_bytes())


def used(monitor: PerformanceMonitor) -> PerformanceMonitor:
    far = (1e9,) * len(monitor.names)
    for _ in range(50):
        monitor.update(Measurement(far, False, 0, None, None))
    return monitor


@pytest.mark.parametrize("latch", [True, False])
def test_begins_anew(digits_baseline: she.Baseline, latch: bool) -> None:
    baseline = copy_of(digits_baseline)
    first = PerformanceMonitor(baseline, latch=latch)
    begin = first.core.state()
    used(first)
    assert first.core.state() != begin
    assert PerformanceMonitor(baseline, latch=latch).core.state() == begin
    assert PerformanceMonitor(copy_of(baseline), latch=latch).core.state() == begin
    assert PerformanceMonitor(baseline, latch=not latch).core.state() != begin


def test_solved_for_once(digits_baseline: she.Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = copy_of(digits_baseline)
    used(PerformanceMonitor(baseline))

    def solve(*_: object) -> None:
        raise AssertionError("solved for thresholds again")

    monkeypatch.setattr(PerformanceMonitor, "_solved", solve)
    assert PerformanceMonitor(baseline).count == 0


def test_what_is_kept_goes_with_the_baseline(digits_baseline: she.Baseline) -> None:
    baseline = copy_of(digits_baseline)
    PerformanceMonitor(baseline)
    gone = weakref.ref(baseline)
    del baseline
    gc.collect()
    assert gone() is None
