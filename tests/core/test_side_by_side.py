"""Many detectors of a table's columns in one call: to the bit what each would do alone."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples

from selfheal_edge import Cusum, _core, drift, update_channels


def charts_of(kinds: list[tuple[str, Any]]) -> list[Any]:
    makes: dict[str, Any] = {
        "Cusum": lambda mean, k, h, sides, track: Cusum(
            mean, 1.5, k=k, h=h, sides=sides, track_onset=track
        ),
        "PageHinkley": lambda mean, k, h, sides, track: _core.PageHinkley(
            mean, 0.7, delta=k, threshold=h, sides=sides, track_onset=track
        ),
        "Ewma": lambda mean, _k, _h, sides, track: _core.Ewma(
            mean, 1, arl0=50, sides=sides, track_onset=track
        ),
        "river": lambda _mean, k, h, sides, track: _core.PageHinkley(
            compat="river", delta=k, threshold=h, sides=sides, track_onset=track
        ),
        "Adwin": lambda _mean, _k, _h, _sides, track: _core.Adwin(0.1, track_onset=track),
    }
    return [makes[name](*arguments) for name, arguments in kinds]


ARGUMENTS = st.tuples(
    st.floats(-1, 1),
    st.floats(0, 1.5),
    st.floats(0.5, 15),
    st.sampled_from(["both", "upper", "lower"]),
    st.booleans(),
)
SIDED = st.tuples(st.sampled_from(["Cusum", "PageHinkley"]), ARGUMENTS)
ANY = st.tuples(st.sampled_from(["Cusum", "PageHinkley", "Ewma", "river", "Adwin"]), ARGUMENTS)
EXTREMES = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 2.0**30, -(2.0**31), 1e9, -0.0])


@pytest.mark.slow
@examples(150)
@given(
    kinds=st.lists(SIDED, min_size=1, max_size=40) | st.lists(ANY, min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 700),
    cuts=st.lists(st.integers(0, 700), max_size=3),
    shift=st.floats(-0.5, 0.5),
    odd=st.sampled_from([0.0, 0.0, 1e-3, 0.05]),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_equals_single_detectors_to_the_bit(
    kinds: list[tuple[str, Any]],
    seed: int,
    rows: int,
    cuts: list[int],
    shift: float,
    odd: float,
    dtype: str,
) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(shift, 1.0, (rows, len(kinds)))
    strange = np.asarray(rng.random(table.shape) < odd)
    table[strange] = rng.choice(EXTREMES, np.count_nonzero(strange))
    with np.errstate(over="ignore"):
        table = table.astype(dtype)
    together, alone = charts_of(kinds), charts_of(kinds)
    found = []
    edges = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        alarms = update_channels(together, table[start:end])
        found += [(start + row, column) for row, column in alarms.tolist()]
    expected = [
        (row, column)
        for row, values in enumerate(table.tolist())
        for column, value in enumerate(values)
        if alone[column].update(value)
    ]
    assert found == expected
    for a, b in zip(together, alone, strict=True):
        assert a.state() == b.state()
        assert (a.onset, a.onset_earliest) == (b.onset, b.onset_earliest)


def test_charts_that_were_at_different_places_go_on_together() -> None:
    rng = np.random.default_rng(3)
    together = [Cusum(0, 1, arl0=500) for _ in range(20)]
    alone = [Cusum(0, 1, arl0=500) for _ in range(20)]
    for i in range(20):
        before = rng.standard_normal(7 * i)
        together[i].update_many(before)
        alone[i].update_many(before)
    table = rng.standard_normal((5000, 20)).astype(np.float32)
    alarms = update_channels(together, table)
    assert len(alarms) > 100
    assert np.all(np.lexsort((alarms[:, 1], alarms[:, 0])) == np.arange(len(alarms)))
    for i in range(20):
        column = np.ascontiguousarray(table[:, i])
        assert alone[i].update_many(column).tolist() == alarms[alarms[:, 1] == i, 0].tolist()
        assert alone[i].state() == together[i].state()


def test_rivers_names_take_part() -> None:
    detectors: list[Any] = [drift.ADWIN(), drift.PageHinkley(threshold=5)]
    table = np.repeat([0.0, 5.0], 500)[:, None] * np.ones(2)
    assert set(update_channels(detectors, table)[:, 1]) == {0, 1}
    assert update_channels([], np.empty((3, 0))).shape == (0, 2)


def test_refusals() -> None:
    chart = Cusum(0, 1, h=5)
    with pytest.raises(ValueError, match=r"samples: expected shape \(n, 1\), a column a detector"):
        update_channels([chart], np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"samples: expected shape \(n, 1\), .* got float64 of"):
        update_channels([chart], np.zeros(3))
    with pytest.raises(ValueError, match="detectors: expected different objects, got one twice"):
        update_channels([chart, chart], np.zeros((3, 2)))
    with pytest.raises(TypeError, match=r"detectors\[1\]: expected a detector of one signal"):
        update_channels([chart, 3], np.zeros((3, 2)))  # type: ignore[list-item]
    with pytest.raises(TypeError, match="samples: expected a 2-D float32 or float64 array"):
        update_channels([chart], np.zeros((3, 1), np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples: expected a C-contiguous"):
        update_channels([chart], np.zeros((1, 3)).T[::2])
    assert chart.count == 0
    with pytest.raises(
        ValueError, match=r"a 1-D array \(update_channels .*got float64 of shape \(3, 1\)"
    ):
        chart.update_many(np.zeros((3, 1)))
