"""An autoencoder heals: inputs are aligned, and people say what is normal in another condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.learning.anomaly_detector import AnomalyDetector, sensors, toy_car
from tests.support import kinds

import selfheal_edge as she
from selfheal_edge.learning.feedback import Outcome
from selfheal_edge.learning.patch import Patch
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

Array = npt.NDArray[Any]
KEY = bytes(range(32))
RARE = 0.15
"""Of the inputs that are served, those that are abnormal."""


class Machine:
    """An anomaly detector that is served, and of which somebody knows what is normal."""

    def __init__(self, runtime: RuntimeName, detector: AnomalyDetector, known: int) -> None:
        self.detector, self.known = detector, known
        raw = detector.raw(detector.normal[:known])
        baseline = she.calibrate(self.detector.model, raw, runtime=runtime, seed=1)
        policy = she.Policy(owner="owner")
        self.model = she.SelfHealingModel(
            self.detector.model, baseline, policy=policy, runtime=runtime, seed=1
        )
        self.owner = self.model.feedback_source("owner", key=KEY)
        self.is_normal: dict[int, bool] = {}
        self.rng = np.random.default_rng(5)

    def see(self, count: int, *, is_moved: bool, rare: float = RARE) -> float:
        """Serve so many; return the share of which the threshold says what is true."""
        right: list[bool] = []
        threshold = np.inf
        output = parts_of(self.model).session.instance.outputs[0]
        for _ in range(count):
            is_normal = bool(self.rng.random() >= rare)
            rows = self.detector.normal[self.known :] if is_normal else self.detector.abnormal
            x = rows[self.rng.integers(len(rows))][None]
            raw = self.detector.raw(self.detector.moved(x) if is_moved else x)
            found = self.model.infer(raw)
            assert isinstance(found, she.Prediction)
            assert found.label is None
            self.is_normal[found.id] = is_normal
            answer = output.scale * (np.asarray(found.output, float) - output.zero_point)
            error = float(np.square(answer - self.detector.real(raw)).mean())
            if len(right) % 16 == 0:
                threshold = self.threshold
            right.append((error <= threshold) == is_normal)
        return float(np.mean(right))

    @property
    def threshold(self) -> float:
        found = self.model.health.threshold
        assert found is not None
        return found

    def answer(self, source: she.FeedbackSource, *, always: bool | None = None) -> None:
        """Answer what is asked: truly, or always alike."""
        for question in self.model.wanted_labels(16):
            truth = self.is_normal[question.id] if always is None else always
            self.model.feedback(correct=truth, id=question.id, source=source)


@pytest.fixture
def machine(runtime: RuntimeName) -> Any:
    made = Machine(runtime, sensors(), 300)
    with made.model:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sensors", "toy car"])
def test_people_confirm_what_alignment_has_healed_and_normal_operation_is_as_before(
    runtime: RuntimeName, kind: str, shared_models: Path
) -> None:
    if kind == "sensors":
        machine = Machine(runtime, sensors(), 300)
    else:
        machine = Machine(runtime, toy_car(shared_models.parent), 100)
    with machine.model:
        _heal_and_return(machine)


def _heal_and_return(machine: Machine) -> None:
    usual, calibrated = machine.see(150, is_moved=False, rare=0.0), machine.threshold
    golden = machine.see(40, is_moved=True)
    assert golden < 0.3 < 0.95 < usual
    for _ in range(10):
        machine.see(48, is_moved=True)
        machine.answer(machine.owner)
        if "confirmed" in kinds(machine.model):
            break
    assert {"alarm", "diagnosis", "repair", "probation", "confirmed"} <= set(kinds(machine.model))
    assert machine.see(100, is_moved=True) > 0.8
    machine.see(64, is_moved=False, rare=0.0)
    assert machine.model.health.condition == ""
    assert machine.threshold == calibrated
    assert machine.see(100, is_moved=False, rare=0.0) > 0.95


@pytest.mark.slow
def test_nothing_is_confirmed_without_a_person_nor_by_who_calls_all_normal(
    machine: Machine,
) -> None:
    stranger = machine.model.feedback_source("stranger", key=bytes(32))
    machine.see(150, is_moved=False, rare=0.0)
    for _ in range(4):
        machine.see(48, is_moved=True, rare=0.0)
    assert "probation" in kinds(machine.model)
    x = machine.detector.moved(machine.detector.normal[:1])
    found = machine.model.infer(machine.detector.raw(x))
    assert isinstance(found, she.Prediction)
    assert not found.trusted
    for _ in range(4):
        machine.see(48, is_moved=True, rare=0.8)
        machine.answer(stranger, always=True)
    assert "confirmed" not in kinds(machine.model)


@pytest.mark.slow
def test_a_threshold_belongs_to_its_generation_also_after_a_restart(
    machine: Machine, tmp_path: Path, runtime: RuntimeName
) -> None:
    def opened() -> she.SelfHealingModel:
        file, baseline = machine.detector.model, machine.model.baseline
        return she.SelfHealingModel(
            file, baseline, store=tmp_path / "store", key=KEY, runtime=runtime
        )

    with opened() as model:
        generation = parts_of(model).loop.repairs.adopt_patch(Patch(threshold=0.25))
        assert model.health.threshold == model.health.to_dict()["threshold"] == 0.25
    with opened() as model:
        assert model.health.generation == generation
        assert model.health.threshold == 0.25
        model.rollback("golden")
        assert model.health.threshold == machine.threshold


def test_what_an_autoencoder_is_not_told_is_refused(machine: Machine) -> None:
    machine.see(3, is_moved=False)
    last = max(machine.is_normal)
    for label in (0, 1, np.zeros(16, np.float32), np.nan):
        with pytest.raises(TypeError, match="label: expected None, as an autoencoder names no cla"):
            machine.model.feedback(label, id=last, source=machine.owner)
    with pytest.raises(TypeError, match="correct: expected a bool"):
        machine.model.feedback(correct=float("nan"), id=last, source=machine.owner)
    unknown = machine.model.feedback(correct=True, id=last + 99, source=machine.owner)
    assert isinstance(unknown, she.FeedbackReceipt)
    assert unknown.outcome is Outcome.UNKNOWN
    assert not machine.model.trusted_pool.list()
    told = machine.model.feedback(correct=[True, False], id=[last, last - 1], source=machine.owner)
    assert isinstance(told, tuple)
    assert [one.outcome for one in told] == [Outcome.ACCEPTED] * 2
    assert sorted(sample.label or 0 for sample in machine.model.trusted_pool.list()) == [0, 1]
