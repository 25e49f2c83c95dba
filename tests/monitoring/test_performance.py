"""What `health.performance` says, on real models."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import SHARED, Array, examples, flip

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.accuracy_chart import AccuracyChart, run_length
from selfheal_edge.monitoring.estimate import estimate_performance, reconstruction
from selfheal_edge.monitoring.labelled import LabelledAnswers
from selfheal_edge.monitoring.recent import RecentSamples
from selfheal_edge.tflite.runtimes.protocol import TensorSpec


@pytest.fixture(scope="module")
def labelled(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


def barred(inputs: Array, rows: int = 4) -> Array:
    """Return images with every so many rows inked, as no change of calibration's is."""
    changed: Array = inputs.copy()
    changed[:, ::rows] = 127
    return changed


def test_a_healthy_stream_does_as_in_calibration(
    labelled: she.Baseline, digits: DigitsData
) -> None:
    with she.SelfHealingModel(digits_model_path(), labelled) as model:
        nothing = model.health.performance
        assert not nothing.is_estimable
        assert nothing.expected == labelled.accuracy
        answers = model.predict(digits.heldout_inputs[:256])
        assert isinstance(answers, np.ndarray)
        found = model.health.performance
    truth = np.mean(answers.argmax(axis=1) == digits.heldout_labels[:256])
    assert found.basis == "confidences"
    assert found.samples == 256
    assert found.low is not None
    assert found.high is not None
    assert found.low <= truth <= found.high
    assert found.high - found.low < 0.25
    assert not found.is_worse


def test_a_drift_of_a_kind_that_calibration_did_not_make(
    labelled: she.Baseline, digits: DigitsData
) -> None:
    with she.SelfHealingModel(digits_model_path(), labelled) as model:
        answers = model.predict(barred(digits.heldout_inputs[:256]))
        assert isinstance(answers, np.ndarray)
        found = model.health.performance
        assert model.health.trouble not in (None, she.Cause.WEIGHT_CORRUPTION)
        told = json.loads(json.dumps(model.health.to_dict(), default=str))["performance"]
    truth = np.mean(answers.argmax(axis=1) == digits.heldout_labels[:256])
    assert found.estimate is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= truth <= found.high
    assert found.is_worse
    assert told["estimate"] == found.estimate
    assert told["is_worse"] is True


def test_an_attack_makes_it_say_nothing(labelled: she.Baseline, digits: DigitsData) -> None:
    class Suspicious:
        def diagnose(self, symptoms: Symptoms) -> Diagnosis:
            assert symptoms.alarms
            return Diagnosis(she.Cause.ADVERSARIAL_INPUT, 0.9)

    with she.SelfHealingModel(digits_model_path(), labelled, diagnoser=Suspicious()) as model:
        model.predict(barred(digits.heldout_inputs[:256]))
        assert model.health.trouble is she.Cause.ADVERSARIAL_INPUT
        found = model.health.performance
    assert not found.is_estimable
    assert "made to look sure" in found.text


def test_without_labels_it_says_what_is_missing(digits: DigitsData) -> None:
    baseline = she.calibrate(digits_model_path(), digits.calibration_inputs[:100], seed=0)
    with she.SelfHealingModel(digits_model_path(), baseline) as model:
        model.predict(digits.heldout_inputs[:100])
        assert "calibration had no labels" in model.health.performance.text
    assert "calibration had no labels" in model.health.performance.text  # closed, it still answers


@pytest.mark.slow
def test_without_an_embedding_confidences_alone(digits: DigitsData) -> None:
    baseline = she.calibrate(
        digits_model_path(),
        digits.calibration_inputs,
        digits.calibration_labels,
        embedding=False,
        seed=0,
    )
    with she.SelfHealingModel(digits_model_path(), baseline) as model:
        answers = model.predict(barred(digits.heldout_inputs[:256], 8))
        assert isinstance(answers, np.ndarray)
        found = model.health.performance
    truth = np.mean(answers.argmax(axis=1) == digits.heldout_labels[:256])
    assert found.low is not None
    assert found.high is not None
    assert found.low <= truth <= found.high


