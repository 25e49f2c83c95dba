"""What decides an alarm without a chart: quiet on the calibration and on more of the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.monitoring.monitor import PerformanceMonitor
from selfheal_edge.monitoring.sensor_limits import flat_limit, run_limit
from selfheal_edge.monitoring.signals import Measurement

Flags = npt.NDArray[np.bool_]
INTERVAL = 1e5


def equal_to_the_one_before(levels: npt.NDArray[np.float64]) -> Flags:
    return np.concatenate(([False], levels[1:] == levels[:-1]))


def wander(rng: np.random.Generator, count: int, phi: float, step: float) -> Flags:
    """A first-order autoregression, rounded to steps."""
    noise = (math.sqrt(1 - phi * phi) * rng.standard_normal(count)).tolist()
    out = np.empty(count)
    level = rng.standard_normal()
    for i, e in enumerate(noise):
        level = phi * level + e
        out[i] = level
    return equal_to_the_one_before(np.round(out / step))


def pauses(rng: np.random.Generator, count: int, every: int, length: int) -> Flags:
    """A sensor that holds its value for a while, now and then."""
    flags = np.zeros(count, np.bool_)
    at = 0
    while at < count:
        at += rng.geometric(1 / every)
        held = rng.geometric(1 / length)
        flags[at : at + held] = True
        at += held
    return flags


def held_for(rng: np.random.Generator, count: int, spread: float) -> Flags:
    """A sensor that holds its value for times of all lengths."""
    flags = np.zeros(count, np.bool_)
    at = 0
    while at < count:
        at += rng.geometric(0.02)
        held = max(1, int(rng.lognormal(1.5, spread)))
        flags[at : at + held] = True
        at += held
    return flags


def held(
    rng: np.random.Generator, count: int, share: float, lengths: npt.NDArray[np.float64]
) -> Flags:
    """A sensor that holds its value for these times, drawn in order, after pauses by chance."""
    flags = np.zeros(count, np.bool_)
    at = 0
    for length in lengths.tolist():
        at += rng.geometric(share)
        flags[at : at + max(1, int(length))] = True
        at += max(1, int(length))
        if at >= count:
            break
    return flags


def two_exponentials(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    is_long = rng.random(count) < 0.05
    return np.where(is_long, rng.geometric(0.02, count), rng.geometric(0.5, count)).astype(float)


def rarely_long(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    return np.where(rng.random(count) < 0.01, rng.geometric(0.2, count) + 2.0, 2.0)


def excited(rng: np.random.Generator, count: int) -> Flags:
    """Repetition that makes repetition more likely."""
    flags = []
    heat = 0.0
    for u in rng.random(count).tolist():
        flags.append(u < min(0.9, 0.03 + 0.9 * heat))
        heat = 0.95 * heat + 0.05 * flags[-1]
    return np.array(flags)


def by_night(rng: np.random.Generator, count: int) -> Flags:
    return (rng.random(count) < 0.05) | ((np.arange(count) % 288 < 80) & (rng.random(count) < 0.98))


def runs_of(flags: Flags, limit: int) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int(np.sum(edges[1::2] - edges[::2] >= limit))


KINDS: dict[str, tuple[Callable[[np.random.Generator, int], Flags], tuple[int, ...]]] = {
    "rare, by chance": (lambda rng, n: rng.random(n) < 0.001, (200, 1000, 10_000)),
    "common, by chance": (lambda rng, n: rng.random(n) < 0.8, (200, 1000, 10_000)),
    "slow": (lambda rng, n: wander(rng, n, 0.999, 0.1), (200, 1000, 10_000)),
    "coarse": (lambda rng, n: wander(rng, n, 0.9, 1.0), (200, 1000, 10_000)),
    "slow and coarse": (lambda rng, n: wander(rng, n, 0.9999, 0.5), (10_000,)),
    "of all lengths": (lambda rng, n: held_for(rng, n, 1.0), (1000, 10_000)),
    "by night": (by_night, (200, 1000, 10_000)),
    "pauses": (lambda rng, n: pauses(rng, n, 500, 50), (10_000,)),
    "a power's tail": (
        lambda rng, n: held(rng, n, 0.05, 3 * rng.pareto(2.5, n) + 1),
        (200, 400, 1000, 10_000),
    ),
    "lengths of zipf": (
        lambda rng, n: held(rng, n, 0.2, rng.zipf(3.0, n).astype(float)),
        (200, 400, 1000, 10_000),
    ),
    "long ones late": (
        lambda rng, n: held(
            rng, n, 1.0, np.where(rng.random(n) < 0.01, rng.geometric(0.2, n) + 2.0, 2.0)
        ),
        (200, 400, 1000, 10_000),
    ),
    "two exponentials": (
        lambda rng, n: held(rng, n, 0.1, two_exponentials(rng, n)),
        (400, 1000, 10_000),
    ),
    "excited": (excited, (400, 1000, 10_000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_repetition_as_in_the_calibration_is_no_alarm(kind: str) -> None:
    rng = np.random.default_rng(41)
    draw, sizes = KINDS[kind]
    stream = draw(rng, 300_000)
    for size in sizes:
        kept = 0
        for _ in range(20):
            start = int(rng.integers(0, len(stream) - size))
            calibration = stream[start : start + size]
            limit = run_limit(calibration, INTERVAL)
            if limit == 0:  # a run is too much of it to say what a longer one means
                kept += 1
                continue
            assert runs_of(calibration, limit) == 0
            kept += runs_of(stream, limit) * INTERVAL <= len(stream)
        assert kept >= 18, (kind, size)


def runs_drawn(
    rng: np.random.Generator, count: int, share: float, draw: Callable[[Any, int], Any]
) -> Flags:
    """Runs of drawn lengths after pauses by chance."""
    runs = int(share * count) + 50
    lengths = np.maximum(1, np.asarray(draw(rng, runs)).astype(np.int64))
    starts = np.cumsum(rng.geometric(share, runs) + lengths) - lengths
    is_in = starts < count
    edges = np.zeros(count + 1, np.int64)
    np.add.at(edges, starts[is_in], 1)
    np.add.at(edges, np.minimum(starts + lengths, count)[is_in], -1)
    return np.asarray(np.cumsum(edges[:count]) > 0)


# No constant was chosen by these.
UNSEEN: dict[str, tuple[float, Callable[[Any, int], Any]]] = {
    "weibull": (0.05, lambda rng, n: 4 * rng.weibull(0.5, n) + 1),
    "lognormal": (0.03, lambda rng, n: rng.lognormal(1.0, 1.5, n) + 1),
    "power": (0.05, lambda rng, n: 2 * rng.pareto(2.0, n) + 1),
    "one in a hundred is long": (
        0.1,
        lambda rng, n: np.where(
            rng.random(n) < 0.01, rng.geometric(0.02, n), rng.geometric(0.6, n)
        ),
    ),
    "up to sixty": (0.02, lambda rng, n: rng.integers(1, 60, n)),
    "gamma": (0.05, lambda rng, n: rng.gamma(0.3, 30, n) + 1),
}


@pytest.mark.parametrize("kind", UNSEEN)
def test_small_calibrations_tell_a_stuck_sensor_and_no_pause(kind: str) -> None:
    rng = np.random.default_rng(48)
    stream = runs_drawn(rng, 1_000_000, *UNSEEN[kind])
    edges = np.flatnonzero(np.diff(np.concatenate(([0], stream.astype(np.int8), [0]))))
    lengths = np.sort(edges[1::2] - edges[::2])
    for size in (200, 400, 1000):
        limits = []
        for start in rng.integers(0, len(stream) - size, 40).tolist():
            limits.append(run_limit(stream[start : start + size], INTERVAL))
        told = np.array(limits)[np.array(limits) > 0]
        assert len(told) >= 24, size  # the others: one run is more than a quarter of it
        assert told.max() <= 10_000, size
        alarms = len(lengths) - np.searchsorted(lengths, told)
        assert np.mean(alarms * INTERVAL <= len(stream)) >= 0.9, size


def test_a_stuck_sensor_is_found_all_the_same() -> None:
    """After a time that fits the sensor: soon where nothing repeats."""
    rng = np.random.default_rng(42)
    assert run_limit(np.zeros(1000, np.bool_), 1e6) == 8
    assert run_limit(KINDS["common, by chance"][0](rng, 10_000), 1e6) < 200
    assert run_limit(KINDS["slow"][0](rng, 10_000), 1e6) < 200
    assert run_limit(KINDS["pauses"][0](rng, 10_000), 1e6) < 4000
    assert run_limit(np.ones(1000, np.bool_), 1e6) == 0


@pytest.mark.parametrize("spread", [0.05, 0.5, 1.5])
def test_spreads_as_in_the_calibration_are_not_flat(spread: float) -> None:
    """Loud and quiet in bursts: the logarithm of a spread wanders."""
    rng = np.random.default_rng(43)
    level, logs = 0.0, []
    for e in rng.standard_normal(300_000).tolist():
        level = 0.9 * level + math.sqrt(1 - 0.81) * e
        logs.append(spread * level)
    stream = np.exp(logs)
    kept = 0
    for _ in range(40):
        start = int(rng.integers(0, len(stream) - 500))
        least = flat_limit(stream[start : start + 500], INTERVAL)
        assert least is not None
        assert 0.0 < least <= 0.2500001 * stream[start : start + 500].min()
        kept += runs_of(stream < least, 8) * INTERVAL <= len(stream)
    assert kept >= 36
    assert flat_limit(np.array([1.0, 0.0, 2.0]), INTERVAL) is None


def held_up(digits: DigitsData, count: int, rng: np.random.Generator) -> Any:
    """The digits of the calibration through a sensor that repeats itself for about ten frames."""
    which: list[int] = []
    while len(which) < count:
        which += [int(rng.integers(len(digits.calibration_inputs)))] * int(rng.geometric(0.1))
    return digits.calibration_inputs[which[:count]]


@pytest.fixture
def slow_baseline(digits: DigitsData) -> she.Baseline:
    inputs = held_up(digits, 1500, np.random.default_rng(44))
    return she.calibrate(digits_model_path(), inputs, seed=1)


class TestModel:
    @pytest.mark.slow
    def test_more_of_the_same_is_quiet_and_a_stuck_sensor_is_not(
        self, digits: DigitsData, slow_baseline: she.Baseline
    ) -> None:
        rng = np.random.default_rng(45)
        assert 40 < slow_baseline.limits.max_repeats < 1000
        with she.SelfHealingModel(digits_model_path(), slow_baseline) as model:
            model.predict(held_up(digits, 1500, np.random.default_rng(44)))
            model.predict(held_up(digits, 6000, rng))
            assert [e for e in model.events if "input_repeats" in str(e.evidence)] == []
        with she.SelfHealingModel(digits_model_path(), slow_baseline) as model:
            model.predict(np.repeat(digits.calibration_inputs[:1], 1000, axis=0))
            assert any("input_repeats" in str(e.evidence) for e in model.events)
            assert "sensor_fault" in [e.cause for e in model.events if e.kind == "diagnosis"]

    def test_a_frozen_answer_to_inputs_that_differ(
        self, digits: DigitsData, digits_baseline: she.Baseline
    ) -> None:
        """Inputs so bright that one class saturates: the model answers the same to each."""
        limit = digits_baseline.limits.max_frozen
        assert 8 <= limit < 200
        rng = np.random.default_rng(46)
        shape = (limit + 20, *digits.calibration_inputs.shape[1:])
        bright = np.full(shape, 127, np.int8) - rng.integers(0, 3, shape).astype(np.int8)
        monitor = PerformanceMonitor(digits_baseline)
        with she.SelfHealingModel(digits_model_path(), digits_baseline, monitor=monitor) as model:
            alarms = []
            answers = set()
            for x in bright:
                answers.add(np.asarray(model.predict(x[None])).tobytes())
                alarms += [a.signal for a in monitor.alarms()]
        assert len(answers) == 1
        assert alarms.count("output_frozen") == 1

    @pytest.mark.slow
    def test_a_shift_that_lasts_is_one_alarm_a_side(
        self, digits: DigitsData, digits_baseline: she.Baseline
    ) -> None:
        rng = np.random.default_rng(47)
        which = rng.integers(0, len(digits.heldout_inputs), 3000)
        brighter = np.clip(digits.heldout_inputs[which].astype(int) + 40, -128, 127)
        counts = {}
        policy = she.Policy(heal="corruption")  # after a repair the same shift would be another one
        for latch in (True, False):
            monitor = PerformanceMonitor(digits_baseline, latch=latch)
            told: list[tuple[str, int]] = []
            with she.SelfHealingModel(
                digits_model_path(), digits_baseline, monitor=monitor, policy=policy
            ) as model:
                for x in brighter.astype(np.int8):
                    model.predict(x[None])
                    told += [(a.signal, a.direction) for a in monitor.alarms()]
                assert model.health.trouble is not None
            counts[latch] = max(told.count(alarm) for alarm in told)
        assert counts[True] == 1
        assert counts[False] > 50

    @pytest.mark.slow
    def test_a_signal_with_few_values_is_left_out_and_the_baseline_says_why(
        self, digits: DigitsData
    ) -> None:
        labels = np.arange(60) // 2 % 10
        inputs = digits.calibration_inputs[:60]
        baseline = she.calibrate(digits_model_path(), inputs, labels=None, seed=1)
        assert set(baseline.references).isdisjoint(baseline.left_out)
        again = she.Baseline.from_bytes(baseline.to_bytes())
        assert again.left_out == baseline.left_out
        twice = np.repeat(digits.calibration_inputs[:100], 3, axis=0)
        few = she.calibrate(digits_model_path(), twice, seed=1)
        assert few.limits.max_repeats == 3334  # few samples: a stuck sensor is told late, but told
        once = np.repeat(digits.calibration_inputs[:2], 100, axis=0)
        stuck = she.calibrate(digits_model_path(), once, seed=1)
        assert stuck.limits.max_repeats == 0
        assert "too long for 200 samples to say how long" in stuck.left_out["input_repeats"]
        assert again.limits == baseline.limits
        assert len(labels) == 60


def test_what_lasts_is_told_once(digits_baseline: she.Baseline) -> None:
    normal = tuple(
        0.5 * (reference.lowest + reference.highest)
        for reference in digits_baseline.references.values()
    )

    def stream() -> Iterator[tuple[str, Measurement]]:
        base = Measurement(normal, False, 0, None, None)
        for kind, facts in (
            ("input_nonfinite", {"nonfinite": 3}),
            ("input_repeats", {"repeats_previous": True}),
            ("output_frozen", {"same_answer": True}),
        ):
            for _ in range(400):
                yield kind, base._replace(**facts)
            for _ in range(100):
                yield "", base

    for latch in (True, False):
        monitor = PerformanceMonitor(digits_baseline, latch=latch)
        told = [
            (kind, alarm.signal)
            for kind, measurement in stream()
            for alarm in monitor.update(measurement)
            if alarm.signal in ("input_nonfinite", "input_repeats", "output_frozen")
        ]
        kinds = [kind for kind, _ in told]
        assert all(kind == signal for kind, signal in told)
        for kind in ("input_nonfinite", "input_repeats", "output_frozen"):
            assert (kinds.count(kind) == 1) is latch
            assert kind in kinds
