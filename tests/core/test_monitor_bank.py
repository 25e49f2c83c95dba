import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples

import selfheal_edge as she
from selfheal_edge import _core

NORMAL = _core.Reference.normal(0.0, 1.0)


def half_on_one_level(rng: np.random.Generator, count: int) -> Any:
    return np.minimum(np.round(rng.standard_normal(count) * 8), 0.0)


def test_thresholds_of_a_known_normal_are_the_integral_equations() -> None:
    for arl0 in (1e3, 1e4, 1e6):
        held = _core.SignalMonitor(NORMAL, arl0=arl0).thresholds
        for k, upper, lower in zip(held["k"], held["upper"], held["lower"], strict=True):
            exact = _core.cusum_threshold(8 * arl0, k, "upper")
            # In run length, 2 k of it: within 2 %.
            assert 2 * k * (upper - exact) == pytest.approx(0, abs=0.02)
            assert lower == pytest.approx(upper, rel=1e-6)


def test_the_promise_is_a_lower_bound_for_a_known_normal() -> None:
    samples = np.random.default_rng(1).standard_normal(3_000_000)
    alarms = _core.SignalMonitor(NORMAL, arl0=1000).update_many(samples)
    assert 1.0 <= len(samples) / len(alarms) / 1000 <= 1.4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "discrete"])
@pytest.mark.parametrize("n0", [800, 10_000])
def test_most_calibrations_keep_the_promise(kind: str, n0: int) -> None:
    rng = np.random.default_rng(5)

    def draw(count: int) -> Any:
        return rng.standard_normal(count) if kind == "normal" else half_on_one_level(rng, count)

    arl0 = 500.0
    kept = 0
    for _ in range(40):
        monitor = _core.SignalMonitor(_core.Reference(draw(n0)), arl0=arl0)
        alarms = monitor.update_many(draw(20_000))
        kept += 20_000 / max(1, len(alarms)) >= arl0
    assert kept >= 36


def test_memory_of_a_signal_is_taken_out() -> None:
    rng = np.random.default_rng(2)

    def draw(count: int) -> Any:
        noise = rng.standard_normal(count)
        out = np.empty(count)
        before = 0.0
        for i, e in enumerate(noise.tolist()):
            before = 0.6 * before + 0.8 * e
            out[i] = before
        return out

    reference = _core.Reference(draw(10_000))
    assert reference.phi == pytest.approx(0.6, abs=0.03)
    alarms = _core.SignalMonitor(reference, arl0=1000).update_many(draw(100_000))
    assert len(alarms) <= 100


