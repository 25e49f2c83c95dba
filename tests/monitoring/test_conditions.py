"""The gate between conditions: what it promises, and rows that are no conditions."""

from __future__ import annotations

import functools
import struct

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from tests.support import examples

from selfheal_edge.errors import IntegrityError
from selfheal_edge.monitoring.conditions import (
    EXAMPLES,
    MOST_NUMBERS,
    Condition,
    Gate,
    conditions_from_bytes,
    conditions_to_bytes,
)

Floats = npt.NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
KINDS = ("normal", "heavy-tailed", "int8-like")


def draw(rng: np.random.Generator, kind: str, count: int, width: int) -> Floats:
    if kind == "normal":
        return rng.normal(0, 1, (count, width))
    if kind == "heavy-tailed":
        return rng.standard_t(2.5, (count, width))
    return np.asarray(np.clip(np.round(rng.normal(0, 2, (count, width))), -128, 127) / 2)


def pair(rng: np.random.Generator, kind: str, width: int, gap: float) -> tuple[Gate, Gate, Floats]:
    """Return the gate at home, the one away, and how far away that is."""
    away = gap * rng.choice([-1.0, 1.0], width)
    home = Condition.of("", draw(rng, kind, 256, width))
    there = Condition.of("night", draw(rng, kind, 128, width) + away)
    return Gate((home, there), 0, INTERVAL), Gate((home, there), 1, INTERVAL), away


INTERVAL = 100.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "gap"), [(3, 0.3), (12, 0.3), (64, 0.2)])
def test_passages_by_mistake_are_as_rare_as_promised(kind: str, width: int, gap: float) -> None:
    """Looked at every eight inputs; after a mistake it begins anew."""
    rng = np.random.default_rng(7)
    mistakes = inputs = 0
    for _ in range(8):
        gate, _, _ = pair(rng, kind, width, gap)
        stream = draw(rng, kind, 400, width)
        start, end = 0, 8
        while end <= len(stream):
            if gate.passed(stream[start:end]).to is not None:
                mistakes, start = mistakes + 1, end
            end += 8
        inputs += len(stream)
    assert mistakes <= inputs / INTERVAL


@pytest.mark.parametrize("kind", KINDS)
def test_a_passage_is_told_soon(kind: str) -> None:
    rng = np.random.default_rng(8)
    delays = []
    for _ in range(20):
        gate, back, away = pair(rng, kind, 12, 1.0)
        for asked, stream in (
            (gate, draw(rng, kind, 64, 12) + away),
            (back, draw(rng, kind, 64, 12)),
        ):
            told = (n for n in range(1, 65) if asked.passed(stream[:n]).to is not None)
            delays.append(next(told, 64))
    assert np.median(delays) <= 16


def test_conditions_that_are_the_same_are_not_told_apart() -> None:
    rng = np.random.default_rng(9)
    home, same = (Condition.of(name, draw(rng, "normal", 64, 20)) for name in ("", "same"))
    gate = Gate((home, same), 0, INTERVAL)
    passages = (gate.passed(draw(rng, "normal", 64, 20)).to for _ in range(100))
    assert sum(to is not None for to in passages) <= 3


@given(SEEDS)
@examples(40)
def test_the_order_of_numbers_and_their_scale_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 20))
    rows = [draw(rng, "normal", 40, width) + shift for shift in (0.0, 0.8, 0.5)]
    order, scale = rng.permutation(width), 2.0 ** rng.integers(-20, 20, width)

    def passage(*, changed: bool) -> int | None:
        home, there, stream = (r[:, order] * scale[order] if changed else r for r in rows)
        gate = Gate((Condition.of("", home), Condition.of("there", there)), 0, 1000.0)
        return gate.passed(stream).to

    assert passage(changed=True) == passage(changed=False)


@given(SEEDS, st.sampled_from([np.nan, np.inf, -np.inf]))
@examples(40)
def test_rows_that_are_not_finite_are_left_out(seed: int, odd: float) -> None:
    rng = np.random.default_rng(seed)
    home, there = draw(rng, "normal", 30, 5), draw(rng, "normal", 30, 5) + 2
    stream = draw(rng, "normal", 20, 5) + 2

    def with_odd(rows: Floats) -> Floats:
        fresh = np.insert(rows, rng.integers(0, len(rows), 4), 0.0, axis=0)
        fresh[~np.isin(fresh, rows).any(axis=1), rng.integers(0, 5)] = odd
        return fresh

    plain = Gate((Condition.of("", home), Condition.of("x", there)), 0, 50.0)
    mixed = Gate((Condition.of("", with_odd(home)), Condition.of("x", with_odd(there))), 0, 50.0)
    assert mixed.passed(with_odd(stream)) == plain.passed(stream)
    assert plain.passed(np.full((3, 5), odd)).to is None
    assert plain.passed(np.empty((0, 5))).to is None


