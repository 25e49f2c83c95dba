"""A regressor's last layer, fitted to few targets: against least squares, and with false ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selfheal_edge.learning.errors import MOST_SAVED, POINTS, error_of, saved, units_of
from selfheal_edge.learning.ridge import PULLS, Samples, chosen_pull, fit_ridge

Array = npt.NDArray[Any]
ONES = np.ones(2)


def samples_of(count: int = 64, noise: float = 0.1, seed: int = 0) -> tuple[Samples, Array]:
    """Return samples of a layer of two numbers, and that layer's weights."""
    rng = np.random.default_rng(seed)
    inside = rng.normal(1.0, 2.0, (count, 6))
    weights = rng.normal(size=(2, 6))
    targets = inside @ weights.T + 0.5 + noise * rng.normal(size=(count, 2))
    return Samples(inside, targets, np.ones(count), count), weights


def start_of(weights: Array) -> tuple[Array, Array]:
    return 0.5 * weights, np.zeros(2)


def test_is_least_squares_where_nothing_holds_it() -> None:
    samples, weights = samples_of()
    found = fit_ridge(samples, start_of(weights), 1e-9, 1e3 * ONES)
    rows = np.column_stack([samples.inside, np.ones(len(samples.inside))])
    expected = np.linalg.lstsq(rows, samples.targets, rcond=None)[0]
    np.testing.assert_allclose(found.weights, expected[:-1].T, atol=1e-5)
    np.testing.assert_allclose(found.bias, expected[-1], atol=1e-5)


def test_is_the_start_where_it_is_held_entirely_and_lies_between() -> None:
    samples, weights = samples_of()
    start = start_of(weights)
    held = fit_ridge(samples, start, np.inf, 0.1 * ONES)
    assert held.weights is start[0]
    far = [
        float(np.abs(fit_ridge(samples, start, pull, 0.1 * ONES).weights - start[0]).sum())
        for pull in PULLS[1:]
    ]
    assert far == sorted(far)
    assert far[0] > 0.0


def test_what_has_no_weight_is_not_there() -> None:
    samples, weights = samples_of()
    half = samples.weights.copy()
    half[40:] = 0.0
    spoiled = samples.targets.copy()
    spoiled[40:] = 1e6
    where = samples.inside.mean(axis=0), samples.inside.std(axis=0)
    one = fit_ridge(samples._replace(weights=half), start_of(weights), 1.0, 0.1 * ONES, where)
    other = fit_ridge(
        samples._replace(weights=half, targets=spoiled), start_of(weights), 1.0, 0.1 * ONES, where
    )
    np.testing.assert_array_equal(one.weights, other.weights)


@pytest.mark.parametrize("lie", [30.0, 1e6], ids=["believable", "absurd"])
def test_ten_false_targets_of_64_hardly_move_it(lie: float) -> None:
    samples, weights = samples_of()
    told = samples.targets.copy()
    told[:10] += lie
    start = weights, np.zeros(2)
    honest = fit_ridge(samples, start, 1.0, 0.1 * ONES)
    fooled = fit_ridge(samples._replace(targets=told), start, 1.0, 0.1 * ONES)
    apart = error_of(honest(samples.inside), fooled(samples.inside)).mean()
    assert apart < 0.05
    assert (fooled.trust[:10] == 0.0).all()


def test_strength_is_chosen_by_targets_that_were_held_out() -> None:
    samples, weights = samples_of()
    folds = np.arange(64) % 5
    pull, answers = chosen_pull(samples, start_of(weights), folds, 0.1 * ONES)
    assert np.isfinite(pull)
    assert error_of(answers, samples.targets).mean() < 0.2
    rng = np.random.default_rng(1)
    nothing = samples._replace(targets=rng.normal(size=(64, 2)))
    flat = np.zeros((2, 6)), np.zeros(2)
    pull, answers = chosen_pull(nothing, flat, folds, 0.5 * ONES)
    assert pull == np.inf
    np.testing.assert_array_equal(answers, np.zeros((64, 2)))


def test_the_unit_of_a_number_changes_nothing_but_itself() -> None:
    samples, weights = samples_of()
    told = samples.targets.copy()
    told[:10] += 30.0
    samples, folds, factor = samples._replace(targets=told), np.arange(64) % 5, np.array([1.0, 1e5])
    start, units = start_of(weights), np.array([0.1, 0.2])
    pull, _ = chosen_pull(samples, start, folds, units)
    one = fit_ridge(samples, start, pull, units)
    large = samples._replace(targets=told * factor)
    begin = start[0] * factor[:, None], start[1] * factor
    again, _ = chosen_pull(large, begin, folds, units * factor)
    other = fit_ridge(large, begin, pull, units * factor)
    assert pull == again
    np.testing.assert_allclose(other.weights, one.weights * factor[:, None], rtol=1e-6)
    np.testing.assert_allclose(other.trust, one.trust, atol=1e-9)


def test_errors_are_worth_points() -> None:
    targets = np.zeros((3, 2))
    far = error_of(np.array([[1.0, 3.0], [np.nan, 0.0], [0.0, 0.0]]), targets)
    assert far.tolist() == [2.0, np.inf, 0.0]
    gains = saved(far, np.array([1.0, 1.0, np.inf]))
    assert gains.tolist() == pytest.approx([POINTS, POINTS * MOST_SAVED, -POINTS * MOST_SAVED])
    assert (units_of(targets, targets) > 0.0).all()