@examples(30)
@given(
    seed=st.integers(0, 10**6),
    signals=st.integers(1, 5),
    cut=st.integers(0, 300),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_batch_and_restored_state_equal_one_by_one(
    seed: int, signals: int, cut: int, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0.4, 1.3, (300, signals)).astype(dtype)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    references = [_core.Reference(rng.standard_normal(500)) for _ in range(signals)]
    batch = _core.MonitorBank(references, 50)
    single = _core.MonitorBank(references, 50)
    first = batch.update_many(rows[:cut])
    batch = _core.MonitorBank.from_state(batch.state())
    second = batch.update_many(rows[cut:])
    second[:, 0] += cut
    alarms = []
    for i, row in enumerate(rows):
        if single.update(row):
            alarms += [[i, signal] for signal in single.alarms]
    assert [*first.tolist(), *second.tolist()] == alarms
    assert batch.state() == single.state()
    assert [single.skipped(i) for i in range(signals)] == np.isnan(rows).sum(axis=0).tolist()


def test_a_shift_is_found_named_and_dated() -> None:
    rng = np.random.default_rng(3)
    normal = rng.normal(5.0, 2.0, (5000, 3))
    bank = _core.MonitorBank([_core.Reference(np.ascontiguousarray(c)) for c in normal.T], 1e6)
    rows = rng.normal(5.0, 2.0, (1000, 3))
    rows[500:, 1] -= 3.0
    (update, signal), *_ = bank.update_many(rows[:540]).tolist() or [(0, -1)]
    assert signal == 1
    assert 500 < update < 540
    bank.reset()
    for row in rows:
        if bank.update(row):
            break
    assert bank.alarms == [1]
    assert bank.direction(1) == -1
    assert bank.magnitude(1) == pytest.approx(1.5, abs=0.6)
    earliest, onset = bank.onset_earliest(1), bank.onset(1)
    assert earliest is not None
    assert onset is not None
    assert earliest <= 500 <= onset + 10


def test_few_far_samples_among_normal_ones_are_found() -> None:
    rng = np.random.default_rng(4)
    samples = rng.standard_normal(5000)
    samples[rng.random(5000) < 0.01] = 4.0
    monitor = _core.SignalMonitor(NORMAL, arl0=1e4)
    assert monitor.update_many(samples)[0] < 3000


def test_regimes_have_references_of_their_own() -> None:
    day, night = _core.Reference.normal(20, 1), _core.Reference.normal(5, 1)
    bank = _core.MonitorBank([[day], [night]], 1e4)
    rng = np.random.default_rng(6)
    for _ in range(5):
        bank.regime = 0
        assert len(bank.update_many(rng.normal(20, 1, (200, 1)))) == 0
        bank.regime = 1
        assert len(bank.update_many(rng.normal(5, 1, (200, 1)))) == 0
    bank.regime = 0
    assert len(bank.update_many(rng.normal(5, 1, (20, 1)))) > 0
    with pytest.raises(ValueError, match="regime: expected an integer from 0 to 1, got 2"):
        bank.regime = 2


def test_arguments_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="references: expected at least 1 regime"):
        _core.MonitorBank([], 1e4)
    with pytest.raises(ValueError, match="references: expected regimes of 1 signals, got 2"):
        _core.MonitorBank([[NORMAL], [NORMAL, NORMAL]], 1e4)
    with pytest.raises(ValueError, match="arl0: expected a number from 10 to 1e12"):
        _core.MonitorBank([NORMAL], 5)
    bank = _core.MonitorBank([NORMAL, NORMAL], 1e4)
    with pytest.raises(ValueError, match=r"values: expected 1-D with 2 value\(s\)"):
        bank.update(np.zeros(3))
    with pytest.raises(TypeError, match="values: expected a float32 or float64 array"):
        bank.update(np.zeros(2, np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="signal: expected an integer from 0 to 1, got 2"):
        bank.statistic(2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda: _core.Cusum(0, 1, arl0=1e4),
        lambda: _core.Ewma(0, 1, arl0=1e4),
        lambda: _core.PageHinkley(0, 1, arl0=1e4),
        lambda: _core.PageHinkley(compat="river"),
        lambda: _core.PageHinkley(compat="frouros"),
        _core.Adwin,
        lambda: _core.Kswin(seed=1),
        lambda: _core.SignalMonitor(NORMAL, arl0=1e4),
    ],
)
def test_a_gap_silences_nothing(make: Any, bad: float) -> None:
    detector = make()
    rng = np.random.default_rng(7)
    detector.update_many(rng.standard_normal(400))
    assert detector.update(bad) is False
    assert detector.skipped == 1
    assert len(detector.update_many(10 + rng.standard_normal(400))) > 0


@pytest.mark.parametrize("shift", [0.25, 0.5, 1.0, 3.0])
def test_the_onset_bound_covers_the_start(shift: float) -> None:
    rng = np.random.default_rng(8)
    chart = _core.Cusum(0, 1, k=0.5 * shift, arl0=1e4)
    covered = used = 0
    for _ in range(150):
        chart.reset()
        if len(chart.update_many(rng.standard_normal(500))):
            continue
        for x in (shift + rng.standard_normal(3000)).tolist():
            if chart.update(x):
                break
        used += 1
        covered += (chart.onset_earliest or 0) <= 500
    assert covered / used >= 0.91  # 93 % asked, less two standard errors


def test_a_drift_detector_in_three_lines() -> None:
    normal = np.random.default_rng(9).normal(20.0, 0.5, 10_000)
    detector = she.DriftDetector(normal, false_alarm_interval="30 d", rate_hz=10)
    assert detector.arl0 == 30 * 86_400 * 10
    assert 1.0 < detector.price < 1.1
    assert any(detector.update(21.0) for _ in range(20))
    with pytest.raises(ValueError, match="normal: expected at least 50 finite numbers"):
        she.DriftDetector(normal[:20], false_alarm_interval=1e4)