@pytest.mark.parametrize("count", [0, 1, 15])
def test_too_few_rows(count: int) -> None:
    rows = np.vstack((np.zeros((count, 3)), np.full((20, 3), np.nan)))
    with pytest.raises(ValueError, match=f"numbers: expected at least 16 finite rows, got {count}"):
        Condition.of("x", rows)


def test_rows_of_another_shape() -> None:
    for shape in ((20,), (20, 3, 1), (20, 0)):
        with pytest.raises(ValueError, match="numbers: expected shape"):
            Condition.of("x", np.zeros(shape))


@pytest.mark.parametrize("width", [1, 63, 64, 65, 128, 129, 1000])
def test_many_rows_and_numbers_stay_few(width: int) -> None:
    rng = np.random.default_rng(width)
    home = Condition.of("", draw(rng, "normal", 300, width))
    there = Condition.of("there", draw(rng, "normal", 300, width) + 3)
    assert home.examples.shape[0] == EXAMPLES
    assert home.examples.shape[1] <= MOST_NUMBERS
    assert Gate((home, there), 0, 100.0).passed(draw(rng, "normal", 64, width) + 3).to == 1


def test_arguments_that_are_none() -> None:
    one = Condition.of("", np.random.default_rng(0).normal(size=(20, 3)))
    other = Condition.of("x", np.zeros((20, 4)))
    with pytest.raises(ValueError, match="current: expected 0 to 0, got 1"):
        Gate((one,), 1, 10.0)
    for interval in (1.0, 0.0, -3.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="interval: expected above 1 and finite"):
            Gate((one,), 0, interval)
    with pytest.raises(ValueError, match=r"the same numbers of all, got \[3, 4\]"):
        Gate((one, other), 0, 10.0)
    assert not Gate((one,), 0, 10.0).passed(np.zeros((5, 3))).is_open


# -------------------------------------------------------------------- their row in a store


def some(seed: int = 0) -> tuple[Condition, ...]:
    rng = np.random.default_rng(seed)
    names = ("", "repaired 1", "Nacht \N{CRESCENT MOON}")
    return tuple(Condition.of(n, rng.normal(size=(16 + 9 * k, 5))) for k, n in enumerate(names))


@given(SEEDS, st.lists(st.text(max_size=12).filter(str.isprintable), max_size=5))
@examples(40)
def test_they_survive_a_restart(seed: int, names: list[str]) -> None:
    rng = np.random.default_rng(seed)
    known = [Condition.of(n, rng.normal(size=(rng.integers(16, 80), 7))) for n in names]
    again = conditions_from_bytes(conditions_to_bytes(known))
    assert [c.name for c in again] == names
    for a, b in zip(again, known, strict=True):
        np.testing.assert_array_equal(a.examples, b.examples)
        assert a.examples.dtype == np.float32


@functools.cache
def ends() -> frozenset[int]:
    return frozenset(len(conditions_to_bytes(some()[:n])) for n in range(4))


def test_rows_that_were_cut() -> None:
    """At the end of a condition, a row is that of fewer; anywhere else it is none."""
    data = conditions_to_bytes(some())
    for length in range(len(data)):
        if length in ends():
            assert len(conditions_from_bytes(data[:length])) < 3
        else:
            with pytest.raises(IntegrityError, match="conditions: expected a readable row"):
                conditions_from_bytes(data[:length])


@given(st.data())
@examples(200)
def test_rows_with_flipped_bits(drawn: st.DataObject) -> None:
    """They are refused, or are conditions that a gate can be made of."""
    data = bytearray(conditions_to_bytes(some()))
    for _ in range(drawn.draw(st.integers(1, 4))):
        # Names and shapes more often than examples.
        at = drawn.draw(st.one_of(st.integers(0, 40), st.integers(0, len(data) - 1)))
        data[at] ^= 1 << drawn.draw(st.integers(0, 7))
    try:
        found = conditions_from_bytes(bytes(data))
    except IntegrityError:
        return
    assert len({c.examples.shape[1] for c in found}) <= 1
    if found:
        Gate(found, 0, 100.0).passed(np.zeros((8, found[0].examples.shape[1])))


@given(st.binary(max_size=200))
@examples(100)
def test_any_bytes(data: bytes) -> None:
    for row in (data, b"SHEcond1" + data):
        try:
            conditions_from_bytes(row)
        except IntegrityError:
            continue


def test_conditions_of_different_numbers_are_no_row() -> None:
    """A gate cannot be made of them: it would raise in the middle of a diagnosis."""
    rows = [Condition.of(str(n), np.ones((20, n))) for n in (3, 4)]
    with pytest.raises(IntegrityError, match="the same numbers"):
        conditions_from_bytes(conditions_to_bytes(rows))
    none = b"SHEcond1" + struct.pack("<HHH", 0, 16, 0)
    with pytest.raises(IntegrityError):
        conditions_from_bytes(none)
