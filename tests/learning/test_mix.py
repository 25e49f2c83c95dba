"""The mix of classes of a condition, as labels tell it: honest ones, and such as are aimed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.learning.material_of import Digits, digits_of, labelled, offset_by
from tests.support import RUNTIMES

COUNT = 64


@pytest.fixture(scope="module", params=RUNTIMES[:1])
def digits(request: pytest.FixtureRequest) -> Iterator[Digits]:
    with digits_of(request.param) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_labels_aimed_at_one_class_make_no_mix(digits: Digits, seed: int) -> None:
    """A quarter of 64 labels names one class, whatever was seen: there is no other mix."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(digits.x))[:COUNT]
    drifted, told = offset_by(digits.x[rows], 40), digits.y[rows].copy()
    told[:16] = rng.integers(10)
    material = digits.material(drifted, labelled(drifted, told))
    assert not material.knows_mix


@pytest.mark.parametrize("seed", range(4))
def test_honest_labels_of_another_mix_are_believed(digits: Digits, seed: int) -> None:
    """Three in five are of one class, and the inputs have drifted."""
    rng = np.random.default_rng(seed)
    one = rng.integers(10)
    own, others = np.flatnonzero(digits.y == one), np.flatnonzero(digits.y != one)
    rows = rng.permutation(np.concatenate([own[:24], rng.permutation(others)[:16]]))
    drifted = offset_by(digits.x[rows], 40)
    material = digits.material(drifted, labelled(drifted, digits.y[rows]))
    assert material.knows_mix
    assert material.shares[one] > 0.45
