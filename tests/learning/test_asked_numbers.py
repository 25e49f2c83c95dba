"""Questions about numbers: who has won by a target, so that a trial's promise holds."""

from __future__ import annotations

import numpy as np
import pytest

from selfheal_edge.learning.questions import AskedLabel, Parting


def asked(golden: float, candidate: float, tolerance: float) -> AskedLabel:
    return AskedLabel("parting", 0.5, (golden,), (candidate,), 1, tolerance=(tolerance,))


def test_who_lies_nearer_by_more_than_the_tolerance_has_won() -> None:
    target = np.array([1.0], np.float32)
    assert asked(3.0, 1.5, 1.0).judged(target) == (True, False)
    assert asked(1.5, 3.0, 1.0).judged(target) == (False, True)
    assert asked(3.0, 1.5, 1.6).judged(target) == (False, False)
    assert asked(3.0, 1.5, 1.0).is_decisive
    assert not AskedLabel("any", 0.5, -1, -1, 1).is_decisive


def test_classes_are_judged_as_before() -> None:
    one = AskedLabel("parting", 0.5, 3, 4, 1)
    assert one.judged(4) == (True, False)
    assert one.judged(3) == (False, True)
    assert one.judged(5) == (False, False)


def test_numbers_part_where_it_matters() -> None:
    golden = np.array([[1.0], [1.0], [1.0]], np.float32)
    candidate = np.array([[1.0], [1.05], [1.2]], np.float32)
    units = np.array([0.8])
    assert Parting(golden, candidate, 1, None, units).parts.tolist() == [False, False, True]
    classes = Parting(np.array([1, 2]), np.array([1, 3]), 1)
    assert classes.parts.tolist() == [False, True]


def test_each_number_counts_in_its_own_unit() -> None:
    """Degrees and pascals: a gain of three degrees outweighs the loss of a hundred pascals."""
    target = np.array([20.0, 1e5], np.float32)
    answers = (24.0, 1e5), (21.0, 1e5 + 100.0)
    one = AskedLabel("parting", 0.5, *answers, 1, tolerance=(1.0, 200.0))
    assert one.judged(target) == (True, False)
    one = AskedLabel("parting", 0.5, *answers, 1, tolerance=(2.0, 80.0))
    assert one.judged(target) == (False, False)
    units = np.array([0.8, 100.0])
    golden, candidate = np.array([[20.0, 1e5]] * 2), np.array([[20.0, 1e5 + 10], [20.0, 1e5 + 50]])
    assert Parting(golden, candidate, 1, None, units).parts.tolist() == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_candidate_that_is_no_better_wins_no_more_than_golden(share: float) -> None:
    """Often nearer by little and seldom farther by much: no better on average, and no winner."""
    rng = np.random.default_rng(7)
    most = 1.0
    gain = min(0.5, most * (1.0 - share) / share)
    loss = gain * share / (1.0 - share)
    won = lost = 0
    for _ in range(4000):
        is_nearer = rng.random() < share
        error = 2.0 - gain if is_nearer else 2.0 + loss
        new, old = asked(2.0, error, most * rng.random()).judged(np.zeros(1, np.float32))
        won += new
        lost += old
    assert abs(won - lost) < 4 * np.sqrt(won + lost)
    assert won + lost > 300
