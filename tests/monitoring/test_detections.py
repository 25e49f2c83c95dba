"""Models that end in boxes, classes, scores and a count."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.detector_models import CLASSES, detector, plain_detector
from tests.support import examples

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.model import parts_of
from selfheal_edge.tflite.file.model_file import ModelFile

Floats = npt.NDArray[np.float32]
SIGNALS = ("detections", "top_score", "mean_score", "box_area")
SIMPLE = st.floats(-2, 2, width=32) | st.just(0.5)
ANY = SIMPLE | st.sampled_from([math.nan, math.inf, -math.inf])


def told(boxes: Floats, classes: Floats, scores: Floats, count: float) -> tuple[list[float], int]:
    """Return the four signals and the label, the obvious way."""
    nothing = [math.nan] * 4
    if not math.isfinite(count):
        return nothing, -1
    n = int(min(max(count, 0.0), len(scores)))
    b, c, s = (a[:n].astype(np.float64) for a in (boxes, classes, scores))
    with np.errstate(invalid="ignore"):
        areas = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    if not all(np.isfinite(a).all() for a in (areas, c, s)):
        return nothing, -1
    sure = s >= 0.5
    top = float(s.max(initial=0.0))
    if not sure.any():
        return [0.0, top, math.nan, math.nan], -1
    label = int(c[int(s.argmax())]) if c[int(s.argmax())] >= 0 else -1
    return [float(sure.sum()), top, float(s[sure].mean()), float(areas[sure].mean())], label


@given(data=st.data(), most=st.integers(1, 9), values=st.sampled_from([SIMPLE, ANY]))
@examples(300)
def test_signals_against_numpy(data: st.DataObject, most: int, values: Any) -> None:
    def drawn(count: int) -> Floats:
        return np.array(data.draw(st.lists(values, min_size=count, max_size=count)), np.float32)

    order = data.draw(st.permutations(range(4)))
    sizes = (4 * most, most, most, 1)
    tensors = [drawn(size) for size in sizes]
    tensors[3] = np.array([data.draw(st.integers(-1, most + 2) | values)], np.float32)
    layouts: list[Any] = [None] * 4
    outputs: list[Any] = [None] * 4
    for place, tensor in zip(order, tensors, strict=True):
        layouts[place] = _core.TensorLayout("float32", tensor.size)
        outputs[place] = tensor
    measured = _core.SignalPass([], layouts, detections=list(order))
    assert measured.names == [(name, 0) for name in SIGNALS]
    row = np.empty(4)
    result = measured.measure([], outputs, None, row)
    boxes, classes, scores, count = tensors
    wanted, label = told(boxes.reshape(most, 4), classes, scores, float(count[0]))
    assert row.tolist() == pytest.approx(wanted, nan_ok=True, rel=1e-9, abs=1e-12)
    assert result[2] == label
    assert result[3] == pytest.approx(wanted[1] if label >= 0 else math.nan, nan_ok=True)
    assert result[4] == int(math.isnan(wanted[0]))


def test_other_outputs_are_measured_as_ever() -> None:
    layout = _core.TensorLayout
    outputs = [layout("float32", n) for n in (8, 2, 2, 1, 3)]
    measured = _core.SignalPass([], outputs, detections=[0, 1, 2, 3])
    assert measured.names[4:] == [("output_mean", 4), ("output_std", 4)]
    row = np.empty(6)
    arrays: list[Any] = [np.zeros(n, np.float32) for n in (8, 2, 2, 1)]
    measured.measure([], [*arrays, np.array([1, 2, 3], np.float32)], None, row)
    assert row[:2].tolist() == [0.0, 0.0]
    assert row[4] == 2.0
    arrays[2] = None
    measured.measure([], [*arrays, np.array([1, 2, 3], np.float32)], None, row)
    assert np.isnan(row[:4]).all()
    assert row[4] == 2.0


def test_what_is_no_detector_is_refused() -> None:
    floats = [_core.TensorLayout("float32", n) for n in (8, 2, 2, 1)]
    bytes_ = [*floats[:3], _core.TensorLayout("uint8", 1)]
    cases: list[tuple[list[Any], list[int], str]] = [
        (floats, [0, 1, 1, 3], "four different measured outputs of float32"),
        (floats, [0, 1, 2, 4], "four different measured outputs of float32"),
        (bytes_, [0, 1, 2, 3], "four different measured outputs of float32"),
        (floats, [0, 3, 2, 1], "2 elements in output 3, got 1"),
        (floats, [1, 0, 2, 3], "8 elements in output 1, got 2"),
        (floats, [0, 1, 2, -1], "an integer >= 0, got -1"),
    ]
    for layouts, places, message in cases:
        with pytest.raises(ValueError, match=f"detections: expected {message}"):
            _core.SignalPass([], layouts, detections=places)
    with pytest.raises(ValueError, match="detections: expected none of a classifier"):
        _core.SignalPass([], floats, classifier="logits", detections=[0, 1, 2, 3])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_the_operator_tells_which_output_is_which(order: tuple[int, int, int, int]) -> None:
    found = ModelFile.of(detector(order)).detections
    assert found is not None
    assert [order[place] for place in found] == [0, 1, 2, 3]


def test_plain_outputs_are_told_by_shape_and_name_or_order() -> None:
    plain = ("a", "b", "c", "d")
    assert ModelFile.of(plain_detector(plain, (0, 1, 2, 3))).detections == (0, 1, 2, 3)
    assert ModelFile.of(plain_detector(plain, (1, 0, 2, 3))).detections is None
    named = ("boxes", "detection_classes", "detection_scores", "n")
    for order in itertools.permutations(range(4), 4):
        found = ModelFile.of(plain_detector(named, order)).detections
        assert found is not None
        assert [order[place] for place in found] == [0, 1, 2, 3]
    swapped = ("boxes", "Scores", "Classes", "n")
    assert ModelFile.of(plain_detector(swapped, (0, 1, 2, 3))).detections == (0, 2, 1, 3)


def images(count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, 1, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def calibrated() -> tuple[bytes, she.Baseline]:
    model = detector((3, 1, 0, 2))
    return model, she.calibrate(model, images(600, 1), false_alarm_interval=1e5, seed=1)


def test_a_detector_is_watched_by_what_it_detects(
    calibrated: tuple[bytes, she.Baseline],
) -> None:
    model, baseline = calibrated
    assert tuple(baseline.references)[-4:] == SIGNALS
    assert not any(name.startswith("output") for name in baseline.references)
    again = she.Baseline.from_bytes(baseline.to_bytes())
    assert again.detections == baseline.detections is not None
    with she.SelfHealingModel(model, again, seed=1) as guarded:
        x = images(40, 2)
        for sample in x:
            one = guarded.infer(sample)
            assert isinstance(one, she.Prediction)
            assert isinstance(one.output, dict)
            scores = np.asarray(one.output["t15"])[0]
            classes = np.asarray(one.output["t14"])[0]
            assert one.trusted
            if scores.max() >= 0.5:
                assert one.label == int(classes[scores.argmax()]) < CLASSES
                assert one.confidence == pytest.approx(float(scores.max()))
            else:
                assert (one.label, one.confidence) == (None, None)
        many = guarded.infer(x)
        assert isinstance(many, she.Predictions)
        assert many.labels is not None
        kept = parts_of(guarded).extractor.recent()
        assert kept.labels.tolist() == [*many.labels.tolist(), *many.labels.tolist()]
        assert not [event for event in guarded.events if event.kind == "alarm"]


def test_a_detector_that_sees_less_raises_an_alarm(
    calibrated: tuple[bytes, she.Baseline],
) -> None:
    model, baseline = calibrated
    with she.SelfHealingModel(model, baseline, seed=1) as guarded:
        guarded.predict(images(100, 3))
        dim = images(300, 4)
        dim *= np.float32(0.05)
        raised = {alarm.signal for row in infer(guarded, dim).alarms for alarm in row}
    assert raised & set(SIGNALS)


def infer(model: she.SelfHealingModel, x: Floats) -> she.Predictions:
    found = model.infer(x)
    assert isinstance(found, she.Predictions)
    return found


def test_a_baseline_of_before_loads_with_the_signals_of_before(
    calibrated: tuple[bytes, she.Baseline], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that knew nothing of detections goes on as it was: mean and spread of the outputs."""
    model, _ = calibrated
    with monkeypatch.context() as patch:
        patch.setattr(ModelFile, "detections", None)
        old = she.calibrate(model, images(100, 1), seed=1)
    assert old.detections is None
    with she.SelfHealingModel(model, she.Baseline.from_bytes(old.to_bytes()), seed=1) as guarded:
        assert isinstance(guarded.infer(images(1, 2)[0]), she.Prediction)
    assert any(name.startswith("output_mean") for name in old.references)
