"""Where the classes lie, and whether a shift there is heard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.made_models import open_batch
from tests.support import examples

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.errors import BaselineMismatchError
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.embedding import (
    Embedding,
    find_embedding,
    find_part,
    fit_classes,
    why_too_near,
)
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.runtimes.protocol import TensorSpec
from selfheal_edge.tflite.session import Session

INT8 = TensorSpec("inner", (1, 5), np.dtype(np.int8), 0.25, -3)
FLOAT = TensorSpec("inner", (1, 5), np.dtype(np.float32), 0.0, 0)


def pooled_precision(real: Any, members: Any, classes: Any, step: float) -> Any:
    residual = np.concatenate(
        [real[members == c] - real[members == c].mean(axis=0) for c in classes]
    )
    pooled = (residual**2).sum(axis=0) / (len(residual) - len(classes))
    return 1 / (pooled + 0.01 * pooled.mean() + step)


@given(
    seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 5), spec=st.sampled_from([INT8, FLOAT])
)
@examples(60)
def test_distances_leave_the_sample_out(seed: int, classes: int, spec: TensorSpec) -> None:
    """Centroid and variances are those of all other samples; what the centroid's own error adds is
    taken off again, so that a rare class's samples are no farther away than a common one's.
    """
    rng = np.random.default_rng(seed)
    raw = rng.normal(0, 20, (60, 5)).astype(spec.dtype)
    members = rng.integers(-1, classes, 60)
    predicted = np.where(rng.random(60) < 0.8, members, rng.integers(-1, classes + 1, 60))
    found, distances, again = fit_classes(7, spec, raw, members, predicted)
    assert found.tensor == 7
    assert found.classes.tolist() == [c for c in range(classes) if (members == c).sum() >= 2]
    real = 0.25 * (raw.astype(float) + 3) if spec is INT8 else raw.astype(float)
    step = 0.25**2 / 12 if spec is INT8 else 0.0
    for n in range(60):
        others = np.arange(60) != n
        if predicted[n] not in found.classes:
            assert np.isnan(distances[n])
            continue
        rest = others & (members == predicted[n])
        away = real[n] - real[rest].mean(axis=0)
        away /= np.sqrt(1 + 1 / rest.sum())  # of a new sample off a mean of as many
        left = [c for c in found.classes if (others & (members == c)).any()]
        precision = pooled_precision(real[others], members[others], left, step)
        assert distances[n] == pytest.approx(np.sqrt((precision * away**2).sum()), rel=1e-5)
    table = found.table(classes)
    scales = found.scale_table(classes)
    for row, label in enumerate(found.classes):
        count = (members == label).sum()
        assert scales[label] == pytest.approx(1 / np.sqrt(1 + 1 / count))
        assert np.array_equal(table[label], found.centroids[row])
        assert table[label] == pytest.approx(real[members == label].mean(axis=0), rel=1e-5)
    known = np.isfinite(distances)
    assert again[known] == pytest.approx(found.distances(real, predicted)[known])
    expected = pooled_precision(real, members, found.classes, step)
    assert found.precision == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "n", "classes"), [(4000, 200, 10), (1024, 60, 6), (1024, 300, 100), (16, 100, 4)]
)
def test_new_samples_lie_where_the_reference_says(width: int, n: int, classes: int) -> None:
    """In standard deviations of a distance, the mean over several calibrations."""
    rng = np.random.default_rng(width + n)
    shifts = []
    for _ in range(12):
        places = rng.normal(0, 3, (classes, width))
        spread = rng.uniform(0.5, 2.0, width)

        def draw(count: int, places: Any = places, spread: Any = spread) -> tuple[Any, Any]:
            label = rng.integers(0, classes, count)
            inner = places[label] + spread * rng.normal(size=(count, width))
            return inner.astype(np.float32), label

        raw, labels = draw(n)
        found, reference, _ = fit_classes(0, FLOAT, raw, labels, labels)
        reference = reference[np.isfinite(reference)]
        fresh, label = draw(300)
        distances = found.distances(fresh.astype(float), label)
        distances = distances[np.isfinite(distances)]
        shifts.append((distances.mean() - reference.mean()) / distances.std())
    # Each calibration knows its own mean to 1 / sqrt(n) at best.
    assert abs(np.mean(shifts)) < 0.1


@pytest.mark.parametrize(("size", "dtype"), [(1024, "float32"), (4096, "int8"), (32, "int16")])
def test_all_of_a_small_embedding_is_measured(size: int, dtype: str) -> None:
    spec = TensorSpec("inner", (1, size), np.dtype(dtype), 1.0, 0)
    assert np.array_equal(find_part(spec), np.arange(size))


@pytest.mark.parametrize(("size", "dtype"), [(1025, "float32"), (4097, "int8"), (21952, "float32")])
def test_a_part_of_a_wide_embedding_is_measured(size: int, dtype: str) -> None:
    part = find_part(TensorSpec("inner", (1, size), np.dtype(dtype), 1.0, 0))
    assert len(part) == 1024
    assert part[0] == 0
    assert part[-1] == size - 1
    assert (np.diff(part.reshape(-1, 16), axis=1) == 1).all()
    gaps = np.diff(part[::16])
    assert gaps.max() - gaps.min() <= 1


def test_samples_that_would_alarm_when_they_come_again_are_told() -> None:
    rng = np.random.default_rng(3)
    raw = rng.normal(size=(300, 400)).astype(np.float32)
    many, few = np.arange(300) % 2, np.arange(300) % 60
    for labels, is_well in ((many, True), (few, False)):
        _, new, again = fit_classes(0, FLOAT, raw, labels, labels)
        why = why_too_near(new, again, 1e6)
        assert (why is None) == is_well
        assert is_well or "standard deviations nearer" in str(why)
    assert why_too_near(new * np.nan, again, 1e6) is None


@pytest.mark.slow
def test_a_wide_embedding_is_quiet_on_its_own_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is diagnosed: what a diagnosis compares with is not learned, which takes the most.
    monkeypatch.setattr("selfheal_edge.calibration.calibrate.is_profiled", lambda _session: False)
    x = np.random.default_rng(0).normal(0, 1, (256, 28, 28, 2)).astype(np.float32)
    data = open_batch("convolutional", side=28)
    baseline = she.calibrate(data, x, seed=1)
    assert baseline.embedding is not None
    assert baseline.embedding.precision.size == 1024
    assert "embedding_norm" in baseline.references
    assert "nearer to their classes" in baseline.left_out["embedding_distance"]
    with she.SelfHealingModel(data, baseline) as model:
        for n in range(512):
            model.predict(x[n % 256][np.newaxis])
        assert model.health.alarms == 0


def test_too_few_samples_have_no_place() -> None:
    raw = np.zeros((3, 5), np.int8)
    found, distances, _ = fit_classes(0, INT8, raw, np.array([0, 1, -1]), np.array([0, 1, 0]))
    assert len(found.classes) == 0
    assert np.isnan(distances).all()
    assert np.isnan(found.table(2)).all()


def test_arrays_that_do_not_belong_together() -> None:
    good: dict[str, Any] = {
        "classes": np.arange(2),
        "centroids": np.zeros((2, 3), np.float32),
        "precision": np.ones(3, np.float32),
        "scales": np.ones(2, np.float32),
    }
    Embedding(0, **good)
    bad: list[tuple[str, Any]] = [
        ("classes", np.arange(3)),
        ("precision", np.ones(4, np.float32)),
        ("classes", np.array([1, 0])),
        ("classes", np.array([-1, 0])),
        ("centroids", good["centroids"] * np.nan),
        ("precision", -good["precision"]),
        ("scales", np.ones(3, np.float32)),
        ("scales", 0 * good["scales"]),
        ("scales", good["scales"] * np.nan),
    ]
    for name, value in bad:
        with pytest.raises(ValueError, match="embedding: expected"):
            Embedding(0, **{**good, name: value})
    with pytest.raises(ValueError, match="embedding: expected classes below 1, got 1"):
        Embedding(0, **good).table(1)


class TestNaming:
    def test_found_by_itself(self, digits_baseline: she.Baseline) -> None:
        model = ModelFile.from_path(digits_model_path())
        assert model.head is not None
        assert find_embedding(model, None) == model.head.embedding
        assert digits_baseline.embedding is not None
        assert digits_baseline.embedding.tensor == model.head.embedding
        name = model.subgraphs[0].tensors[model.head.embedding].name
        assert find_embedding(model, name) == model.head.embedding

    def test_refused(self) -> None:
        model = ModelFile.from_path(digits_model_path())
        with pytest.raises(ValueError, match=r"embedding: expected the name of one tensor .* 'no'"):
            find_embedding(model, "no")
        name = model.inputs[0].name
        with pytest.raises(ValueError, match="embedding: expected a tensor that an operator compu"):
            find_embedding(model, name)
        with pytest.raises(
            TypeError, match="embedding: expected a tensor's name, None or False, got int"
        ):
            find_embedding(model, 3)  # type: ignore[arg-type]

    def test_none_is_watched(self, digits: DigitsData) -> None:
        model = ModelFile.from_path(digits_model_path())
        assert find_embedding(model, False) is None
        baseline = she.calibrate(
            digits_model_path(), digits.calibration_inputs[:60], embedding=False, seed=1
        )
        assert baseline.embedding is None
        assert not any(name.startswith("embedding") for name in baseline.references)
        assert "confidence" in baseline.references
        with she.SelfHealingModel(digits_model_path(), baseline) as guarded:
            guarded.predict(digits.calibration_inputs[:60])
            assert guarded.events == ()

    def test_a_model_without_classes_may_name_one(self, shared_models: Path) -> None:
        path = shared_models / "ad_autoencoder_int8.tflite"
        model = ModelFile.from_path(path)
        assert find_embedding(model, None) is None
        # The narrowest layer of the autoencoder.
        graph = model.subgraphs[0]
        made = [graph.tensors[i] for op in graph.operators for i in op.outputs]
        inner = min((t for t in made if t.dtype == "int8"), key=lambda t: t.size)
        x = np.random.default_rng(0).integers(-128, 128, (60, 1, 640)).astype(np.int8)
        baseline = she.calibrate(path, x, embedding=inner.name, seed=1)
        assert list(baseline.references)[-2:] == ["embedding_norm", "embedding_active"]
        assert baseline.embedding is not None
        assert baseline.embedding.tensor == inner.index
        assert "reconstruction_error" in baseline.references
        with she.SelfHealingModel(path, baseline) as guarded:
            guarded.predict(x[0])
            assert guarded.events == ()


def test_the_tap_changes_no_answer(digits: DigitsData, model: she.SelfHealingModel) -> None:
    session = Session(digits_model_path(), kernels=model.health.fingerprint.kernels)  # type: ignore[arg-type]
    try:
        for x in digits.heldout_inputs[:50, None]:
            answer = model.predict(x)
            assert isinstance(answer, np.ndarray)
            assert answer.tobytes() == session.instance.run([x])[0].tobytes()
    finally:
        session.close()


def test_another_model_is_refused_before_anything_is_tapped(
    digits_baseline: she.Baseline, shared_models: Path
) -> None:
    with pytest.raises(BaselineMismatchError, match="expected one for the model"):
        she.SelfHealingModel(shared_models / "kws_dscnn_int8.tflite", digits_baseline)


def test_without_labels_classes_are_those_that_the_model_names(
    digits: DigitsData, digits_baseline: she.Baseline
) -> None:
    plain = she.calibrate(digits_model_path(), digits.calibration_inputs, seed=1)
    assert plain.embedding is not None
    assert digits_baseline.embedding is not None
    assert plain.embedding.classes.tolist() == list(range(10))
    near = plain.embedding.centroids - digits_baseline.embedding.centroids
    spread = 1 / np.sqrt(digits_baseline.embedding.precision)
    assert (np.abs(near) < spread).all()


def test_mixtures_of_two_classes_lie_far_from_either(
    digits: DigitsData, digits_baseline: she.Baseline
) -> None:
    """Half one digit and half another: pixels as usual, and nothing that belongs to a class."""
    with she.SelfHealingModel(digits_model_path(), digits_baseline) as model:
        column = list(digits_baseline.references).index("embedding_distance")
        x = digits.heldout_inputs[:200]
        for sample in x:
            model.predict(sample[None])
        usual = parts_of(model).monitor.window[-200:, column]
        mixed = np.maximum(x, digits.heldout_inputs[200:400])
        for sample in mixed:
            model.predict(sample[None])
        unusual = parts_of(model).monitor.window[-200:, column]
    # In standard errors of a mean of 200 scores.
    assert abs(np.mean(usual)) * np.sqrt(200) < 4
    assert np.mean(unusual) * np.sqrt(200) > 4
