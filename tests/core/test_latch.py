"""A lasting shift raises one alarm, and none until it has ended."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selfheal_edge import DriftDetector, _core

NORMAL = _core.Reference.normal(0, 1)
FIXED: dict[str, Callable[..., Any]] = {
    "Cusum": lambda **kw: _core.Cusum(0, 1, arl0=1e5, **kw),
    "PageHinkley": lambda **kw: _core.PageHinkley(0, 1, arl0=1e5, **kw),
    "Ewma": lambda **kw: _core.Ewma(0, 1, arl0=1e5, **kw),
    "SignalMonitor": lambda **kw: _core.SignalMonitor(NORMAL, arl0=1e5, **kw),
}
LEARNING: dict[str, Callable[..., Any]] = {
    "Cusum frouros": lambda **kw: _core.Cusum(compat="frouros", h=20, **kw),
    "PageHinkley river": lambda **kw: _core.PageHinkley(compat="river", threshold=30, **kw),
    "PageHinkley frouros": lambda **kw: _core.PageHinkley(compat="frouros", threshold=30, **kw),
    "Adwin": lambda **kw: _core.Adwin(0.002, **kw),
    "Kswin": lambda **kw: _core.Kswin(1e-6, seed=3, **kw),
}
ERRORS: dict[str, Callable[..., Any]] = {
    "Ddm": _core.Ddm,
    "Eddm": _core.Eddm,
    "HddmA": _core.HddmA,
    "HddmW": _core.HddmW,
}
ALL = FIXED | LEARNING | ERRORS
fixed = pytest.mark.parametrize("name", FIXED)


@fixed
@pytest.mark.parametrize("shift", [0.6, -1.0, 3.0])
def test_one_alarm_until_it_has_ended(name: str, shift: float) -> None:
    rng = np.random.default_rng(31)
    detector = FIXED[name](latch=True)
    often = FIXED[name]()
    assert len(detector.update_many(rng.normal(0, 1, 2000))) == 0
    assert detector.latched is False
    for _ in range(2):
        lasting = rng.normal(shift, 1, 20_000)
        assert len(detector.update_many(lasting)) == 1
        assert detector.latched is True
        assert len(often.update_many(lasting)) > 40
        assert len(detector.update_many(rng.normal(0, 1, 4000))) == 0
        assert detector.latched is False


@pytest.mark.parametrize(
    ("name", "shift"), [("SignalMonitor", -1.0), *((name, 2.0) for name in FIXED)]
)
def test_what_comes_in_waves_is_told_each_time(name: str, shift: float) -> None:
    rng = np.random.default_rng(37)
    detector = FIXED[name](latch=True)
    told = 0
    for _ in range(20):
        told += len(detector.update_many(rng.normal(shift, 1, 60))) > 0
        assert len(detector.update_many(rng.normal(0, 1, 160))) <= 1
    assert told >= 15  # of one deviation, some are not found at all


@pytest.mark.parametrize("name", [*LEARNING, *ERRORS])
def test_those_that_learn_tell_a_change_once(name: str) -> None:
    rng = np.random.default_rng(32)
    make = ALL[name]
    parts = (
        [(rng.random(n) < p).astype(float) for n, p in ((600, 0.05), (1200, 0.4))]
        if name in ERRORS
        else [rng.normal(m, 1, 1200) for m in (0, 1.5)]
    )
    values = np.concatenate(parts)
    often, once = make(), make(latch=True)
    alarms, told = often.update_many(values), once.update_many(values)
    assert len(alarms) > 0
    assert told[0] == alarms[0]
    assert set(told) <= set(alarms)
    late = told[told >= len(parts[0])]
    assert len(late) <= 3  # Eddm alarms by chance, far apart
    once.accept()
    assert once.latched is False


@pytest.mark.parametrize("name", ALL)
def test_batch_and_state_equal_one_by_one(name: str) -> None:
    make = ALL[name]
    rng = np.random.default_rng(33)
    level = np.repeat([0.0, 1.0, 0.0, 2.0, -2.0], 700)
    values = rng.standard_normal(3500) + level
    if name in ERRORS:
        values = (rng.random(3500) < 0.1 + 0.2 * np.abs(level)).astype(float)
    values[100::97] = np.nan
    single, batch = make(latch=True), make(latch=True)
    alarms = [i for i, x in enumerate(values.tolist()) if single.update(x)]
    assert alarms
    found: list[int] = []
    for start in range(0, 3500, 333):
        found += (batch.update_many(values[start : start + 333]) + start).tolist()
        batch = type(batch).from_state(batch.state())
    assert found == alarms
    assert batch.state() == single.state()
    assert (batch.latched, batch.drift_detected) == (single.latched, single.drift_detected)
    assert copy.copy(batch).state() == batch.state()
    batch.reset()
    assert batch.latched is False
    assert [i for i, x in enumerate(values.tolist()) if batch.update(x)] == alarms


def test_columns_tell_what_each_chart_tells() -> None:
    rng = np.random.default_rng(34)
    table = rng.standard_normal((4000, 9)) + np.repeat([0.0, 1.0, 0.0, -1.5], 1000)[:, None]
    charts = [_core.Cusum(0, 1, h=5, latch=column % 2 == 0) for column in range(9)]
    alone = [copy.copy(chart) for chart in charts]
    rows = _core.update_channels(charts, table)
    for column, chart in enumerate(alone):
        expected = chart.update_many(np.ascontiguousarray(table[:, column])).tolist()
        assert rows[rows[:, 1] == column, 0].tolist() == expected
        assert chart.state() == charts[column].state()
        assert (len(expected) < 10) == (column % 2 == 0)


@fixed
def test_the_other_side_is_told(name: str) -> None:
    rng = np.random.default_rng(35)
    detector = FIXED[name](latch=True)
    assert len(detector.update_many(rng.normal(2, 1, 500))) == 1
    assert len(detector.update_many(rng.normal(-2, 1, 500))) == 1
    assert len(detector.update_many(rng.normal(2, 1, 500))) == 0


@fixed
def test_what_is_accepted_is_normal(name: str) -> None:
    rng = np.random.default_rng(36)
    detector = FIXED[name]()
    while not detector.update(float(rng.normal(0.8, 1))):
        pass
    before, after = [], []
    for _ in range(40):
        one = copy.copy(detector)
        one.accept()
        after.append(len(one.update_many(rng.normal(0.8, 1, 2000))))
        assert len(one.update_many(rng.normal(-1, 1, 2000))) > 0
        assert type(one).from_state(one.state()).state() == one.state()
        before.append(len(copy.copy(detector).update_many(rng.normal(0.8, 1, 2000))))
    # The level is known from the few samples of one alarm: off by a part of a deviation.
    assert np.mean(after) < 0.7 * np.mean(before)


def test_an_accepted_level_of_a_bank_belongs_to_its_regime() -> None:
    rng = np.random.default_rng(37)
    bank = _core.MonitorBank([[NORMAL, NORMAL], [NORMAL, NORMAL]], arl0=1e6, latch=True)
    rows = rng.normal(0, 1, (400, 2))
    rows[:, 0] += 1.0
    alarms = bank.update_many(rows)
    assert len(alarms) == 1
    assert [bank.latched(i) for i in range(2)] == [True, False]
    bank.accept(0)
    assert bank.latched(0) is False
    assert bank.accepted(0) == pytest.approx(1.0, abs=0.5)
    assert bank.accepted(1) == 0.0
    restored = _core.MonitorBank.from_state(bank.state())
    assert restored.accepted(0) == bank.accepted(0)
    assert restored.state() == bank.state()
    bank.regime = 1
    assert bank.accepted(0) == 0.0


def test_a_level_and_a_spread_are_what_charts_hear() -> None:
    """Scores around a level that was set are heard like standard ones around zero."""
    rng = np.random.default_rng(38)
    z = rng.normal(0, 1, (20_000, 2)) + np.repeat([0.0, 0.7], 10_000)[:, None]
    moved, plain = (_core.MonitorBank([NORMAL, NORMAL], arl0=1e4) for _ in range(2))
    moved.set_level(0, 0.75, 1.25)
    moved.set_level(1, -0.5)
    assert (moved.accepted(0), moved.accepted_spread(0)) == (0.75, 1.25)
    rows = z.copy()
    rows[:, 0] = 0.75 + 1.25 * z[:, 0]
    rows[:, 1] -= 0.5
    expected = plain.update_many(z).tolist()
    assert moved.update_many(rows).tolist() == expected
    assert len(expected) > 10
    assert moved.magnitude(0) == pytest.approx(1.25 * plain.magnitude(0), rel=1e-6)
    again = _core.MonitorBank.from_state(moved.state())
    assert again.state() == moved.state()
    assert again.accepted_spread(0) == 1.25
    moved.set_level(0, 0.0)
    moved.set_level(1, 0.0)
    assert [moved.accepted(i) for i in range(2)] == [0.0, 0.0]


def test_levels_that_are_none() -> None:
    bank = _core.MonitorBank([NORMAL], arl0=1e4)
    with pytest.raises(ValueError, match="level: expected a finite number"):
        bank.set_level(0, float("nan"))
    for spread in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="spread: expected a finite number above 0"):
            bank.set_level(0, 0.0, spread)
    with pytest.raises(ValueError, match="signal: expected an integer from 0 to 0"):
        bank.set_level(1, 0.0)


@pytest.mark.parametrize("name", [name for name in ALL if name != "SignalMonitor"])
def test_a_latch_needs_the_onset(name: str) -> None:
    make = ALL[name]
    with pytest.raises(ValueError, match="latch: expected false without track_onset, got true"):
        make(latch=True, track_onset=False)


def test_a_drift_detector_with_a_latch() -> None:
    rng = np.random.default_rng(38)
    detector = DriftDetector(rng.normal(20, 2, 5000), false_alarm_interval=1e6, latch=True)
    assert len(detector.update_many(rng.normal(22, 2, 50_000))) == 1
    assert detector.latched
