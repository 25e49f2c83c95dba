"""What calibration keeps for learning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support import RUNTIMES

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.learning.reference import LearningReference, Moments, learn_reference
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

RNG = np.random.default_rng(0)


def vectors(count: int = 90, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 3
    return RNG.normal(size=(count, width)).astype(np.float32) + labels[:, None], labels


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_baseline_brings_inputs_true_labels_and_moments(
    runtime: RuntimeName, tmp_path: object
) -> None:
    digits = load_digits()
    x, y = digits.calibration_inputs, digits.calibration_labels.astype(np.int64)
    made = she.calibrate(digits_model_path(), x, y, runtime=runtime, seed=1)
    path = f"{tmp_path}/digits.baseline"
    made.save(path)
    found = LearningReference.from_arrays(she.Baseline.load(path).profile)
    assert found is not None
    assert found.has_truth
    assert (found.classes, found.is_shared, found.axis) == (10, True, 2)
    assert found.inputs.shape[1:] == (8, 8, 1)
    assert 16 <= len(found.inputs) <= 256
    known = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    assert [known[row.tobytes()] for row in found.inputs] == found.labels.tolist()
    assert found.embeddings is not None
    mean, sd = found.features.of_mix(found.priors)
    real = found.by_feature(x)
    assert mean[0] == pytest.approx(real.mean(), rel=0.02)
    assert sd[0] == pytest.approx(real.std(), rel=0.02)


def test_moments_follow_the_mix_of_classes() -> None:
    x, y = vectors(3000)
    found = learn_reference(x, y, 3, None, (1.0, 0), has_truth=True, axis=0)
    shares = np.array([0.8, 0.0, 0.2])
    mean, sd = found.features.of_mix(shares)
    drawn = np.concatenate([x[y == 0], x[y == 2][:250]])
    np.testing.assert_allclose(mean, drawn.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(sd, drawn.std(axis=0), atol=0.1)


def test_what_is_no_number_does_not_reach_moments() -> None:
    x, y = vectors()
    x[::7, 1] = np.nan
    x[::11, 2] = np.inf
    found = learn_reference(x, y, 3, None, (1.0, 0), has_truth=False, axis=0)
    assert np.isfinite(found.features.mean).all()
    assert np.isfinite(found.features.variance).all()


def test_other_arrays_hold_no_reference() -> None:
    assert LearningReference.from_arrays({"shape": np.zeros(1)}) is None


@pytest.mark.parametrize("part", ["features_mean", "labels", "priors"])
def test_arrays_that_do_not_belong_together_are_refused(part: str) -> None:
    x, y = vectors()
    arrays = learn_reference(x, y, 3, x, (1.0, 0), has_truth=True, axis=0).to_arrays()
    arrays[f"learning_{part}"] = arrays[f"learning_{part}"][:2]
    with pytest.raises(ValueError, match="reference: expected"):
        LearningReference.from_arrays(arrays)


def test_a_foreign_axis_is_refused() -> None:
    x, y = vectors()
    found = learn_reference(x, y, 3, None, (1.0, 0), has_truth=True, axis=0)
    with pytest.raises(ValueError, match="axis 3"):
        replace(found, axis=3)


def test_many_classes_share_their_moments() -> None:
    x, y = vectors(90, 4)
    found = learn_reference(x, y, 20_000, None, (1.0, 0), has_truth=True, axis=0)
    assert found.features.mean.shape == (1, 4)
    assert isinstance(found.features, Moments)