def test_labels_from_feedback_sharpen_it(labelled: she.Baseline, digits: DigitsData) -> None:
    """Recorded feedback: 32 labels of a window that was drawn at random."""
    model = labelled.correctness
    assert model is not None
    inputs = barred(digits.heldout_inputs, 3)
    with she.SelfHealingModel(digits_model_path(), labelled) as served:
        answers = served.predict(inputs[:256])
        assert isinstance(answers, np.ndarray)
        recent = parts_of(served).extractor.recent()
        spec, tap = served.outputs, parts_of(served).session.instance.taps[0]
    right = answers.argmax(axis=1) == digits.heldout_labels[:256]
    alone = estimate_performance(labelled, recent, {}, spec, tap)
    assert alone.low is not None
    assert alone.high is not None
    errors = []
    for seed in range(40):
        asked = np.random.default_rng(seed).permutation(256)[:32]
        told = LabelledAnswers(right[asked])
        found = estimate_performance(labelled, recent, {}, spec, tap, told)
        assert found.estimate is not None
        assert found.low is not None
        assert found.high is not None
        assert found.high - found.low < alone.high - alone.low
        assert found.basis == "confidences and feedback"
        errors.append(abs(found.estimate - right.mean()))
    assert np.mean(errors) <= 0.06
    empty = RecentSamples((), None, None, np.empty(0, np.int64))
    found = estimate_performance(labelled, empty, {}, spec, tap, LabelledAnswers(right[:32]))
    assert found.basis == "feedback"


def test_damage_makes_it_say_nothing(labelled: she.Baseline, digits: DigitsData) -> None:
    policy = she.Policy(responses={she.Cause.WEIGHT_CORRUPTION: ("mark_untrusted",)})
    with she.SelfHealingModel(digits_model_path(), labelled, policy=policy) as model:
        model.predict(digits.heldout_inputs[:100])
        flip(model, 1000, 0x55)
        model.weights.scrub()
        if model.health.trouble is None:
            pytest.skip("this damage was healed at once")
        assert "damaged" in model.health.performance.text


# ---- Autoencoders


@examples(30)
@given(st.integers(0, 1000))
def test_the_reconstruction_error_is_told_from_its_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = _core.Reference(rng.gamma(4.0, 2.0, 2000))
    errors = rng.gamma(4.0, 2.0, 256)
    found = reconstruction(reference, reference.score_many(errors))
    assert found.estimate == pytest.approx(errors.mean(), rel=0.02)
    assert found.expected == pytest.approx(8.0, rel=0.1)
    worse = reconstruction(reference, reference.score_many(1.5 * errors))
    assert worse.is_worse
    assert worse.estimate == pytest.approx(1.5 * errors.mean(), rel=0.05)


def test_a_constant_reconstruction_error() -> None:
    reference = _core.Reference(np.zeros(100))
    found = reconstruction(reference, reference.score_many(np.zeros(64)))
    assert found.estimate == pytest.approx(0.0, abs=1e-6)
    assert not reconstruction(reference, np.full(64, np.nan)).is_estimable


@pytest.mark.slow
def test_a_real_autoencoder() -> None:
    path = SHARED / "ad_autoencoder_int8.tflite"
    clip_path = SHARED.parent / "data" / "ad_normal_clip_float32_200x128.bin"
    if not path.exists() or not clip_path.exists():
        pytest.skip("the shared models are not here")
    clip = np.fromfile(clip_path, np.float32).reshape(200, 128)
    frames = np.stack([clip[i : i + 5].reshape(-1) for i in range(196)])
    baseline = she.calibrate(path, frames, seed=0)
    with she.SelfHealingModel(path, baseline) as model:
        model.predict(frames)
        usual = model.health.performance
        assert usual.measure == "reconstruction error"
        assert usual.estimate == pytest.approx(usual.expected, rel=0.05)
        model.predict(np.repeat(frames[:64] + 30.0, 4, axis=0))
        assert model.health.performance.is_worse


def test_a_number_made_of_a_number_is_no_reconstruction() -> None:
    path = SHARED / "hello_world_int8.tflite"
    if not path.exists():
        pytest.skip("the shared models are not here")
    angles = np.random.default_rng(0).uniform(0, 6, (200, 1)).astype(np.float32)
    with she.SelfHealingModel(path, she.calibrate(path, angles, seed=0)) as model:
        model.predict(angles)
        found = model.health.performance
    assert found.measure == "mean absolute error"
    assert "calibrated without targets" in found.text


