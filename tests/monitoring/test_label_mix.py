"""Label shift raises an alarm that names the class, under the one promise of a monitor."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support import Array

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.loop.remembered import Remembered
from selfheal_edge.monitoring.monitor import PerformanceMonitor
from selfheal_edge.monitoring.signals import Measurement

CLASS = 3


@pytest.fixture(scope="module")
def mixed_baseline() -> she.Baseline:
    """Calibrated in the order of a device, at one false alarm in 100,000."""
    inputs = load_digits().calibration_inputs
    order = np.random.default_rng(0).permutation(len(inputs))
    return she.calibrate(digits_model_path(), inputs[order], false_alarm_interval=100_000, seed=1)


def shifted(share: float, count: int, seed: int) -> Array:
    """Return inputs of the same kind with one class at `share`."""
    data = load_digits()
    rng = np.random.default_rng(seed)
    one = np.flatnonzero(data.heldout_labels == CLASS)
    others = np.flatnonzero(data.heldout_labels != CLASS)
    is_one = rng.random(count) < share
    stream: Array = data.heldout_inputs[
        np.where(is_one, rng.choice(one, count), rng.choice(others, count))
    ]
    return stream


@pytest.mark.parametrize(("share", "within"), [(0.9, 60), (0.3, 400)])
def test_a_model_tells_label_shift(mixed_baseline: she.Baseline, share: float, within: int) -> None:
    with she.SelfHealingModel(digits_model_path(), mixed_baseline) as model:
        told: list[tuple[int, she.Alarm]] = []
        for at, x in enumerate(shifted(share, 1500, 2)):
            answer = model.infer(x[np.newaxis])
            assert isinstance(answer, she.Prediction)
            told += [(at, alarm) for alarm in answer.alarms if alarm.signal == "label_mix"]
            if told:
                break
        at, found = told[0]
        assert at <= within
        assert (found.label, found.direction) == (CLASS, 1)
        assert found.detail.startswith(f"class {CLASS} in ")
        assert str(found) == f"label_mix: {found.detail}"
        assert found.earliest <= found.onset <= at + 1
        assert found.statistic >= found.threshold == 1.0


def test_the_promise_is_shared(mixed_baseline: she.Baseline) -> None:
    monitor = PerformanceMonitor(mixed_baseline)
    core = monitor.core
    assert core.bank is not None
    assert core.label_mix is not None
    signals = len(monitor.names)
    rate = signals / (core.bank.arl0 * signals) + 1.0 / core.label_mix.arl0
    assert 1.0 / rate == pytest.approx(mixed_baseline.bank_interval)
    assert core.memory_bytes() > core.bank.memory_bytes() + core.label_mix.memory_bytes()


def used(monitor: PerformanceMonitor, labels: list[int]) -> list[int]:
    """Return where a monitor told that the mix has changed, its signals missing throughout."""
    nothing = (float("nan"),) * len(monitor.names)
    return [
        at
        for at, label in enumerate(labels)
        for alarm in monitor.update(Measurement(nothing, False, 0, label, 1.0))
        if alarm.signal == "label_mix"
    ]


def test_it_is_latched_accepted_and_kept(mixed_baseline: she.Baseline) -> None:
    monitor = PerformanceMonitor(mixed_baseline)
    assert len(used(monitor, [CLASS] * 400)) == 1
    assert monitor.latched == ("label_mix",)
    assert not monitor.settled()
    kept = PerformanceMonitor.from_state(mixed_baseline, monitor.state())
    assert kept.latched == ("label_mix",)
    assert kept.state() == monitor.state()
    monitor.accept()
    assert not monitor.latched
    assert used(monitor, [CLASS] * 400) == []
    assert len(used(kept, [5] * 60)) == 1
    kept.reset()
    assert not kept.latched


def test_an_input_that_repeats_is_not_counted(mixed_baseline: she.Baseline) -> None:
    monitor = PerformanceMonitor(mixed_baseline)
    nothing = (float("nan"),) * len(monitor.names)
    for measurement in (
        Measurement(nothing, True, 0, CLASS, 1.0),
        Measurement(nothing, False, 1, CLASS, 1.0),
        Measurement(nothing, False, 0, None, None, 1),
    ):
        alarms = [alarm for _ in range(300) for alarm in monitor.update(measurement)]
        assert "label_mix" not in {alarm.signal for alarm in alarms}


def test_a_baseline_keeps_it(mixed_baseline: she.Baseline) -> None:
    read = she.Baseline.from_bytes(mixed_baseline.to_bytes())
    assert read.label_mix is not None
    assert mixed_baseline.label_mix is not None
    assert read.label_mix.state() == mixed_baseline.label_mix.state()
    assert read.digest == mixed_baseline.digest


def test_it_may_be_ignored() -> None:
    ignoring = she.calibrate(
        digits_model_path(),
        load_digits().calibration_inputs,
        ignore=("label_mix",),
        false_alarm_interval=100_000,
    )
    assert ignoring.label_mix is None
    assert "label_mix" not in ignoring.left_out
    assert ignoring.arl0.signals == ignoring.bank_interval
    monitor = PerformanceMonitor(ignoring)
    assert monitor.core.label_mix is None
    assert used(monitor, [CLASS] * 400) == []


@pytest.mark.slow
def test_where_it_is_left_out_the_baseline_says_why() -> None:
    data = load_digits()
    sorted_by_class = data.calibration_inputs[np.argsort(data.calibration_labels, kind="stable")]
    baseline = she.calibrate(digits_model_path(), sorted_by_class)
    assert baseline.label_mix is None
    assert baseline.left_out["label_mix"].startswith("labels come in runs, so that ")
    one_class = data.calibration_inputs[data.calibration_labels == CLASS]
    baseline = she.calibrate(digits_model_path(), np.concatenate([one_class] * 3)[:60])
    assert "label_mix" in baseline.left_out


def test_states_of_before_go_on() -> None:
    """A monitor's state of version 2, of which that of today only adds two bytes at the end."""
    core = _core.InferenceMonitor([_core.Reference.normal(0, 1)], 1e5, flat=[], max_repeats=3)
    for n in range(100):
        core.update(np.array([0.01 * n]), n % 7 == 0, 0)
    blob = core.state()
    payload = int.from_bytes(blob[12:20], "little")
    older = bytearray(blob[:-6])
    older[6:8] = (2).to_bytes(2, "little")
    older[12:20] = (payload - 2).to_bytes(8, "little")
    read = _core.InferenceMonitor.from_state(
        bytes(older) + _core.crc32c(older).to_bytes(4, "little")
    )
    assert read.state() == blob
    assert read.label_mix is None


def test_a_pending_alarm_outlives_the_process() -> None:
    alarm = she.Alarm("label_mix", 1, 2.0, 30, 1.1, 1.0, 20, False, CLASS, "class 3 in 90 %")
    kept = Remembered(Remembered().count, pending=(alarm,))
    assert Remembered.from_bytes(kept.to_bytes()).pending == (alarm,)
    older = kept.to_bytes().replace(b',"label":3,"detail":"class 3 in 90 %"', b"")
    (read,) = Remembered.from_bytes(older).pending
    assert (read.signal, read.label, read.detail) == ("label_mix", None, "")
