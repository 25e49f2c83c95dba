"""What repairs by learning may cost: token buckets, clocks that jump, and restarts."""

from __future__ import annotations

import math
import threading
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.support import begins, examples

from selfheal_edge.errors import BudgetExhaustedError, IntegrityError
from selfheal_edge.repair.budget import RepairBudget


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def begun(budget: RepairBudget, tries: int = 20) -> int:
    """Return how many repairs may begin at once."""
    return sum(begins(budget) for _ in range(tries))


def test_four_hours_are_saved_up_and_more_come_by_the_hour() -> None:
    clock = Clock()
    budget = RepairBudget(4, 60, clock)
    assert begun(budget) == 16
    with pytest.raises(BudgetExhaustedError, match=r"the budget has 0\.00 of a repair"):
        budget.begin()
    clock.now += 900 - 1
    assert not begins(budget)
    clock.now += 1.001
    budget.begin()
    clock.now += 1e9
    assert begun(budget) == 16


def test_a_debt_is_filled_first() -> None:
    clock = Clock()
    budget = RepairBudget(100, 36, clock)
    budget.spend(36 * 4 + 10)
    with pytest.raises(BudgetExhaustedError, match=r"the budget is 10\.0 s of CPU time"):
        budget.begin()
    clock.now += 999
    assert not begins(budget)
    clock.now += 2
    budget.begin()


@pytest.mark.parametrize(("repairs", "seconds"), [(0, 60), (4, 0), (0, 0)])
def test_zero_means_none_ever(repairs: float, seconds: float) -> None:
    clock = Clock()
    budget = RepairBudget(repairs, seconds, clock)
    for _ in range(5):
        assert not begins(budget)
        clock.now += 1e6


def test_a_slow_rate_saves_up_one() -> None:
    clock = Clock()
    budget = RepairBudget(0.1, 0.001, clock)
    assert budget.left == (1.0, 0.1)
    assert begun(budget) == 1
    clock.now += 36_001
    assert begun(budget) == 1


@given(st.lists(st.floats(-1e7, 1e7), max_size=30))
@examples(100)
def test_a_clock_that_jumps(jumps: list[float]) -> None:
    """Never more than is saved up at once; and what comes is paid for by time that went on."""
    clock = Clock()
    budget = RepairBudget(4, 60, clock)
    furthest, first = clock.now, clock.now
    repairs = begun(budget)
    for jump in jumps:
        clock.now += jump
        count = begun(budget)
        assert count <= 16
        repairs += count
        furthest = max(furthest, clock.now)
        assert repairs <= 16 + (furthest - first) * 4 / 3600 + 1e-6


def test_a_clock_that_swings_buys_nothing() -> None:
    clock = Clock()
    budget = RepairBudget(4, 60, clock)
    begun(budget)
    for _ in range(50):
        clock.now -= 3600
        assert not begins(budget)
        clock.now += 3600
        assert not begins(budget)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_clock_that_shows_no_time(odd: float) -> None:
    clock = Clock()
    budget = RepairBudget(4, 60, clock)
    begun(budget)
    clock.now = odd
    assert not begins(budget)
    clock.now = 1900.1
    budget.begin()


def test_a_restart_buys_nothing() -> None:
    clock = Clock()
    budget = RepairBudget(4, 60, clock)
    assert begun(budget, 10) == 10
    budget.spend(200)
    for _ in range(5):  # off for an hour each time
        row = budget.to_bytes()
        clock.now += 3600
        budget = RepairBudget(4, 60, clock)
        budget.go_on_with(row)
        assert budget.left == (6.0, 40.0)
    clock.now += 900
    assert budget.left == (7.0, 55.0)


def test_a_restart_with_another_policy() -> None:
    before = RepairBudget(100, 600, Clock())
    less = RepairBudget(1, 6, Clock())
    less.go_on_with(before.to_bytes())
    assert less.left == (4.0, 24.0)


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"\xff",
        b"[]",
        b"[1]",
        b"[1, 2, 3]",
        b"[1, null]",
        b"[NaN, 1]",
        b"[1, -Infinity]",
        b"[Infinity, 1]",
        b"[1" + b"0" * 400 + b", 1]",
        b"[" * 100_000,
        b'{"a": 1, "b": 2}',
        b"7",
        b'["1", [2]]',
    ],
)
def test_rows_that_are_none(row: bytes) -> None:
    budget = RepairBudget(4, 60, Clock())
    with pytest.raises(IntegrityError, match="budget: expected"):
        budget.go_on_with(row)
    assert budget.left == (16.0, 240.0)


@given(st.binary(max_size=30))
@examples(100)
def test_any_bytes(row: bytes) -> None:
    budget = RepairBudget(4, 60, Clock())
    try:
        budget.go_on_with(row)
    except IntegrityError:
        assert budget.left == (16.0, 240.0)


@pytest.mark.parametrize("rate", [-1, -1e-9, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["repairs_per_hour", "seconds_per_hour"])
def test_rates_that_are_none(name: str, rate: float) -> None:
    rates: dict[str, Any] = {"repairs_per_hour": 1, "seconds_per_hour": 1, name: rate}
    with pytest.raises(ValueError, match=f"{name}: expected a number of at least 0"):
        RepairBudget(**rates, clock=Clock())


@pytest.mark.parametrize("seconds", [-5.0, math.nan, 0.0])
def test_a_cost_that_is_none(seconds: float) -> None:
    budget = RepairBudget(4, 60, Clock())
    budget.spend(seconds)
    assert budget.left == (16.0, 240.0)


def test_threads_share_it() -> None:
    budget = RepairBudget(250, 3600, Clock())
    counts: list[int] = []

    def work() -> None:
        counts.append(begun(budget, 500))
        for _ in range(500):
            budget.spend(0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 1000
    assert budget.left == (0.0, 4 * 3600 - 4 * 500 * 0.5)