def with_memory(rng: np.random.Generator, count: int, phi: float) -> Any:
    noise = math.sqrt(1 - phi * phi) * rng.standard_normal(count)
    out = np.empty(count)
    before = rng.standard_normal()
    for i, e in enumerate(noise.tolist()):
        before = phi * before + e
        out[i] = before
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("phi", "n0"), [(0.9, 800), (0.97, 10_000)])
def test_long_memory_keeps_the_promise(phi: float, n0: int) -> None:
    """An error of phi stays in all later samples: at 0.97 sixteen times as long as at 0."""
    rng = np.random.default_rng(12)
    arl0 = 1000.0
    kept = 0
    for _ in range(30):
        monitor = _core.SignalMonitor(_core.Reference(with_memory(rng, n0, phi)), arl0=arl0)
        alarms = monitor.update_many(with_memory(rng, 30_000, phi))
        kept += 30_000 / max(1, len(alarms)) >= arl0
    assert kept >= 27


def test_a_lasting_shift_is_found_in_long_memory() -> None:
    rng = np.random.default_rng(13)
    monitor = _core.SignalMonitor(_core.Reference(with_memory(rng, 10_000, 0.97)), arl0=1e6)
    assert len(monitor.update_many(with_memory(rng, 2000, 0.97))) == 0
    assert len(monitor.update_many(3 + with_memory(rng, 2000, 0.97))) > 0


@pytest.mark.parametrize(("n0", "events"), [(800, 1), (800, 3), (3000, 1), (10_000, 2)])
def test_an_event_as_rare_as_in_the_calibration_keeps_the_promise(n0: int, events: int) -> None:
    """One event is a step so high that thresholds are passed by the first, or by the second."""
    rng = np.random.default_rng(14)
    samples = np.zeros(n0)
    samples[rng.choice(n0, events, replace=False)] = 1.0
    arl0 = 1000.0
    monitor = _core.SignalMonitor(_core.Reference(samples), arl0=arl0)
    count = 400_000
    alarms = monitor.update_many((rng.random(count) < events / n0).astype(float))
    assert count / max(1, len(alarms)) >= arl0
    monitor.reset()
    assert len(monitor.update_many((rng.random(2000) < 0.2).astype(float))) > 0


@pytest.mark.parametrize("shift", [0.25, 0.5, 1.0])
def test_the_onset_bound_covers_a_change_that_is_there_from_the_start(shift: float) -> None:
    """As after an alarm, when a change goes on."""
    rng = np.random.default_rng(15)
    monitor = _core.SignalMonitor(NORMAL, arl0=1e4)
    runs = 600
    covered = 0
    for _ in range(runs):
        start = monitor.count
        while not monitor.update(shift + rng.standard_normal()):
            pass
        covered += monitor.onset_earliest == start
    assert covered / runs >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / runs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wander under noise", "period"])
def test_memory_that_whitening_leaves_is_in_the_thresholds(kind: str) -> None:
    rng = np.random.default_rng(16)
    n0 = 10_000

    def draw(count: int) -> Any:
        if kind == "period":  # 20 of them in the calibration
            phase = 2 * math.pi * (rng.random() + np.arange(count) / 500)
            return np.sin(phase) + rng.standard_normal(count)
        return with_memory(rng, count, 0.9) + rng.standard_normal(count)

    arl0 = 1000.0
    kept = 0
    for _ in range(20):
        monitor = _core.SignalMonitor(_core.Reference(draw(n0)), arl0=arl0)
        kept += 30_000 / max(1, len(monitor.update_many(draw(30_000)))) >= arl0
    assert kept >= 18
    monitor.reset()
    assert len(monitor.update_many(3 + draw(300))) > 0


def test_what_is_masked_or_no_number_is_no_normal_operation() -> None:
    normal = np.random.default_rng(17).normal(20.0, 0.5, 1000)
    wild = np.append(normal, np.full(100, 1e6))
    masked = np.ma.masked_greater(wild, 1e5)
    clean, ours = (she.DriftDetector(n, false_alarm_interval=1e4) for n in (normal, masked))
    assert ours.thresholds["tail_cut"] == clean.thresholds["tail_cut"]
    assert ours.phi == clean.phi
    with pytest.raises(ValueError, match=r"got 0 in shape \(80,\)"):
        she.DriftDetector(np.full(80, np.nan), false_alarm_interval=1e4)
    with pytest.raises(TypeError, match="normal: expected numbers, got list"):
        she.DriftDetector(["a"] * 80, false_alarm_interval=1e4)
