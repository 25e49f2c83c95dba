"""An autoencoder's threshold by confirmed normals, and answers that undo a correction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.learning.anomaly_detector import AnomalyDetector, sensors
from tests.made_models import mirror

import selfheal_edge as she
from selfheal_edge.causes import Cause
from selfheal_edge.learning.bench import Bench
from selfheal_edge.learning.head import Head, find_head
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.learning.threshold import set_threshold
from selfheal_edge.learning.writing import correct_inputs
from selfheal_edge.monitoring.estimate import abnormal_above
from selfheal_edge.repair.new_priors import NewPriors
from selfheal_edge.repair.proposing import propose
from selfheal_edge.repair.realign import Realign
from selfheal_edge.repair.retrain_head import RetrainHead
from selfheal_edge.tflite.input_table import HEADER_BYTES, threshold_in, with_threshold
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.session import Session

Array = npt.NDArray[Any]
RECIPE = Realign(), RetrainHead(), NewPriors()


class Stage:
    """A calibrated autoencoder with a bench, in another condition."""

    def __init__(self, runtime: RuntimeName) -> None:
        self.detector: AnomalyDetector = sensors()
        raw = self.detector.raw(self.detector.normal[:300])
        baseline = she.calibrate(self.detector.model, raw, runtime=runtime, seed=1)
        reference = LearningReference.from_arrays(baseline.profile)
        assert reference is not None
        self.reference, threshold = reference, abnormal_above(baseline)
        assert threshold is not None
        self.threshold = threshold
        self.session = Session(self.detector.model, runtime)
        self.bench = Bench(self.session, None, threshold=threshold)
        head = find_head(self.session.copy.model, is_regression=True)
        assert isinstance(head, Head)
        self.head = head

    def material(
        self, told: Array, labels: Array, source: str = "owner", head: Head | None = None
    ) -> Material:
        x = self.detector.moved(self.detector.normal[300:556])
        inputs = self.detector.raw(self.detector.moved(told))
        count = len(labels)
        labelled = Labelled(
            inputs, labels, np.ones(count, np.float32), (source,) * count, np.arange(count)
        )
        rng = np.random.default_rng(0)
        window, cause = self.detector.raw(x), Cause.COVARIATE_DRIFT
        return Material(self.reference, head, self.bench, window, labelled, False, cause, "", rng)

    def right(self, patch: Patch | None) -> float:
        """Return of which share of inputs it is said rightly whether they are normal."""
        normal, abnormal = self.detector.normal[600:], self.detector.abnormal[300:]
        rows = [self.detector.raw(self.detector.moved(part)) for part in (normal, abnormal)]
        said = [self.bench.answers(part, patch).labels for part in rows]
        return 0.5 * float((said[0] == 0).mean() + (said[1] == 1).mean())


@pytest.fixture
def stage(runtime: RuntimeName) -> Any:
    made = Stage(runtime)
    yield made
    made.bench.close()
    made.session.close()


def told_of(stage: Stage, normal: int, abnormal: int) -> tuple[Array, Array]:
    rows = stage.detector.normal[300 : 300 + normal], stage.detector.abnormal[:abnormal]
    return np.concatenate(rows), np.repeat([0, 1], [normal, abnormal])


def test_what_is_learned_tells_normal_from_abnormal_again(stage: Stage) -> None:
    found = propose(stage.material(*told_of(stage, 50, 14), head=stage.head), RECIPE, "owner")
    assert found.patch is not None, found.evidence
    assert found.names[0] == "realign"
    assert stage.right(None) < 0.55
    assert stage.right(found.patch) > 0.85


def test_alignment_alone_is_proposed_without_a_label(stage: Stage) -> None:
    found = propose(stage.material(*told_of(stage, 0, 0), head=stage.head), RECIPE, "owner")
    assert found.patch is not None, found.evidence
    assert found.patch.threshold == 0.0


def test_what_one_stranger_calls_normal_teaches_nothing(stage: Stage) -> None:
    x, _ = told_of(stage, 0, 64)
    heard = stage.material(x, np.zeros(64, np.int64), "stranger", stage.head)
    found = propose(heard, RECIPE, "owner")
    assert found.patch is None or not found.patch.threshold
    owned = stage.material(x, np.zeros(64, np.int64), "owner", stage.head)
    believed = propose(owned, RECIPE, "owner")
    assert believed.patch is not None
    assert believed.patch.threshold > stage.threshold


def test_a_third_of_lies_hardly_moves_the_threshold_and_nothing_moves_it_far(stage: Stage) -> None:
    x, labels = told_of(stage, 40, 20)
    aligned = correct_inputs(
        stage.material(x, labels, head=stage.head),
        Patch(),
        InputMap(0, np.full(16, 1.25, np.float32), np.zeros(16, np.float32)),
        "",
    )
    assert isinstance(aligned, Patch)
    honest = set_threshold(stage.material(x, labels), aligned)
    fooled = set_threshold(stage.material(x, np.zeros_like(labels)), aligned)
    assert isinstance(honest, Patch)
    assert isinstance(fooled, Patch)
    assert fooled.threshold < 1.5 * honest.threshold
    assert honest.inputs is aligned.inputs
    far = stage.material(5.0 * x, np.zeros_like(labels))
    most = set_threshold(far, Patch())
    assert isinstance(most, Patch)
    assert most.threshold == pytest.approx(3.0 * stage.threshold, rel=1e-6)


def test_few_normals_set_none(stage: Stage) -> None:
    why = set_threshold(stage.material(*told_of(stage, 7, 40)), Patch())
    assert why == "7 of at least 8 confirmed normals"


def test_the_answer_is_of_what_came_in(stage: Stage) -> None:
    """The last layer undoes what the table does: an exact inverse leaves the error as it was."""
    gain = np.linspace(0.5, 2.0, 16).astype(np.float32)
    offset = np.linspace(-0.5, 0.5, 16).astype(np.float32)
    material = stage.material(*told_of(stage, 0, 0), head=stage.head)
    patch = correct_inputs(material, Patch(), InputMap(0, gain, offset), "")
    assert isinstance(patch, Patch)
    real = stage.detector.normal[300:400]
    came = stage.detector.raw((real - offset) / gain)
    errors = stage.bench.answers(came, patch).errors
    assert errors is not None
    assert float(np.median(errors)) < 0.5 * stage.threshold
    as_it_was = stage.bench.answers(came).errors
    assert as_it_was is not None
    assert float(np.median(as_it_was)) > stage.threshold


def test_what_cannot_be_undone_is_not_done(stage: Stage) -> None:
    none = stage.material(*told_of(stage, 0, 0))
    ones, nothing = np.ones(16, np.float32), np.zeros(16, np.float32)
    why = correct_inputs(none, Patch(), InputMap(0, ones, nothing), "")
    assert why == "there is no last layer that could undo a correction of the inputs"
    broken = ones.copy()
    broken[3] = 0.0
    material = stage.material(*told_of(stage, 0, 0), head=stage.head)
    why = correct_inputs(material, Patch(), InputMap(0, broken, nothing), "")
    assert why == "a channel that says nothing cannot be given back"


def test_which_models_have_a_threshold(runtime: RuntimeName) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-100, 100, (64, 64)).astype(np.int8)
    other_shape = she.calibrate(mirror("int8", 0.1, 0), x, runtime=runtime, seed=1)
    assert abnormal_above(other_shape) is None


def test_bytes_of_a_threshold() -> None:
    data = bytes(HEADER_BYTES)
    assert threshold_in(data) == 0.0
    assert threshold_in(with_threshold(data, 0.5)) == 0.5
    assert with_threshold(with_threshold(data, 0.5), 0.0) == data
    for damage in (b"\xff\xff\xff\xff", b"\x00\x00\x80\xff", b"\x00\x00\x80\xbf"):
        assert threshold_in(data[:4] + damage + data[8:]) == 0.0
