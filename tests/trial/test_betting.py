"""The bet that confirms or rejects a repair."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfheal_edge.trial.betting import MOST_SOURCES, OTHERS, Evidence, Tally, capital

COUNTS = st.integers(0, 300)
once = functools.cache(capital)
"""The same for what a chain asks again and again."""


@given(COUNTS, COUNTS)
def test_a_fair_coin_earns_nothing(new: int, old: int) -> None:
    """A martingale: what is expected after one more fair label is what there is."""
    after = (capital(new + 1, old) + capital(new, old + 1)) / 2
    assert math.isclose(after, capital(new, old), rel_tol=1e-9)


@given(COUNTS, COUNTS, st.floats(0, 0.5))
def test_a_worse_one_loses_money(new: int, old: int, odds: float) -> None:
    after = odds * capital(new + 1, old) + (1 - odds) * capital(new, old + 1)
    assert after <= capital(new, old) * (1 + 1e-9)


def exact_crossing(odds: float, threshold: float, labels: int) -> float:
    """Return the chance that the capital ever reaches a threshold, by the chain of all counts."""
    alive = {0: 1.0}
    crossed = 0.0
    for n in range(1, labels + 1):
        after: dict[int, float] = {}
        for new, chance in alive.items():
            for won, p in ((1, odds), (0, 1 - odds)):
                k = new + won
                if once(k, n - k) >= threshold:
                    crossed += chance * p
                else:
                    after[k] = after.get(k, 0.0) + chance * p
        alive = after
    return crossed


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.05, 0.005])
def test_the_promise_holds_exactly(error: float) -> None:
    assert exact_crossing(0.5, 1 / error, 400) <= error
    assert exact_crossing(0.45, 1 / error, 400) <= error / 4


def test_a_real_gain_is_confirmed() -> None:
    """20 % disagreement and a gain of 10 points are odds of 3 to 1."""
    assert exact_crossing(0.75, 200, 64) > 0.75


def told(*tallies: tuple[str, int, int]) -> Evidence:
    evidence = Evidence()
    for source, new, old in tallies:
        for _ in range(new):
            evidence = evidence.with_label(source, new_right=True, old_right=False)
        for _ in range(old):
            evidence = evidence.with_label(source, new_right=False, old_right=True)
    return evidence


def test_one_source_confirms_nothing_alone() -> None:
    alone = told(("a", 60, 0))
    assert alone.verdict(0.005) is None
    assert alone.verdict(0.005, owner="a") == "confirm"
    assert alone.verdict(0.005, owner="b") is None


def test_the_verdict_holds_without_any_one_source() -> None:
    assert told(("a", 20, 2), ("b", 20, 2)).verdict(0.005) == "confirm"
    assert told(("a", 60, 0), ("b", 8, 6)).verdict(0.005) is None
    # An owner's word needs no second one, but others cannot outvote it by themselves.
    assert told(("owner", 6, 6), ("b", 60, 0)).verdict(0.005, owner="owner") is None


def test_a_worse_one_is_rejected() -> None:
    assert told(("a", 2, 14)).verdict(0.005) == "reject"
    assert told(("a", 0, 3)).verdict(0.005) is None


def test_one_liar_rejects_nothing_that_others_find_good() -> None:
    assert told(("liar", 0, 30)).verdict(0.005) == "reject", "there is nobody to say otherwise"
    assert told(("liar", 0, 30), ("a", 6, 1), ("b", 5, 1)).verdict(0.005) is None
    assert told(("a", 1, 8), ("b", 0, 6), ("c", 1, 5)).verdict(0.005) == "reject"


def test_labels_that_decide_nothing() -> None:
    evidence = Evidence()
    for right in (True, False):
        evidence = evidence.with_label("a", new_right=right, old_right=right)
    assert (evidence.asked, evidence.total) == (2, Tally())
    assert evidence.verdict(0.05) is None


def test_many_sources_stay_few() -> None:
    evidence = told(*((f"source {k}", 1, 0) for k in range(100)))
    assert len(evidence.tallies) == MOST_SOURCES + 1
    assert dict(evidence.tallies)[OTHERS] == Tally(100 - MOST_SOURCES, 0)
    assert evidence.total == Tally(100, 0)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=40))
def test_it_survives_a_restart(labels: list[tuple[str, bool, bool]]) -> None:
    evidence = Evidence()
    for source, new, old in labels:
        evidence = evidence.with_label(source, new_right=new, old_right=old)
    again = Evidence.from_dict(evidence.to_dict())
    assert again == evidence
    assert str(again) == str(evidence)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"asked": 1, "tallies": [["a", -1, 0]]},
        {"asked": "x", "tallies": []},
        {"asked": 1, "tallies": [["a", 1]]},
        {"asked": 0, "tallies": [[str(k), 0, 0] for k in range(99)]},
    ],
)
def test_rows_that_are_none(fields: dict[str, object]) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        Evidence.from_dict(fields)


def test_counts_below_zero() -> None:
    with pytest.raises(ValueError, match="new, old: expected counts"):
        capital(-1, 0)


def test_order_does_not_matter() -> None:
    orders = itertools.permutations([("a", 5, 1), ("b", 3, 2), ("c", 0, 4)])
    assert len({str(told(*order)) for order in orders}) == 1


def test_errors_alone_favour_the_new_state() -> None:
    """Why reports of errors decide nothing: a candidate that is 5 points worse looks better."""
    rng = np.random.default_rng(3)
    new_right, old_right = rng.random(4000) < 0.80, rng.random(4000) < 0.85
    reported = ~old_right
    wins = int(np.sum(reported & new_right))
    assert capital(wins, int(np.sum(reported & old_right))) > 1e6
