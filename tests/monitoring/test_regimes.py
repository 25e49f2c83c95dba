"""Operating conditions that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Array, examples

from selfheal_edge.errors import IntegrityError
from selfheal_edge.monitoring.regimes import (
    MATCH_SAMPLES,
    MOST_REGIMES,
    Regime,
    RegimeTable,
    match_limit,
)

_NAMES = ("a", "b", "c")
_LIMITS = np.array([3.0, 4.0, 2.0])


def scores(seed: int, n: int = 64, level: float = 0.0, spread: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(level, spread, (n, 3))


def table() -> RegimeTable:
    return RegimeTable.first(_NAMES, [3.0, 9.0, 2.0])


def slow_distance(one: Regime, window: Array) -> float:
    """Return the distance of a window of 64 and more, signal by signal."""
    ratios = []
    for signal in range(3):
        seen = [
            min(max(x, -_LIMITS[signal]), _LIMITS[signal])
            for x in window[:, signal].tolist()
            if not math.isnan(x)
        ]
        if len(seen) < 8:
            continue
        mean = sum(seen) / len(seen)
        variance = sum((x - mean) ** 2 for x in seen) / len(seen)
        noise = max(float(one.variance[signal]), 0.05) / one.samples
        noise += max(variance, 0.05) / len(window) + 0.15**2
        ratios.append((float(one.mean[signal]) - mean) ** 2 / noise)
    return sum(ratios) / len(ratios) if ratios else math.inf


@examples(100)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(0.1, 3), st.integers(0, 64))
def test_the_distance_is_what_it_says(seed: int, level: float, spread: float, gone: int) -> None:
    window = scores(seed, 64, level, spread)
    window[:gone, 1] = np.nan
    known = Regime.of("night", scores(seed + 1, 200, 0.5), _LIMITS)
    found = known.distance(Regime.of("window", window, _LIMITS))
    assert found == pytest.approx(slow_distance(known, window), rel=1e-4)


@examples(100)
@given(st.integers(0, 10_000), st.integers(8, 300), st.integers(8, 300))
def test_merging_equals_seeing_all_at_once(seed: int, n: int, m: int) -> None:
    one, other = scores(seed, n), scores(seed + 1, m, 1.0)
    merged = Regime.of("x", one, _LIMITS).merged(Regime.of("x", other, _LIMITS))
    whole = Regime.of("x", np.concatenate([one, other]), _LIMITS)
    np.testing.assert_allclose(merged.mean, whole.mean, atol=1e-5)
    np.testing.assert_allclose(merged.variance, whole.variance, atol=1e-4)
    assert merged.samples == whole.samples


def test_the_second_night_is_no_news_and_another_drift_is() -> None:
    """Of 300 nights none too many are news, and no drift that lies 0.7 sd away is a night."""
    known = table().learned(scores(0, 64, 1.5), 10, "night").entered(0, 0)
    nights = [known.changed_to(scores(s, 64, 1.5)) for s in range(1, 301)]
    assert np.mean([found == 1 for found in nights]) >= 0.95
    others = [known.changed_to(scores(s, 64, 2.3)) for s in range(1, 301)]
    assert np.mean([found is None for found in others]) >= 0.95
    assert known.changed_to(np.full((64, 3), np.nan)) is None
    assert known.changed_to(np.empty((0, 3))) is None


def test_what_looks_like_now_explains_no_alarm() -> None:
    """A few crafted samples leave the window where it was: that is no regime to go to."""
    known = table().learned(scores(0, 64, 1.5), 10, "night").entered(0, 20)
    window = scores(1)
    window[::16] = 6.0
    assert known.match(window) == 0
    assert known.changed_to(window) is None


def test_a_young_regime_may_be_known_too_badly() -> None:
    young = table().learned(scores(0, 64, 1.5), 10)
    assert young.changed_to(scores(1, 64, 1.6)) == 1
    old = young
    for seed in range(10):
        old = old.refined(scores(seed, 64, 1.5))
    assert old.regime.samples == 704
    assert old.changed_to(scores(1, 64, 1.6)) is None


def test_few_predictions_say_what_they_can() -> None:
    known = table().learned(scores(0, 256, 2.5), 10, "night").entered(0, 20)
    hits = [known.changed_to(scores(s, 3, 2.5)) == 1 for s in range(200)]
    assert np.mean(hits) > 0.9
    wrong = [known.changed_to(scores(s, 3, -2.5)) is None for s in range(200)]
    assert np.mean(wrong) > 0.9


def test_there_are_never_more_than_eight_and_the_oldest_goes() -> None:
    known = table()
    for n in range(12):
        known = known.learned(scores(n, 64, n), prediction=100 * n)
        assert len(known.regimes) <= MOST_REGIMES
        assert known.regime.seen_last == 100 * n
    assert known.regimes[0].name == "calibration"
    assert known.regimes[1].seen_last == 500
    assert len({regime.name for regime in known.regimes}) == MOST_REGIMES
    assert known.nbytes <= 1024


def test_what_calibration_was_told_stays() -> None:
    night = Regime.of("night", scores(0, 64, 3.0), _LIMITS, share=0.4)
    known = RegimeTable(_NAMES, _LIMITS, (*table().regimes, night))
    for n in range(12):
        known = known.learned(scores(n, 64, n), prediction=n)
    assert [regime.name for regime in known.regimes[:2]] == ["calibration", "night"]


def test_the_references_own_regime_is_frozen() -> None:
    known = table()
    assert known.refined(scores(0, 64, 1.0)) is known
    level, spread = known.level()
    assert level.tolist() == [0.0, 0.0, 0.0]
    assert spread.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="references are frozen"):
        known.learned(scores(0), 0, "calibration")


def test_a_narrower_regime_makes_charts_no_bolder() -> None:
    level, spread = table().learned(scores(0, 64, 1.0, 0.1), 0).level()
    np.testing.assert_allclose(level, 1.0, atol=0.1)
    assert spread.tolist() == [1.0, 1.0, 1.0]


def test_too_few_to_learn() -> None:
    with pytest.raises(ValueError, match="expected at least 64 predictions of a regime, got 63"):
        table().learned(scores(0, MATCH_SAMPLES - 1), 0)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="name: expected 1 to 64 characters"):
        table().learned(scores(0), 0, name)


def test_bytes_and_back() -> None:
    window = scores(0, 64, 1.0)
    window[:, 2] = np.nan
    known = table().learned(window, 7, "night \u00e4\n")
    again = RegimeTable.from_bytes(known.to_bytes())
    assert again.to_bytes() == known.to_bytes()
    assert again.current == 1
    assert np.isnan(again.regime.mean[2])
    assert again.changed_to(scores(1, 64, 1.0)) == known.changed_to(scores(1, 64, 1.0))


@examples(200)
@given(st.binary(max_size=40), st.integers(0, 10_000), st.integers(0, 255))
def test_bytes_that_are_no_table(noise: bytes, at: int, byte: int) -> None:
    good = bytearray(table().learned(scores(0), 7).to_bytes())
    good[at % len(good)] = byte
    for data in (noise, bytes(good)):
        try:
            RegimeTable.from_bytes(data).changed_to(scores(1))
        except IntegrityError as error:
            assert "regimes: expected a readable row" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"current": 5},
        {"regimes": []},
        {"limits": [1.0]},
        {"limit": -1},
        {"limits": [1.0, 1.0, 0.0]},
    ],
)
def test_tables_that_do_not_fit(changes: dict[str, object]) -> None:
    import json

    fields = json.loads(table().to_bytes())
    fields.update(changes)
    with pytest.raises(IntegrityError):
        RegimeTable.from_bytes(json.dumps(fields).encode())


def test_a_device_whose_windows_are_alike_tells_more_apart() -> None:
    rng = np.random.default_rng(0)
    limits = np.full(12, 4.0)
    alike = rng.normal(0, 1, (2000, 12))
    assert 1.5 <= match_limit(alike, limits) < 2.5
    wandering = alike + np.repeat(rng.normal(0, 1, 20), 100)[:, None]
    assert match_limit(wandering, limits) == 2.5
    assert match_limit(alike[:100], limits) == 2.5


def test_a_regime_is_forgotten() -> None:
    rng = np.random.default_rng(5)
    table = RegimeTable.first(("a", "b"), (4.0, 4.0))
    for k in (1, 2):
        table = table.learned(rng.normal(k, 1, (64, 2)), 10 * k)
    assert table.regime.name == "regime 2"
    assert table.without("regime 1").regime.name == "regime 2"
    gone = table.without("regime 2")
    assert gone.current == 0
    assert [regime.name for regime in gone.regimes] == ["calibration", "regime 1"]
    assert table.without("calibration") is table, "what the references are of stays"
    assert table.without("another") is table
