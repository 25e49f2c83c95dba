"""An accuracy that is told from the answers alone, and with labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.calibration.correctness import Judged, fit_correctness
from selfheal_edge.monitoring.correctness import Answers, CorrectnessModel, Guess, read_answers
from selfheal_edge.monitoring.labelled import (
    LabelledAnswers,
    accuracy_with_labels,
    error_with_labels,
)
from selfheal_edge.tflite.runtimes.protocol import TensorSpec

_FLOAT = TensorSpec("y", (1, 3), np.dtype(np.float32), 0.0, 0)
_INT8 = TensorSpec("y", (1, 3), np.dtype(np.int8), 1 / 256, -128)


def slow_distance(a: list[float], b: list[float]) -> float:
    """Return the largest difference of two distribution functions, by the definition."""
    at = [*a, *b]
    share = [abs(sum(x <= t for x in a) / len(a) - sum(x <= t for x in b) / len(b)) for t in at]
    return max(share)


def made(n: int, seed: int, *, away: float = 0.0) -> Judged:
    """Return answers that are right the more often the surer and the nearer they are."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(3.0 - away, 1.5, n)
    log_distance = rng.normal(0.5 * away, 0.5, n)
    chance = 1 / (1 + np.exp(-(log_odds - 1.5 * log_distance)))
    answers = Answers(log_odds, log_distance, rng.integers(0, 4, n))
    return Judged(answers, rng.random(n) < chance)


def fitted(seed: int = 0) -> CorrectnessModel:
    changed = {
        name: [made(85, seed + 10 * k + n, away=away) for n, away in enumerate((0.5, 1.0, 2.0))]
        for k, name in enumerate("abc", start=1)
    }
    return fit_correctness(made(600, seed), changed, np.random.default_rng(seed))


def test_what_is_read_from_answers() -> None:
    outputs = np.array([[0.1, 0.8, 0.1], [0.5, 0.25, 0.25], [np.nan, 0.5, 0.5]], np.float32)
    found = read_answers(outputs, _FLOAT, "probabilities")
    np.testing.assert_allclose(found.log_odds[:2], [math.log(4.0), 0.0], atol=1e-6)
    assert found.labels.tolist() == [1, 0, -1]
    assert found.log_odds[2] == -np.inf
    assert np.isnan(found.log_distance).all()
    logits = read_answers(np.log(outputs[:2]), _FLOAT, "logits")
    np.testing.assert_allclose(logits.log_odds, found.log_odds[:2], atol=1e-5)


def test_an_int8_answer_is_never_surer_than_half_a_step() -> None:
    found = read_answers(np.array([[127, -128, -128]], np.int8), _INT8, "probabilities")
    assert found.log_odds[0] == pytest.approx(math.log(255 / 1.0), abs=1e-6)
    sure = read_answers(
        np.array([[127, -128]], np.int8),
        TensorSpec("y", (1, 2), np.dtype(np.int8), 1 / 255, -128),
        "probabilities",
    )
    assert sure.log_odds[0] == pytest.approx(math.log(2 * 255), abs=1e-6)


def test_a_single_sigmoid_has_two_classes() -> None:
    spec = TensorSpec("y", (1, 1), np.dtype(np.float32), 0.0, 0)
    found = read_answers(np.array([[0.2], [0.9]], np.float32), spec, "probabilities")
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_allclose(found.log_odds, [math.log(4), math.log(9)], rtol=1e-5)


@pytest.mark.slow
@examples(100)
@given(st.data())
def test_the_shift_is_a_distance_of_distribution_functions(data: st.DataObject) -> None:
    number = st.floats(-5, 5)
    model = fitted()
    log_odds = data.draw(st.lists(number, min_size=1, max_size=30))
    answers = Answers(
        np.array(log_odds), np.full(len(log_odds), np.nan), np.zeros(len(log_odds), np.int64)
    )
    slow = slow_distance(model.log_odds.tolist(), log_odds)
    assert model.shift(answers) == pytest.approx(slow, abs=1e-12)


def test_the_fit_leaves_no_slope() -> None:
    """The gradient of the penalised likelihood is zero where Newton's steps end."""
    clean = made(600, 3)
    model = fit_correctness(clean, {}, np.random.default_rng(0))
    z = CorrectnessModel.standardised(clean.answers, model.centre, model.spread)
    design = np.column_stack([np.ones(len(z)), z])
    gradient = design.T @ (clean.right - model.chances(clean.answers))
    gradient -= np.array([1e-3, 1.0, 1.0, 10.0]) * model.coefficients
    assert np.abs(gradient).max() < 1e-6


def test_all_right_is_no_trouble_for_the_fit() -> None:
    clean = made(200, 1)
    model = fit_correctness(Judged(clean.answers, np.ones(200, bool)), {}, np.random.default_rng(0))
    assert model.guess(clean.answers).accuracy > 0.97


