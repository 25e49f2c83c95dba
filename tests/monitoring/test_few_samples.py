"""The count of few samples among many: its run length, its promise, and what it finds."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Array, examples

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.monitoring.few_samples import (
    FEW_RATE,
    SMALL_MARGINS,
    FewSamples,
    learn_few,
    log_run,
)

Floats = npt.NDArray[np.float64]
INTERVAL = 1e5


def solved(share: float, rise: int, limit: int) -> float:
    """Return the mean run length from zero, of the chain's equations."""
    chain = np.eye(limit + 1)
    for level in range(limit + 1):
        chain[level, max(level - 1, 0)] -= 1.0 - share
        if level + rise <= limit:
            chain[level, level + rise] -= share
    return float(np.linalg.solve(chain, np.ones(limit + 1))[0])


@given(share=st.floats(0.005, 0.3), rise=st.integers(1, 30), more=st.integers(0, 40))
@examples(80)
def test_the_run_length_is_exact(share: float, rise: int, more: int) -> None:
    wanted = solved(share, rise, rise + more)
    if wanted < 1e9:  # beyond it the equations lose their digits
        assert log_run(share, rise, rise + more) == pytest.approx(math.log(wanted), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [200, 600, 4000])
def test_nine_calibrations_of_ten_keep_the_promise(samples: int) -> None:
    """The true share beyond the cut is known here: values are uniform."""
    rng = np.random.default_rng(samples)
    kept = []
    for _ in range(200):
        chart = learn_few("margin", rng.random(samples), INTERVAL)
        assert chart is not None
        true = chart.cut * (1.0 - chart.cut)  # where runs begin
        kept.append(log_run(true, chart.rise, chart.limit) >= math.log(INTERVAL))
    assert np.mean(kept) >= 0.86  # 0.9 less two standard errors of 200


def test_what_calibration_cannot_support_is_left_out() -> None:
    assert learn_few("margin", np.zeros(300), INTERVAL) is not None  # less was never seen
    assert learn_few("margin", np.full(300, np.nan), INTERVAL) is None
    assert learn_few("margin", np.linspace(0, 1, 20), INTERVAL) is None
    tied = np.repeat([0.0, 0.5], [100, 400])
    chart = learn_few("margin", tied, INTERVAL)
    assert chart is not None
    assert chart.share == 0.0  # ties are ordinary
    assert not (tied < chart.cut).any()


def test_the_core_counts_as_it_says() -> None:
    """Against the obvious loop, with and without a latch; states go on bit for bit."""
    rng = np.random.default_rng(4)
    few = (0, -1.5, 7, 40)
    for latch in (False, True):
        reference = [_core.Reference.normal(0, 1)]
        monitor = _core.InferenceMonitor(
            reference, 1e9, flat=[], max_repeats=0, latch=latch, few=[few]
        )
        level, beyond, held, told, calm = 0, False, False, 0, 0
        for n in range(3000):
            share = 0.3 if 500 < n < 800 or n > 2500 else 0.02
            x = -2.0 if rng.random() < share else rng.choice([0.0, np.nan])
            was = beyond
            beyond = x < few[1]
            is_told = False
            calm = 0 if beyond else calm + 1
            if not beyond:
                level = max(0, level - 1)
                held = held and level > 0
            elif not was:
                level = min(level + few[2], few[3] + few[2])
                if level > few[3]:
                    is_told, held = not held, True
                    if not latch:
                        level, held = 0, False
            raised = monitor.update(np.array([x]), False, 0)
            assert (monitor.few_alarms == [0]) is is_told
            assert monitor.few_counts[0][0] == level
            assert monitor.few_counts[0][3] is held
            assert raised or not is_told
            told += is_told
            if held and calm < 64:
                assert not monitor.settled()
            if n % 211 == 0:
                monitor = _core.InferenceMonitor.from_state(monitor.state())
        assert told >= (2 if latch else 4)
        level_before, since, begun, _ = monitor.few_counts[0]
        assert level_before == 0 or 1 <= begun <= 3000 - since
        monitor.accept()
        monitor.reset()
        assert monitor.few_counts == [(0, 0, 0, False)]


