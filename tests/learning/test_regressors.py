"""What is learned of models that answer numbers: the layer as bytes, and what is proposed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.learning.soft_sensor import SoftSensor, aged, soft_sensor

import selfheal_edge as she
from selfheal_edge.causes import Cause
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.errors import error_of
from selfheal_edge.learning.head import Head, find_head, with_room
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.repair.new_priors import NewPriors
from selfheal_edge.repair.proposing import propose
from selfheal_edge.repair.realign import Realign
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.session import Session

Array = npt.NDArray[Any]
RECIPE = Realign(), RetrainHead(), NewPriors()
KINDS = {
    "int8": {"dtype": "int8"},
    "int8, gives floats": {"dtype": "int8", "ends_real": True},
    "float32": {"dtype": "float32"},
    "two numbers": {"outputs": 2},
    "two numbers, float32": {"outputs": 2, "dtype": "float32"},
}


class Stage:
    """A calibrated regressor with a bench, and what it is served after sensors have aged."""

    def __init__(self, sensor: SoftSensor, runtime: RuntimeName) -> None:
        self.sensor = sensor
        x, y = sensor.x[:200], sensor.y[:200]
        baseline = she.calibrate(sensor.model, sensor.raw(x), y, runtime=runtime, seed=1)
        reference = LearningReference.from_arrays(baseline.profile)
        assert reference is not None
        self.reference = reference
        self.session = Session(sensor.model, runtime, taps=baseline.taps)
        self.bench = Bench(self.session, None)
        head = find_head(self.session.copy.model, is_regression=True)
        assert isinstance(head, Head), head
        self.head = head

    def material(self, told: Array, targets: Array, sources: tuple[str, ...] = ()) -> Material:
        window = self.sensor.raw(aged(self.sensor.x[200:456]))
        labelled = Labelled(
            self.sensor.raw(aged(told)),
            targets.astype(np.float32),
            np.ones(len(told), np.float32),
            sources or ("owner",) * len(told),
            np.arange(len(told)),
        )
        rng = np.random.default_rng(0)
        cause = Cause.COVARIATE_DRIFT
        return Material(
            self.reference, self.head, self.bench, window, labelled, False, cause, "", rng
        )

    def error(self, real: Array, targets: Array, patch: Patch | None = None) -> float:
        values = self.bench.answers(self.sensor.raw(real), patch).values
        assert values is not None
        return float(error_of(values, targets).mean())


@contextmanager
def stage_of(runtime: RuntimeName, kind: str = "int8") -> Iterator[Stage]:
    made: Any = KINDS[kind]
    stage = Stage(soft_sensor(**made), runtime)
    try:
        yield stage
    finally:
        stage.bench.close()
        stage.session.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_targets_bring_most_of_the_error_back(runtime: RuntimeName, kind: str) -> None:
    with stage_of(runtime, kind) as stage:
        x, y = stage.sensor.x, stage.sensor.y
        found = propose(stage.material(x[200:264], y[200:264]), RECIPE, "owner")
        assert found.patch is not None, found.evidence
        usual, drifted = stage.error(x[500:], y[500:]), stage.error(aged(x[500:]), y[500:])
        mended = stage.error(aged(x[500:]), y[500:], found.patch)
        assert drifted > 1.5 * usual
        assert (drifted - mended) / (drifted - usual) > 0.5
        assert "targets" in " ".join(found.evidence)


def test_nothing_is_done_without_targets_or_with_few(runtime: RuntimeName) -> None:
    with stage_of(runtime) as stage:
        x, y = stage.sensor.x, stage.sensor.y
        for count in (0, 7):
            those = slice(200, 200 + count)
            found = propose(stage.material(x[those], y[those]), RECIPE, "owner")
            assert found.patch is None
            assert f"{count} of at least 8 targets" in " ".join(found.evidence)


def test_golden_stays_where_it_is_as_good(runtime: RuntimeName) -> None:
    """Targets that golden meets as usual: nothing that was learned from them is nearer."""
    with stage_of(runtime) as stage:
        x = stage.sensor.x
        values = stage.bench.answers(stage.sensor.raw(aged(x[200:264]))).values
        assert values is not None
        noise = np.random.default_rng(3).normal(0, 0.2, values.shape)
        assert propose(stage.material(x[200:264], values + noise), RECIPE, "owner").patch is None


@pytest.mark.slow
def test_one_stranger_is_not_learned_from_and_two_are(runtime: RuntimeName) -> None:
    with stage_of(runtime) as stage:
        x, y = stage.sensor.x[200:264], stage.sensor.y[200:264]
        alone = propose(stage.material(x, y, ("a",) * 64), RECIPE, "owner")
        assert alone.patch is None
        assert "without a's word" in " ".join(alone.evidence)
        both = propose(stage.material(x, y, ("a", "b") * 32), RECIPE, "owner")
        assert both.patch is not None, both.evidence


def test_targets_that_are_none_are_refused(runtime: RuntimeName) -> None:
    with stage_of(runtime) as stage:
        x = stage.sensor.x[200:210]
        with pytest.raises(ValueError, match=r"finite targets of 1 number"):
            stage.material(x, np.full((10, 1), np.nan))
        with pytest.raises(ValueError, match=r"finite targets of 1 number"):
            stage.material(x, np.zeros((10, 2)))


def test_an_inner_output_gets_the_room_that_targets_need(runtime: RuntimeName) -> None:
    with stage_of(runtime, "int8, gives floats") as stage:
        x, y = stage.sensor.x, stage.sensor.y
        far = y * 3.0
        assert float(np.abs(far[500:]).max()) > stage.head.range[1]
        found = propose(stage.material(x[200:264], far[200:264]), RECIPE, "owner")
        assert found.patch is not None
        values = stage.bench.answers(stage.sensor.raw(aged(x[200:456])), found.patch).values
        assert values is not None
        assert float(values.max()) > stage.head.range[1] + 0.1


def test_a_models_own_output_keeps_what_it_stands_for(runtime: RuntimeName) -> None:
    with stage_of(runtime) as stage:
        assert with_room(stage.head, np.array([1e3])) == (stage.head, ())


def test_targets_tell_several_numbers_from_logits() -> None:
    """By its file such a model is a classifier: what is said of it decides, and is not guessed."""
    sensor = soft_sensor(outputs=2)
    raw = sensor.raw(sensor.x[:100])
    assert she.calibrate(sensor.model, raw).output_kind == "logits"
    told = she.calibrate(sensor.model, raw, sensor.y[:100])
    assert told.output_kind is None
    assert told.error is not None
    assert told.accuracy is None
    bad = {
        "expected integers": sensor.y[:100, 0],
        "real targets of 2 number": np.zeros((100, 3)),
        "finite targets": np.full((100, 2), np.nan),
    }
    for match, labels in bad.items():
        with pytest.raises(ValueError, match=match):
            she.calibrate(sensor.model, raw, labels)
