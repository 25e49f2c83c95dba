"""Where too little is known the cause is unknown, and it is said what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.diagnosis.conftest import INTERVAL, Inputs

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.causes import Cause
from selfheal_edge.model import parts_of

Pool = tuple[Inputs, npt.NDArray[np.int8]]


@pytest.fixture(scope="module")
def of_threes() -> tuple[she.Baseline, Inputs]:
    digits = load_digits()
    threes = digits.calibration_inputs[digits.calibration_labels == 3]
    baseline = she.calibrate(digits_model_path(), threes, seed=1, false_alarm_interval=INTERVAL)
    return baseline, threes


def darker(x: Inputs) -> Inputs:
    return np.asarray((x.astype(int) + 128) * 7 // 10 - 128, np.int8)


def test_other_classes_than_the_one_of_calibration(
    of_threes: tuple[she.Baseline, Inputs], pool: Pool
) -> None:
    """What calibration never saw may be new classes, a drift or an attack."""
    baseline, threes = of_threes
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1) as model:
        for x in [*threes, *threes[:60], *pool[0][:260]]:
            model.infer(x[np.newaxis])
        found = model.diagnosis
    assert found is not None
    assert found.cause is Cause.UNKNOWN
    assert "each class" in found.wanted
    assert "class 3 alone" in found.evidence[0].text


def test_the_one_class_of_calibration_in_another_light(
    of_threes: tuple[she.Baseline, Inputs],
) -> None:
    """Where answers stay with the class that is known, the cause can be told."""
    baseline, threes = of_threes
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1) as model:
        for x in [*threes, *threes[:60], *darker(np.concatenate([threes] * 3)[:160])]:
            model.infer(x[np.newaxis])
        found = model.diagnosis
    assert found is not None
    assert found.cause is Cause.SENSOR_FAULT
    assert found.kind == "gain"


def test_a_window_cut_by_a_restart(baseline: she.Baseline, pool: Pool, tmp_path: Path) -> None:
    """Charts go on after a restart, inputs are gone: nothing is named from the few since then."""
    store = tmp_path / "store"
    before, after = pool[0][:128], darker(pool[0][128:320])
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1, store=store) as model:
        for x in [*before, *after[:60]]:
            model.infer(x[np.newaxis])
        assert "alarm" in [event.kind for event in model.events]
        assert model.diagnosis is None
    with she.SelfHealingModel(digits_model_path(), baseline, seed=1, store=store) as model:
        for x in after[60:100]:
            answer = model.infer(x[np.newaxis])
            assert isinstance(answer, she.Prediction)
            assert not answer.trusted
        assert model.diagnosis is None
        symptoms = parts_of(model).loop.examiner.examine(she.Symptoms())
        assert symptoms.window is not None
        assert symptoms.window.inferences == 40
        found = she.AttackDiagnoser().diagnose(symptoms)
        assert found.cause is Cause.UNKNOWN
        assert found.wanted.startswith("56 more inputs")
        for x in after[100:]:
            model.infer(x[np.newaxis])
        named = model.diagnosis
    assert named is not None
    assert named.cause is not Cause.UNKNOWN
    assert named.since is not None
    assert named.since <= 150  # as the charts of before the restart knew
