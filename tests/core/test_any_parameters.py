"""Whatever parameters a constructor accepts, and whatever comes in, a detector stays sound."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples

from selfheal_edge import _core

SHARE = st.floats(1e-9, 1)
POSITIVE = st.floats(1e-3, 1e3)
INTEGER = st.integers(1, 40)
FINITE = st.floats(-1e6, 1e6)

PARAMETERS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "Cusum": st.fixed_dictionaries(
        {"mean": FINITE, "std": POSITIVE, "k": st.floats(0, 5), "h": st.floats(0.001, 20)},
        optional={"sides": st.sampled_from(["both", "upper", "lower"])},
    ),
    "PageHinkley": st.fixed_dictionaries(
        {"mean": FINITE, "std": POSITIVE, "delta": st.floats(0, 5), "threshold": POSITIVE},
        optional={"sides": st.sampled_from(["both", "upper", "lower"])},
    ),
    "Ewma": st.fixed_dictionaries(
        {
            "mean": FINITE,
            "std": POSITIVE,
            "weight": st.floats(0.001, 1),
            "limit": st.floats(0.1, 10),
        }
    ),
    "Adwin": st.fixed_dictionaries(
        {"delta": SHARE},
        optional={
            "clock": INTEGER,
            "max_buckets": st.integers(1, 6),
            "min_window_length": INTEGER,
            "grace_period": INTEGER,
        },
    ),
    "Kswin": st.integers(2, 60).flatmap(
        lambda stat: st.fixed_dictionaries(
            {
                "alpha": SHARE,
                "stat_size": st.just(stat),
                "window_size": st.integers(2 * stat, 150),
                "seed": st.integers(0, 2**31),
            }
        )
    ),
    "Ddm": st.fixed_dictionaries(
        {"warm_start": st.integers(0, 60), "drift_threshold": st.floats(0, 5)}
    ),
    "Eddm": SHARE.flatmap(
        lambda beta: st.fixed_dictionaries(
            {
                "warm_start": st.integers(0, 60),
                "beta": st.just(beta),
                "alpha": st.floats(beta, 1),
            }
        )
    ),
    "HddmA": st.fixed_dictionaries(
        {"drift_confidence": SHARE, "warning_confidence": SHARE, "two_sided_test": st.booleans()}
    ),
    "HddmW": st.fixed_dictionaries(
        {
            "drift_confidence": SHARE,
            "warning_confidence": SHARE,
            "lambda_val": st.floats(0, 1),
            "two_sided_test": st.booleans(),
        }
    ),
}

# Runs of one kind after another: what a sensor sends, and what it must not send.
PLAIN = st.one_of(
    st.tuples(st.just("normal"), st.integers(0, 999), st.floats(-9, 9), st.integers(1, 300)),
    st.tuples(st.just("coin"), st.integers(0, 999), st.floats(0, 1), st.integers(1, 300)),
)
RUN = st.one_of(
    PLAIN,
    st.tuples(st.just("constant"), st.just(0), st.floats(-1e9, 1e9), st.integers(1, 200)),
    st.tuples(st.just("extreme"), st.integers(0, 999), st.just(0.0), st.integers(1, 40)),
)
EXTREME = (0.0, -0.0, 5e-324, 1e-300, 1e300, -1.7e308, math.nan, math.inf, -math.inf, 1.0)


def stream(runs: list[tuple[str, int, float, int]]) -> Any:
    parts = [np.empty(0)]
    for kind, seed, level, count in runs:
        rng = np.random.default_rng(seed)
        if kind == "normal":
            parts.append(level + rng.standard_normal(count))
        elif kind == "coin":
            parts.append((rng.random(count) < level).astype(float))
        elif kind == "constant":
            parts.append(np.full(count, level))
        else:
            parts.append(rng.choice(EXTREME, count))
    return np.concatenate(parts)


def within(values: Any, mean: float, std: float, most: float) -> Any:
    """As many of the values as keep any sum of their deviations below `most`, in units of std."""
    with np.errstate(over="ignore", invalid="ignore"):
        deviations = np.where(np.isfinite(values), np.abs(values - mean) / std, 0)
    small = deviations < most / 16
    values, deviations = values[small], deviations[small]
    return values[np.cumsum(deviations) < most]


@pytest.mark.parametrize("name", PARAMETERS)
@examples(60)
@given(data=st.data())
def test_it_stays_sound(name: str, data: st.DataObject) -> None:
    parameters = data.draw(PARAMETERS[name])
    make = getattr(_core, name)
    single, batch = make(**parameters), make(**parameters)
    held = single.memory_bytes()
    values = stream(data.draw(st.lists(RUN, max_size=6)))
    cut = data.draw(st.integers(0, len(values)))
    if name in ("Cusum", "PageHinkley"):  # whose sums are exact below 2^33 standard deviations
        values = within(values, parameters["mean"], parameters["std"], 2.0**32)
        cut = min(cut, len(values))
    alarms = [i for i, x in enumerate(values.tolist()) if single.update(x)]
    found = batch.update_many(values[:cut]).tolist()
    batch = make.from_state(batch.state())
    found += (batch.update_many(values[cut:]) + cut).tolist()
    assert found == alarms
    assert batch.state() == single.state()
    assert single.count == len(values)
    assert single.skipped == np.count_nonzero(~np.isfinite(values))
    assert single.memory_bytes() == held
    assert single.direction in (-1, 0, 1)
    if single.onset is not None:
        assert 0 <= single.onset_earliest <= single.onset < max(1, len(values))


@examples(60)
@given(
    runs=st.lists(PLAIN, min_size=1, max_size=8),
    max_buckets=st.integers(1, 6),
    clock=INTEGER,
    delta=SHARE,
)
def test_the_window_of_adwin_is_the_latest_samples(
    runs: list[Any], max_buckets: int, clock: int, delta: float
) -> None:
    """Also with one bucket a row, where two that merge leave a row without any."""
    detector = _core.Adwin(delta, clock=clock, max_buckets=max_buckets)
    values = stream(runs)
    for i, x in enumerate(values.tolist()):
        start_over = i if detector.drift_detected else 0
        detector.update(x)
        width = int(detector.width)
        assert 0 < width <= i + 1 - start_over
        latest = values[i + 1 - width : i + 1]
        assert detector.total == pytest.approx(latest.sum(), rel=1e-9, abs=1e-6)


def test_adwin_with_one_bucket_a_row() -> None:
    """Two that merge leave an empty row; when the oldest goes, so must the empty ones under it."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        values = np.concatenate([rng.standard_normal(400) + 3 * (j % 2) for j in range(8)])
        for clock in (1, 5, 32):
            detector = _core.Adwin(0.1, clock=clock, max_buckets=1, min_window_length=1)
            assert len(detector.update_many(values)) > 3
            assert 0 < detector.width <= len(values)
