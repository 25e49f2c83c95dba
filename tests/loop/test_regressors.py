"""A model that answers numbers heals by learning: the whole loop, from drift to its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.learning.soft_sensor import aged, soft_sensor
from tests.support import kinds

import selfheal_edge as she
from selfheal_edge.learning.bench import Bench
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

Array = npt.NDArray[Any]
KEY = bytes(range(32))


class Plant:
    """A soft sensor that is served, and whose targets are known."""

    def __init__(self, runtime: RuntimeName, outputs: int = 1) -> None:
        self.sensor = soft_sensor(outputs=outputs)
        sensor = self.sensor
        raw = sensor.raw(sensor.x[:300])
        baseline = she.calibrate(sensor.model, raw, sensor.y[:300], runtime=runtime, seed=1)
        policy = she.Policy(owner="owner")
        self.model = she.SelfHealingModel(
            sensor.model, baseline, policy=policy, runtime=runtime, seed=1
        )
        self.owner = self.model.feedback_source("owner", key=KEY)
        self.truth: dict[int, Array] = {}
        self.rng = np.random.default_rng(5)

    def see(self, count: int, *, drifted: bool) -> float:
        """Serve so many; return their mean error."""
        errors = []
        for n in self.rng.integers(300, 1500, count):
            x = self.sensor.x[n : n + 1]
            found = self.model.infer(self.sensor.raw(aged(x) if drifted else x))
            assert isinstance(found, she.Prediction)
            self.truth[found.id] = self.sensor.y[n]
            errors.append(np.abs(self.real(found.output) - self.sensor.y[n]))
        return float(np.mean(errors))

    def real(self, output: Any) -> Array:
        spec = parts_of(self.model).session.instance.outputs[0]
        return np.asarray(spec.scale * (np.asarray(output, float).reshape(-1) - spec.zero_point))

    def answer(self, source: she.FeedbackSource, offset: float = 0.0, most: int = 16) -> None:
        for question in self.model.wanted_labels(most):
            assert question.answers == ()
            self.model.feedback(self.truth[question.id] + offset, id=question.id, source=source)


@pytest.fixture
def plant(runtime: RuntimeName) -> Any:
    made = Plant(runtime)
    with made.model:
        yield made


@pytest.fixture
def plant_of_two(runtime: RuntimeName) -> Any:
    made = Plant(runtime, 2)
    with made.model:
        yield made


@pytest.mark.slow
def test_targets_heal_a_regressor_confirm_it_and_leave_normal_operation_alone(
    plant_of_two: Plant,
) -> None:
    plant = plant_of_two
    usual = plant.see(200, drifted=False)
    for _ in range(10):
        plant.see(48, drifted=True)
        plant.answer(plant.owner)
        if "confirmed" in kinds(plant.model):
            break
    assert "confirmed" in kinds(plant.model)
    assert {"probation", "repair"} <= set(kinds(plant.model))
    mended = plant.see(150, drifted=True)
    golden = golden_error(plant)
    assert mended < golden - 0.4 * (golden - usual)
    plant.see(64, drifted=False)
    assert plant.model.health.condition == ""
    assert plant.see(150, drifted=False) < 1.15 * usual


def test_what_is_no_target_is_refused_and_nothing_has_changed(plant_of_two: Plant) -> None:
    plant = plant_of_two
    plant.see(2, drifted=False)
    (asked, *_) = plant.model.wanted_labels(1)
    bad: tuple[tuple[Any, type[Exception], str], ...] = (
        (1.5, ValueError, r"label: expected shape \[2\], got \[\]"),
        ([1.0, 2.0, 3.0], ValueError, r"label: expected shape \[2\], got \[3\]"),
        ([1.0, np.nan], ValueError, "label: expected finite numbers"),
        ("two", TypeError, "label: expected numbers"),
    )
    for label, error, match in bad:
        with pytest.raises(error, match=match):
            plant.model.feedback(label, id=asked.id, source=plant.owner)
    assert plant.model.wanted_labels(1)[0].id == asked.id
    assert not plant.model.trusted_pool.list()
    plant.model.feedback(plant.truth[asked.id], id=asked.id, source=plant.owner)


def golden_error(plant: Plant) -> float:
    """Return what golden's error would be on what has aged."""
    bench = Bench(parts_of(plant.model).session, None)
    try:
        values = bench.answers(plant.sensor.raw(aged(plant.sensor.x[300:]))).values
    finally:
        bench.close()
    assert values is not None
    return float(np.abs(values - plant.sensor.y[300:]).mean())


@pytest.mark.slow
def test_a_stranger_who_lies_gets_nothing_confirmed(plant: Plant) -> None:
    liar = plant.model.feedback_source("stranger", key=bytes(32))
    plant.see(200, drifted=False)
    for _ in range(6):
        plant.see(48, drifted=True)
        plant.answer(liar, offset=2.0)
    assert "confirmed" not in kinds(plant.model)
    assert "probation" not in kinds(plant.model)


@pytest.mark.slow
def test_what_a_repair_learned_from_is_revoked_and_learned_again(plant: Plant) -> None:
    plant.see(200, drifted=False)
    for _ in range(4):
        plant.see(48, drifted=True)
        plant.answer(plant.owner)
    assert "probation" in kinds(plant.model)
    gone = next(iter(plant.model.trusted_pool.list())).id
    plant.model.revoke(id=gone)
    assert "revoked" in kinds(plant.model)
    assert all(sample.id != gone for sample in plant.model.trusted_pool.list())