def test_accuracy_is_told_where_it_falls() -> None:
    model = fitted()
    for away in (0.0, 0.75, 1.5, 2.5):
        window = made(256, 99, away=away)
        found = model.estimate(window.answers)
        truth = window.right.mean()
        assert found.estimate is not None
        assert found.low is not None
        assert found.high is not None
        assert abs(found.estimate - truth) < 0.06
        assert found.low <= truth <= found.high
    assert found.is_worse
    assert "by the confidences of the latest 256 answers" in str(found)


def test_the_interval_widens_with_the_shift() -> None:
    model = fitted()
    wide = [
        found.high - found.low
        for found in (model.guess(made(256, 5, away=away).answers) for away in (0.0, 1.0, 3.0))
    ]
    assert wide == sorted(wide)


def test_few_answers_say_nothing() -> None:
    found = fitted().estimate(made(15, 0).answers)
    assert not found.is_estimable
    assert not found.is_worse
    assert "15 of at least 16 inferences" in found.text
    assert found.to_dict()["estimate"] is None


def test_arrays_and_back() -> None:
    model = fitted()
    again = CorrectnessModel.from_arrays(model.to_arrays())
    window = made(64, 8).answers
    assert again.guess(window)[:3] == model.guess(window)[:3]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("coefficients", np.zeros(3)),
        ("coefficients", np.full(4, np.nan)),
        ("spread", np.zeros(2)),
        ("class_distance", np.zeros(0)),
        ("accuracy", np.array(1.5)),
        ("error_ratio", np.zeros(2)),
    ],
)
def test_arrays_that_no_fit_gives(part: str, value: object) -> None:
    arrays = fitted().to_arrays()
    arrays[part] = np.asarray(value)
    with pytest.raises((ValueError, TypeError)):
        CorrectnessModel.from_arrays(arrays)


# ---- With labels


@examples(60)
@given(st.integers(8, 64), st.integers(0, 1000))
def test_labels_alone(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.8
    found = accuracy_with_labels(LabelledAnswers(right), expected=0.9)
    assert found.estimate == pytest.approx(right.mean())
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low < found.high <= 1
    assert found.labels == n
    assert found.basis == "feedback"


def test_32_labels_bring_a_wrong_guess_near_the_truth() -> None:
    """Mean error within five points, and nine of ten intervals right, for guesses 10 points off."""
    rng = np.random.default_rng(0)
    errors, held = [], []
    for _ in range(400):
        truth = rng.uniform(0.5, 0.95)
        chances = np.clip(rng.normal(truth + rng.choice((-0.1, 0.1)), 0.2, 256), 0.02, 0.98)
        right = rng.random(256) < np.clip(chances + truth - chances.mean(), 0, 1)
        guess = Guess(float(chances.mean()), chances.mean() - 0.2, chances.mean() + 0.2, chances)
        asked = rng.permutation(256)[:32]
        found = accuracy_with_labels(LabelledAnswers(right[asked], chances[asked]), guess)
        assert found.estimate is not None
        assert found.low is not None
        assert found.high is not None
        errors.append(abs(found.estimate - right.mean()))
        held.append(found.low <= right.mean() <= found.high)
    assert np.mean(errors) <= 0.05
    assert np.mean(held) >= 0.88


def test_labels_that_do_not_suffice() -> None:
    found = accuracy_with_labels(LabelledAnswers(np.ones(7, bool)))
    assert "7 of at least 8 labels" in found.text
    with pytest.raises(ValueError, match="expected 8 chances from 0 to 1"):
        accuracy_with_labels(LabelledAnswers(np.ones(8, bool), np.ones(7)))
    with pytest.raises(ValueError, match="expected 8 chances from 0 to 1"):
        accuracy_with_labels(LabelledAnswers(np.ones(8, bool), np.full(8, np.nan)))


def test_errors_of_a_regressor() -> None:
    found = error_with_labels(np.array([1.0, 2.0] * 8), expected=0.5)
    assert found.estimate == 1.5
    assert found.is_worse
    assert found.measure == "mean absolute error"
    assert not error_with_labels(np.ones(3)).is_estimable
    with pytest.raises(ValueError, match="errors: expected finite numbers"):
        error_with_labels(np.full(8, -1.0))


# ---- On the real model


@pytest.mark.slow
def test_calibration_learns_it_with_labels_alone() -> None:
    digits = load_digits()
    path = digits_model_path()
    inputs = digits.calibration_inputs[:200]
    with_labels = she.calibrate(path, inputs, digits.calibration_labels[:200], seed=1)
    model = with_labels.correctness
    assert model is not None
    assert model.accuracy == with_labels.accuracy
    assert model.log_distance.size
    again = she.Baseline.from_bytes(with_labels.to_bytes())
    assert again.correctness is not None
    np.testing.assert_array_equal(again.correctness.coefficients, model.coefficients)
    without = she.calibrate(path, inputs, seed=1)
    assert without.correctness is None
    # What a monitor compares with, and the known answers, are the same with and without.
    assert [a.tobytes() for row in without.known_answers.inputs for a in row] == [
        a.tobytes() for row in with_labels.known_answers.inputs for a in row
    ]
