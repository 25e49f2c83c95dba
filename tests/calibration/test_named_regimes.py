"""Calibrating with the operating condition of each input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support import Array, infer_one

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.calibration.regimes import read_regimes


def dimmed(inputs: Array, gain: float | Array) -> Array:
    ink = (inputs.astype(np.float64) + 128) * gain
    levels: Array = (np.clip(np.rint(ink), 0, 255) - 128).astype(np.int8)
    return levels


def day_and_night(digits: DigitsData) -> tuple[Array, list[str]]:
    inputs = digits.calibration_inputs
    day, night = inputs[:350], dimmed(inputs[350:], 0.7)
    names = ["day"] * 100 + ["night"] * 125 + ["day"] * 250 + ["night"] * 125
    return np.concatenate([day[:100], night[:125], day[100:], night[125:]]), names


@pytest.mark.slow
def test_day_night_and_day_are_no_news(digits: DigitsData) -> None:
    inputs, names = day_and_night(digits)
    baseline = she.calibrate(digits_model_path(), inputs, regimes=names, seed=0)
    table = baseline.regimes
    assert table is not None
    assert [r.name for r in table.regimes] == ["day", "night"]
    assert [r.share for r in table.regimes] == pytest.approx([350 / 600, 250 / 600])
    again = she.Baseline.from_bytes(baseline.to_bytes())
    assert again.regimes is not None
    assert again.regimes.to_bytes() == table.to_bytes()
    day = digits.heldout_inputs
    night = dimmed(day, 0.7)
    rng = np.random.default_rng(0)
    with she.SelfHealingModel(digits_model_path(), again) as model:
        for turn in range(6):
            found = model.infer((night if turn % 2 else day)[rng.integers(0, 500, 300)])
            assert isinstance(found, she.Predictions)
            assert found.trusted.all()
        kinds = [str(event.kind) for event in model.events]
        assert "diagnosis" not in kinds
        outcomes = [event.outcome for event in model.events if str(event.kind) == "regime"]
        assert outcomes == ["known: night", "known: day"] * 2 + ["known: night"]
        assert [r.name for r in model.regimes] == ["day", "night"]
        last = model.regimes[1].seen_last
        assert last is not None
        assert last > 1500


@pytest.mark.slow
def test_a_daily_period_does_not_alarm_for_ever_and_is_named(digits: DigitsData) -> None:
    """Calibration saw two days; twenty more, and on the first of another light there is news."""

    def by_day(inputs: Array, depth: float) -> Array:
        phase = 2 * np.pi * np.arange(len(inputs)) / 300
        gain = 1 - depth * (0.5 - 0.5 * np.cos(phase))
        return dimmed(inputs, gain[:, None, None, None])

    inputs = by_day(digits.calibration_inputs, 0.4)
    baseline = she.calibrate(digits_model_path(), inputs, seed=0)
    assert "input_std" in baseline.periods
    assert all(270 <= period <= 330 for period in baseline.periods.values())
    assert she.Baseline.from_bytes(baseline.to_bytes()).periods == baseline.periods
    stream = digits.heldout_inputs[np.random.default_rng(1).integers(0, 500, 6000)]
    with she.SelfHealingModel(digits_model_path(), baseline) as model:
        model.predict(by_day(stream, 0.4))
        assert model.events == ()
        model.predict(dimmed(by_day(stream[:300], 0.4), 0.3))
        assert model.health.state == "untrusted"


def test_without_regimes_night_is_news(digits: DigitsData, digits_baseline: she.Baseline) -> None:
    night = dimmed(digits.heldout_inputs, 0.7)
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        model.predict(night[:200])
        assert not infer_one(model, night[:1]).trusted
        assert "diagnosis" in [str(event.kind) for event in model.events]
        assert [r.name for r in model.regimes] == ["calibration"]


@pytest.mark.parametrize(
    ("regimes", "error", "match"),
    [
        (["day"] * 99, ValueError, "regimes: expected 100 names, one per input, got 99"),
        (["day"] * 97 + ["night"] * 3, ValueError, "at least 50 inputs of each, got 3 of 'night'"),
        (np.full(100, np.nan), ValueError, "expected names or whole numbers"),
        (np.zeros((100, 1), int), ValueError, "expected names or whole numbers"),
        ([], ValueError, "expected names or whole numbers"),
        ([None] * 100, ValueError, "expected names or whole numbers"),
        ("day", TypeError, "expected a name or a whole number for each input, got str"),
        (7, TypeError, "got int"),
        (np.arange(900) % 9, ValueError, "expected at most 8, got 9"),
    ],
)
def test_regimes_that_are_none(
    digits: DigitsData, regimes: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        she.calibrate(digits_model_path(), digits.calibration_inputs[:100], regimes=regimes)


def test_whole_numbers_are_names() -> None:
    named = read_regimes(np.repeat([3, 1], [60, 50]))
    assert named is not None
    assert named.names == ("3", "1")
    assert named.home.sum() == 60
