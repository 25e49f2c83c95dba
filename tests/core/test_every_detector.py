"""What every detector does alike."""

import copy
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selfheal_edge import DriftDetector, _core, drift

MAKES: dict[str, Callable[..., Any]] = {
    "Cusum": lambda **kw: _core.Cusum(0, 1, h=4, **kw),
    "Cusum frouros": lambda **kw: _core.Cusum(compat="frouros", h=5, **kw),
    "PageHinkley": lambda **kw: _core.PageHinkley(0, 1, threshold=4, **kw),
    "PageHinkley river": lambda **kw: _core.PageHinkley(compat="river", threshold=8, **kw),
    "PageHinkley frouros": lambda **kw: _core.PageHinkley(compat="frouros", threshold=8, **kw),
    "Ewma": lambda **kw: _core.Ewma(0, 1, arl0=100, **kw),
    "Adwin": lambda **kw: _core.Adwin(0.1, **kw),
    "Kswin": lambda **kw: _core.Kswin(0.01, seed=3, **kw),
    "Ddm": _core.Ddm,
    "Eddm": _core.Eddm,
    "HddmA": _core.HddmA,
    "HddmW": _core.HddmW,
}
ERRORS = ("Ddm", "Eddm", "HddmA", "HddmW")
each = pytest.mark.parametrize("name", MAKES)


def stream(name: str) -> Any:
    rng = np.random.default_rng(1)
    if name in ERRORS:
        rate = np.repeat([0.1, 0.5, 0.05, 0.6], 500)
        return (rng.random(2000) < rate).astype(float)
    samples = rng.standard_normal(2000) + np.repeat([0, 2, 0, 2], 500)
    samples[100:1900:97] = np.nan
    return samples


@each
@pytest.mark.parametrize("track", [True, False])
def test_batch_and_state_equal_one_by_one(name: str, track: bool) -> None:
    values = stream(name)
    single = MAKES[name](track_onset=track)
    batch = MAKES[name](track_onset=track)
    alarms = [i for i, x in enumerate(values.tolist()) if single.update(x)]
    assert alarms
    found: list[int] = []
    for start in range(0, 2000, 333):
        found += (batch.update_many(values[start : start + 333]) + start).tolist()
        batch = type(batch).from_state(batch.state())
    assert found == alarms
    assert batch.state() == single.state()
    assert batch.memory_bytes() == single.memory_bytes()


@each
def test_the_onset_is_an_estimate_and_a_bound(name: str) -> None:
    values = stream(name)
    detector = MAKES[name]()
    assert [detector.onset, detector.onset_earliest] == [None, None]
    for i, x in enumerate(values.tolist()):
        if detector.update(x) and i > 500:
            break
    assert detector.drift_detected
    earliest, onset = detector.onset_earliest, detector.onset
    assert 0 <= earliest <= onset <= i
    assert detector.direction in (-1, 1)
    assert detector.magnitude > 0
    blind = MAKES[name](track_onset=False)
    blind.update_many(values[: i + 1])
    assert blind.onset is None
    assert blind.onset_earliest is None


@each
def test_reset_is_as_new(name: str) -> None:
    detector = MAKES[name]()
    fresh = detector.state()
    detector.update_many(stream(name))
    detector.reset()
    assert detector.state() == fresh


@each
def test_damaged_states_are_refused(name: str) -> None:
    detector = MAKES[name]()
    detector.update_many(stream(name)[:300])
    blob = bytearray(detector.state())
    for i in range(0, len(blob), max(1, len(blob) // 40)):
        damaged = blob.copy()
        damaged[i] ^= 0x10
        with pytest.raises(_core.StateError):
            type(detector).from_state(bytes(damaged))
    with pytest.raises(_core.StateTypeError):
        type(detector).from_state(_core.Moments().state())


@each
def test_copies_and_clones(name: str) -> None:
    detector = MAKES[name]()
    fresh = detector.state()
    detector.update_many(stream(name)[:700])
    for copied in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert type(copied) is type(detector)
        assert copied.state() == detector.state()
    assert detector.clone().state() == fresh


def test_a_derived_class_restores_its_own() -> None:
    normal = np.random.default_rng(0).standard_normal(1000)
    detector = DriftDetector(normal, false_alarm_interval=1e4)
    detector.update_many(normal[:100])
    for restored in (DriftDetector.from_state(detector.state()), copy.deepcopy(detector)):
        assert type(restored) is DriftDetector
        assert restored.price == detector.price
        assert restored.state() == detector.state()
    chart = drift.PageHinkley(threshold=7)
    assert type(chart.clone()) is type(drift.PageHinkley.from_state(chart.state())) is type(chart)


def test_what_would_be_ignored_is_refused() -> None:
    for name, value in (("min_instances", 3), ("alpha", 0.5)):
        with pytest.raises(ValueError, match=f"{name}: expected None without compat, got {value}"):
            _core.PageHinkley(0, 1, threshold=4, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_instances: expected None without compat, got 3"):
        _core.Cusum(0, 1, h=4, min_instances=3)
    for make in (_core.Cusum, _core.PageHinkley):
        with pytest.raises(ValueError, match="sides: expected 'both' or 'upper' with compat"):
            make(compat="frouros", sides="lower")
        with pytest.raises(ValueError, match="sides: expected 'both', 'upper' or 'lower'"):
            make(compat="frouros", sides="left")  # type: ignore[arg-type]


def with_tail(blob: bytes, tail: bytes, before: int) -> bytes:
    """The state with bytes replaced that end `before` the payload's end, and a right checksum."""
    end = len(blob) - 4 - before
    changed = blob[: end - len(tail)] + tail + blob[end:-4]
    return changed + _core.crc32c(changed).to_bytes(4, "little")


def test_a_forged_window_is_refused() -> None:
    """Its search would never end: NaN is before nothing and after nothing."""
    detector = _core.Kswin(seed=3, track_onset=False)
    detector.update_many(np.zeros(100))
    behind = 8 + 1 + 1 + 8 + 8 + 1 + 26  # what all learning detectors have
    blob = detector.state()
    assert _core.Kswin.from_state(with_tail(blob, struct.pack("<d", 1.5), behind)).count == 100
    with pytest.raises(_core.StateError, match="a sample that is not finite"):
        _core.Kswin.from_state(with_tail(blob, struct.pack("<d", np.nan), behind))


def test_charts_hold_at_most_128_bytes_beside_the_onset() -> None:
    for name in ("Cusum", "PageHinkley", "Ewma"):
        assert MAKES[name](track_onset=False).memory_bytes() <= 128
        assert MAKES[name]().memory_bytes() <= 128 + 3200


def test_river_names_take_rivers_arguments() -> None:
    chart = drift.PageHinkley(min_instances=10, delta=0.01, threshold=3, alpha=0.99, mode="up")
    chart.update_many(np.zeros(20))
    assert any(chart.update(1) for _ in range(20))
    assert chart.drift_detected
    with pytest.raises(ValueError, match="mode: expected 'up', 'down' or 'both', got 'left'"):
        drift.PageHinkley(mode="left")
    assert drift.KSWIN(alpha=0.001, seed=42).seed == 42
