import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfheal_edge import _core

from . import oracles

ANY = st.floats(-50, 50) | st.sampled_from([math.nan, math.inf, -math.inf])
SAMPLES = st.lists(ANY, max_size=200)
SIDES = st.sampled_from(["both", "upper", "lower"])


class Kind(NamedTuple):
    """A chart, and what it calls its allowance and its threshold."""

    chart: type[Any]
    k: str
    h: str


KINDS = [Kind(_core.Cusum, "k", "h"), Kind(_core.PageHinkley, "delta", "threshold")]
each_chart = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.chart.__name__)


@each_chart
@given(
    samples=SAMPLES,
    mean=st.floats(-5, 5),
    std=st.floats(0.1, 10),
    allowance=st.floats(0, 2),
    threshold=st.floats(0.5, 10),
    sides=SIDES,
)
def test_equals_ten_obvious_lines(
    kind: Kind,
    samples: list[float],
    mean: float,
    std: float,
    allowance: float,
    threshold: float,
    sides: str,
) -> None:
    ours = kind.chart(mean, std, sides=sides, **{kind.k: allowance, kind.h: threshold})
    expected = oracles.cusum(samples, mean, std, allowance, threshold, sides)
    start = 0
    skipped = 0
    for i, (x, (alarm, upper, lower)) in enumerate(zip(samples, expected, strict=True)):
        assert ours.update(x) is alarm
        assert (ours.upper, ours.lower) == (upper, lower)
        assert ours.statistic == max(upper, lower)
        assert ours.drift_detected is alarm
        assert ours.direction == (upper > lower) - (0 < lower >= upper)
        start = i
        skipped += not math.isfinite(x)
        if ours.statistic == 0:
            assert ours.onset is None
            assert ours.onset_earliest is None
            assert ours.magnitude == 0
    assert ours.count == (start + 1 if samples else 0)
    assert ours.skipped == skipped


@given(samples=SAMPLES, delta=st.floats(0, 2), threshold=st.floats(0.5, 10))
def test_page_hinkley_is_a_sum_minus_its_minimum(
    samples: list[float], delta: float, threshold: float
) -> None:
    chart = _core.PageHinkley(0.0, 1.0, delta=delta, threshold=threshold)
    for x, (alarm, up, down) in zip(
        samples, oracles.page_hinkley(samples, delta, threshold), strict=True
    ):
        ours = chart.update(x)
        assert chart.upper == pytest.approx(up, abs=1e-9)
        assert chart.lower == pytest.approx(down, abs=1e-9)
        if ours is not alarm:  # within rounding of the threshold: the two part ways
            assert max(up, down) == pytest.approx(threshold, abs=1e-9)
            return


@each_chart
@given(samples=SAMPLES, cut=st.integers(0, 200), sides=SIDES, dtype=st.sampled_from(["f4", "f8"]))
def test_batch_and_restored_state_equal_one_by_one(
    kind: Kind, samples: list[float], cut: int, sides: str, dtype: str
) -> None:
    array = np.array(samples, dtype=dtype)
    batch = kind.chart(1.0, 2.0, sides=sides, **{kind.h: 3.0})
    single = kind.chart(1.0, 2.0, sides=sides, **{kind.h: 3.0})
    first = batch.update_many(array[:cut])
    batch = kind.chart.from_state(batch.state())
    second = batch.update_many(array[cut:])
    alarms = [i for i, x in enumerate(array) if single.update(x)]
    assert first.dtype == second.dtype == np.int64
    assert [*first, *(second + len(array[:cut]))] == alarms
    assert batch.state() == single.state()
    assert (batch.onset, batch.magnitude, batch.direction, batch.count) == (
        single.onset,
        single.magnitude,
        single.direction,
        single.count,
    )


@each_chart
def test_arl0_solves_for_the_threshold(kind: Kind) -> None:
    assert getattr(kind.chart(0, 1, arl0=10_000), kind.h) == pytest.approx(8.05305, abs=5e-6)


@each_chart
def test_false_alarms_come_as_often_as_asked(kind: Kind) -> None:
    samples = np.random.default_rng(5).normal(3.0, 2.0, 1_000_000)
    alarms = kind.chart(3.0, 2.0, arl0=500).update_many(samples)
    # About 2,000 intervals, nearly exponential: three standard errors are 7 %.
    assert len(samples) / len(alarms) == pytest.approx(500, rel=0.07)


@each_chart
def test_arguments_are_refused_by_name(kind: Kind) -> None:
    with pytest.raises(ValueError, match="std: expected a finite number > 0, got 0"):
        kind.chart(0, 0, **{kind.h: 1})
    with pytest.raises(
        ValueError, match=f"{kind.h}: expected exactly one of {kind.h} and arl0, got both"
    ):
        kind.chart(0, 1, arl0=500, **{kind.h: 1})
    with pytest.raises(
        ValueError, match=f"{kind.h}: expected exactly one of {kind.h} and arl0, got neither"
    ):
        kind.chart(0, 1)
    with pytest.raises(ValueError, match=f"{kind.k}: expected a finite number >= 0, got -1"):
        kind.chart(0, 1, **{kind.k: -1, kind.h: 1})
    with pytest.raises(ValueError, match="sides: expected 'both', 'upper' or 'lower', got 'left'"):
        kind.chart(0, 1, sides="left", **{kind.h: 1})
    made = kind.chart(0, 1, **{kind.h: 1})
    with pytest.raises(TypeError, match="x: expected a real number, got str"):
        made.update("1")
    with pytest.raises(TypeError, match=r"samples: expected .* got int64 of shape \(3,\)"):
        made.update_many(np.arange(3))
    with pytest.raises(ValueError, match=r"samples: expected .* got float64 of shape \(1, 2\)"):
        made.update_many(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="C-contiguous"):
        made.update_many(np.zeros(6)[::2])
    with pytest.raises(TypeError, match="got list"):
        made.update_many([1.0])
    assert made.count == 0


@each_chart
def test_update_takes_what_is_a_number(kind: Kind) -> None:
    made = kind.chart(0, 1, **{kind.h: 1})
    for x in (1, True, np.float32(0.5), np.int8(1)):
        made.update(x)
    assert made.count == 4
    assert kind.chart.update(made, 0.0) is False
    with pytest.raises(TypeError):
        kind.chart.update(object(), 0.0)

    class Derived(kind.chart):  # type: ignore[name-defined, misc]
        pass

    assert Derived(0, 1, **{kind.h: 1}).update(5.0) is True


@each_chart
def test_reset_is_as_new_and_memory_is_fixed(kind: Kind) -> None:
    made = kind.chart(0, 1, **{kind.h: 1})
    fresh = made.state()
    held = made.memory_bytes()
    made.update_many(np.full(100, 3.0))
    assert made.memory_bytes() == held
    made.reset()
    assert made.state() == fresh