def test_what_is_no_count_is_refused() -> None:
    reference = [_core.Reference.normal(0, 1)]
    for few in [(1, 0.0, 1, 2), (0, math.nan, 1, 2), (0, 0.0, 0, 2), (0, 0.0, 3, 2)]:
        with pytest.raises(ValueError, match="few: expected"):
            _core.InferenceMonitor(reference, 1e6, flat=[], max_repeats=0, few=[few])
    with pytest.raises(ValueError, match="few samples: expected a chart, got"):
        FewSamples("margin", 0.1, 5, 4, 0.01)


@pytest.fixture(scope="module")
def baseline() -> she.Baseline:
    digits = load_digits()
    return she.calibrate(
        digits_model_path(), digits.calibration_inputs, false_alarm_interval=INTERVAL, seed=1
    )


def near_the_boundary(model: she.SelfHealingModel, x: Array) -> Array:
    """Return mixtures of two inputs with other answers, just over the decision boundary."""
    labels = [label_of(model, one) for one in x]
    found = []
    for first, second in zip(range(len(x)), range(1, len(x)), strict=False):
        if labels[first] == labels[second]:
            continue
        low, high = 0.0, 1.0
        for _ in range(8):
            part = 0.5 * (low + high)
            mixed = mix(x[first], x[second], part)
            low, high = (low, part) if label_of(model, mixed) != labels[first] else (part, high)
        found.append(mix(x[first], x[second], high))
    return np.stack(found)


def mix(a: Array, b: Array, part: float) -> Array:
    return np.rint((1.0 - part) * a.astype(float) + part * b.astype(float)).astype(a.dtype)


def label_of(model: she.SelfHealingModel, x: Array) -> int | None:
    found = model.infer(x[np.newaxis])
    assert isinstance(found, she.Prediction)
    return found.label


@pytest.mark.slow
def test_five_in_a_hundred_just_over_the_boundary_raise_an_alarm(baseline: she.Baseline) -> None:
    x = load_digits().heldout_inputs
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1) as model:
        crafted = near_the_boundary(model, x[:60])
    rng = np.random.default_rng(6)
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1) as model:
        stream = x[rng.integers(len(x), size=1500)]
        is_bad = (rng.random(1500) < 0.05) & (np.arange(1500) >= 500)
        stream[is_bad] = crafted[rng.integers(len(crafted), size=int(is_bad.sum()))]
        served = model.infer(stream)
        assert isinstance(served, she.Predictions)
        raised = [(n, alarm) for n, row in enumerate(served.alarms) for alarm in row]
        (first, alarm), *_ = [(n, a) for n, a in raised if a.signal == SMALL_MARGINS]
        assert first > 500
        assert 300 < alarm.onset <= first
        assert alarm.statistic > 3 * alarm.threshold
        assert "nearer to a decision boundary" in str(alarm)
        assert sum(a.signal == SMALL_MARGINS for _, a in raised) == 1  # told once
    clean = x[rng.integers(len(x), size=1500)]
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1) as model:
        quiet = model.infer(clean)
        assert isinstance(quiet, she.Predictions)
        assert not any(quiet.alarms)


def test_it_is_kept_with_the_baseline_and_can_be_left_out(baseline: she.Baseline) -> None:
    assert [kind.signal for kind in baseline.few] == ["margin"]
    assert baseline.bank_interval == pytest.approx(INTERVAL / (1.0 - FEW_RATE))
    again = she.Baseline.from_bytes(baseline.to_bytes())
    assert again.few == baseline.few
    assert again.digest == baseline.digest
    digits = load_digits()
    without = she.calibrate(
        digits_model_path(),
        digits.calibration_inputs,
        false_alarm_interval=INTERVAL,
        ignore=(SMALL_MARGINS,),
        seed=1,
    )
    assert without.few == ()
    assert without.bank_interval == INTERVAL
    assert without.digest != baseline.digest
    monitor = she.PerformanceMonitor(without)
    with pytest.raises(_core.StateError, match="state: expected that of a monitor"):
        she.PerformanceMonitor.from_state(baseline, monitor.state())