def test_a_regressors_error_is_calibrations_while_it_is_served_the_like() -> None:
    path = SHARED / "hello_world_int8.tflite"
    if not path.exists():
        pytest.skip("the shared models are not here")
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 6.28, (400, 1)).astype(np.float32)
    baseline = she.calibrate(path, angles, np.sin(angles), seed=0)
    assert baseline.error is not None
    assert baseline.error.samples == 400
    assert she.Baseline.from_bytes(baseline.to_bytes()).error == baseline.error
    others = rng.uniform(0, 6.28, (256, 1)).astype(np.float32)
    with she.SelfHealingModel(path, baseline) as model:
        answers = model.predict(others)
        assert isinstance(answers, np.ndarray)
        found = model.health.performance
        truth = float(np.abs(answers - np.sin(others)).mean())
        assert found.measure == "mean absolute error"
        assert found.basis == "calibration"
        assert found.low is not None
        assert found.high is not None
        assert found.low <= truth <= found.high
        model.predict(rng.uniform(3.0, 3.2, (256, 1)).astype(np.float32))
        moved = model.health.performance
    assert not moved.is_estimable
    assert moved.expected == baseline.error.mean
    assert "not those of calibration" in moved.text


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        (np.zeros((60, 2)), r"real targets of 1 number\(s\) for each input"),
        (np.full(60, np.nan), "finite targets"),
        (np.zeros(59), "labels: expected 60 targets, one per input"),
    ],
)
def test_targets_that_are_none(targets: Array, match: str) -> None:
    path = SHARED / "hello_world_int8.tflite"
    if not path.exists():
        pytest.skip("the shared models are not here")
    with pytest.raises(ValueError, match=match):
        she.calibrate(path, np.zeros((60, 1), np.float32), targets)


def test_large_answers_are_not_kept(labelled: she.Baseline) -> None:
    recent = RecentSamples((), None, None, np.zeros(100, np.int64))
    spec = TensorSpec("y", (1, 10), np.dtype(np.int8), 1 / 256, -128)
    found = estimate_performance(labelled, recent, {}, [spec], None)
    assert "more than 4 KiB" in found.text


# ---- The chart on labels


def simulated(chart: AccuracyChart, errors: float, runs: int, seed: int) -> float:
    """Return the mean number of labels to an alarm, of many charts side by side."""
    rng = np.random.default_rng(seed)
    sums, lengths, alive = np.zeros(runs), np.zeros(runs), np.ones(runs, bool)
    rise, fall = chart.steps
    while alive.any():
        lengths[alive] += 1
        wrong = rng.random(runs) < errors
        sums = np.maximum(0, sums + np.where(wrong, rise, -fall))
        alive &= sums < chart.limit
    return float(lengths.mean())


@pytest.mark.parametrize("accuracy", [0.95, 0.85, 0.6])
def test_its_run_length_is_exact(accuracy: float) -> None:
    chart = AccuracyChart(accuracy, 600, interval=300)
    exact = run_length(chart.errors, chart.steps, chart.limit)
    assert exact >= 300
    assert run_length(chart.errors, chart.steps, chart.limit - 1) < 300
    found = simulated(chart, chart.errors, 3000, 1)
    assert found == pytest.approx(exact, rel=6 / math.sqrt(3000))


def test_the_chart_is_what_was_simulated() -> None:
    chart = AccuracyChart(0.9, 400, interval=1000)
    right = np.random.default_rng(0).random(3000) < 0.8
    total, told = 0, []
    for is_right in right.tolist():
        total = max(0, total + (-chart.steps[1] if is_right else chart.steps[0]))
        told.append(total >= chart.limit)
        assert chart.update(is_right) is told[-1]
        assert chart.statistic == pytest.approx(total / chart.limit)
        total = 0 if told[-1] else total
    assert sum(told) > 5


def test_nine_of_ten_calibrations_keep_the_promise() -> None:
    kept = []
    for seed in range(60):
        seen = np.random.default_rng(seed).binomial(200, 0.9) / 200
        chart = AccuracyChart(seen, 200, interval=1000)
        kept.append(run_length(0.1, chart.steps, chart.limit) >= 1000)
    assert np.mean(kept) >= 0.85


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"accuracy": 0.1}, "accuracy: expected above 0.2"),
        ({"accuracy": math.nan}, "accuracy: expected above 0.2"),
        ({"samples": 0}, "samples: expected at least 1"),
        ({"interval": 10}, "interval: expected 100 to 1e7"),
        ({"drop": 0.0}, "drop: expected above 0"),
        (
            {"accuracy": 0.99, "samples": 10**7, "interval": 1e7, "drop": 0.0001},
            "a larger drop needs less",
        ),
    ],
)
def test_charts_that_cannot_be(changes: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        AccuracyChart(**{"accuracy": 0.9, "samples": 100, **changes})  # type: ignore[arg-type]
