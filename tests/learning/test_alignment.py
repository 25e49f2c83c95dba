"""How a condition's numbers are brought back, and how far at most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.support import examples

from selfheal_edge.learning.alignment import (
    EMBEDDING_GAIN,
    INPUT_GAIN,
    affine,
    align_embedding,
    align_inputs,
    carried,
    class_shares,
    folded,
    unexplained_shift,
)
from selfheal_edge.learning.reference import LearningReference, learn_reference

RNG = np.random.default_rng(3)
NUMBERS = st.floats(-1e6, 1e6)
SPREADS = st.floats(0, 1e6)


def reference_of(
    classes: int = 3, *, dtype: str = "float32", shape: tuple[int, ...] = (12, 4)
) -> LearningReference:
    """Return a reference of inputs whose features differ, and of embeddings by class."""
    labels = np.arange(150) % classes
    x = RNG.normal(size=(150, *shape)) * np.arange(1, shape[-1] + 1) + labels.reshape(
        -1, *[1] * len(shape)
    )
    inside = (RNG.normal(size=(150, 6)) + 4 * np.eye(classes, 6)[labels]).astype(np.float32)
    raw = x.astype(dtype) if dtype == "float32" else np.clip(np.rint(8 * x), -128, 127)
    scale = 1.0 if dtype == "float32" else 0.125
    return learn_reference(
        raw.astype(dtype),
        labels,
        classes,
        inside,
        (scale, 0),
        has_truth=True,
        axis=len(shape) - 1,
    )


@examples(100)
@given(
    hnp.arrays(np.float64, (4, 5), elements=NUMBERS),
    hnp.arrays(np.float64, (2, 5), elements=SPREADS),
    st.floats(0, 1),
    st.floats(1, 8),
)
def test_gains_stay_within_their_bounds(
    means: np.ndarray, spreads: np.ndarray, part: float, most: float
) -> None:
    gain, offset = affine(means[0], spreads[0], means[1], spreads[1], part, most)
    assert np.isfinite(gain).all()
    assert np.isfinite(offset).all()
    assert (gain >= 1 / most).all()
    assert (gain <= most).all()


def test_no_part_changes_nothing_and_the_whole_maps_moments() -> None:
    mean, spread = np.array([1.0, -2.0]), np.array([1.0, 3.0])
    now, wide = np.array([4.0, 0.0]), np.array([2.0, 2.0])
    gain, offset = affine(mean, spread, now, wide, 0.0, 4.0)
    np.testing.assert_allclose(gain, 1.0)
    np.testing.assert_allclose(offset, 0.0, atol=1e-12)
    gain, offset = affine(mean, spread, now, wide, 1.0, 4.0)
    np.testing.assert_allclose(gain * now + offset, mean)
    np.testing.assert_allclose(gain * wide, spread)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_inputs_are_corrected_within_their_bound(dtype: str) -> None:
    reference = reference_of(dtype=dtype)
    drifted = (reference.inputs.astype(np.float64) * 9).clip(-128, 127).astype(dtype)
    found = align_inputs(reference, drifted, reference.priors, 1.0)
    assert found.axis == 1
    assert ((found.gain >= 1 / INPUT_GAIN - 1e-6) & (found.gain <= INPUT_GAIN + 1e-6)).all()


def test_inputs_that_are_no_numbers_give_finite_corrections() -> None:
    reference = reference_of()
    broken = reference.inputs.copy()
    broken[:, :, 0] = np.nan
    broken[:, :, 1] = np.inf
    found = align_inputs(reference, broken, reference.priors, 0.75)
    assert np.isfinite(found.gain).all()
    assert np.isfinite(found.offset).all()


def test_an_aligned_head_answers_as_golden_to_what_did_not_drift() -> None:
    reference = reference_of()
    clean = RNG.normal(size=(200, 6))
    drift_gain, drift_offset = RNG.uniform(0.5, 2, 6), RNG.normal(size=6)
    mean, spread = clean.mean(axis=0), clean.std(axis=0)
    weights, bias = RNG.normal(size=(3, 6)), RNG.normal(size=3)
    now = clean * drift_gain + drift_offset
    gain, offset = affine(mean, spread, now.mean(axis=0), now.std(axis=0), 1.0, EMBEDDING_GAIN)
    moved = folded(weights, bias, gain, offset)
    np.testing.assert_allclose(now @ moved[0].T + moved[1], clean @ weights.T + bias, atol=1e-9)
    gain, _ = align_embedding(reference, now * 100, reference.priors, 1.0)
    assert (gain >= 1 / EMBEDDING_GAIN).all()


def test_a_mix_is_believed_only_when_labels_are_clear() -> None:
    reference = reference_of()
    ones = np.ones(30)
    usual = RNG.permutation(np.arange(30) % 3)
    assert class_shares(reference, usual, ones) is reference.priors
    assert class_shares(reference, np.zeros(4, np.int64), np.ones(4)) is reference.priors
    skewed = class_shares(reference, np.zeros(30, np.int64), ones)
    assert skewed[0] > 0.9
    assert skewed.sum() == pytest.approx(1.0)


def test_labels_that_were_sure_to_be_asked_weigh_less_in_a_mix() -> None:
    reference = reference_of()
    labels = np.array([0] * 40 + [1] * 10)
    weights = np.array([0.25] * 40 + [1.0] * 10)  # class 0 was asked for four times as often
    shares = class_shares(reference, labels, weights)
    assert shares[0] == pytest.approx(shares[1], abs=0.1)


@pytest.mark.parametrize("mix", [(0, 1, 2), (0,), (1, 2)])
def test_a_mix_of_classes_is_no_shift(mix: tuple[int, ...]) -> None:
    reference = reference_of()
    labels = RNG.choice(mix, 400)
    inside = RNG.normal(size=(400, 6)) + 4 * np.eye(3, 6)[labels]
    assert unexplained_shift(reference, inside) < 0.2
    assert unexplained_shift(reference, inside + 1.5) > 0.5


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_held_inputs_are_carried_into_a_condition(dtype: str) -> None:
    reference = reference_of(dtype=dtype, shape=(12, 4))
    raw = reference.inputs.astype(np.float64)
    window = np.clip(raw * 0.5 + 10, -128, 127).astype(dtype)
    found = carried(reference, window)
    assert found is not None
    assert found.dtype == reference.inputs.dtype
    assert found.shape == reference.inputs.shape
    there, here = reference.by_feature(window), reference.by_feature(found)
    step = 0.5 if dtype == "int8" else 0.15
    np.testing.assert_allclose(here.mean(axis=(0, 1)), there.mean(axis=(0, 1)), atol=step)
    np.testing.assert_allclose(here.std(axis=(0, 1)), there.std(axis=(0, 1)), rtol=0.15)


def test_inputs_without_places_are_not_carried() -> None:
    reference = reference_of(shape=(5,))
    assert carried(reference, reference.inputs) is None
