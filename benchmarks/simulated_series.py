"""Simulated series of the kinds that monitoring services keep, in two families.

TUNED is what thresholds may be looked at on. HELD_OUT has generators of its own, that nothing was
chosen by: it is measured, and that is all. Each kind draws a calm stream of any length; what
happens to it, and when, is added by `series`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Values = npt.NDArray[np.float64]
Rng = np.random.Generator


class Calm(NamedTuple):
    """A stream in which nothing happens."""

    values: Values
    scale: float
    """What a change of one unit is: about a standard deviation at one place of all periods."""
    periods: tuple[int, ...] = ()
    seldom: tuple[int, ...] = ()
    """When something comes that comes at a constant, low rate."""


class Series(NamedTuple):
    """A stream with changes; `windows` are index ranges in which an alarm is right."""

    name: str
    values: Values
    windows: list[tuple[int, int]]
    periods: tuple[int, ...]
    calibration: int
    seldom: tuple[int, ...] = ()


class Kind(NamedTuple):
    """How a stream is drawn, how long it is, and how many of the family are of this kind."""

    draw: Callable[[Rng, int], Calm]
    length: int
    how_many: int


def memory(rng: Rng, n: int, phi: float, sd: float = 1.0) -> Values:
    """Return a first-order autoregression."""
    noise = rng.standard_normal(n + 300)
    return np.asarray(lfilter([math.sqrt(1 - phi * phi) * sd], [1, -phi], noise)[300:])


def cycle(rng: Rng, n: int, period: int, harmonics: int) -> Values:
    """Return a fixed shape that repeats, with variance 1."""
    t = np.arange(n) / period
    shape = np.zeros(n)
    for h in range(1, harmonics + 1):
        a, b = rng.normal(size=2) / h
        shape += a * np.cos(2 * np.pi * h * t) + b * np.sin(2 * np.pi * h * t)
    return np.asarray(shape / shape[:period].std())


# The family that thresholds were looked at on.


def _load(rng: Rng, n: int) -> Calm:
    x = 50 + memory(rng, n, rng.uniform(0, 0.5))
    spikes = rng.random(n) < 0.004
    x[spikes] += rng.exponential(3, spikes.sum())
    return Calm(x, 1.0)


def _coarse_load(rng: Rng, n: int) -> Calm:
    x = np.round(np.maximum(0.1, 0.13 + 0.01 * memory(rng, n, 0.3)), 3).astype(np.float64)
    spikes = rng.random(n) < 0.003
    x[spikes] += rng.exponential(0.1, spikes.sum())
    return Calm(x, 0.01)


def _disk(rng: Rng, n: int) -> Calm:
    x = np.zeros(n)
    at = 0
    while at < n:
        at += int(rng.exponential(60))
        length = int(rng.exponential(4)) + 1
        x[at : at + length] = rng.lognormal(12, 1)
        at += length
    return Calm(x + rng.exponential(100, n), 3e5)


def _backups(rng: Rng, n: int) -> Calm:
    x = np.exp(12 + 0.2 * memory(rng, n, 0.4))
    period = int(rng.choice([60, 72, 144, 288]))
    x[::period] *= rng.uniform(3, 8)
    x[1::period] *= 2
    return Calm(x, 5e4, (period,))


def _requests(rng: Rng, n: int) -> Calm:
    mean = np.exp(4 + 0.5 * cycle(rng, n, 288, 2) + 0.3 * memory(rng, n, 0.2))
    return Calm(rng.poisson(mean).astype(float), 60.0, (288,))


def _wander(rng: Rng, n: int) -> Calm:
    x = 40 + memory(rng, n, 0.3) + memory(rng, n, 0.995, rng.uniform(0.5, 2))
    return Calm(x, 1.2)


def _walk(rng: Rng, n: int) -> Calm:
    x = 40 + memory(rng, n, 0.1) + np.cumsum(rng.standard_normal(n)) * rng.uniform(0.02, 0.08)
    return Calm(x, 1.5)


def _trend(rng: Rng, n: int) -> Calm:
    slope = rng.uniform(0.0003, 0.002) * rng.choice([-1, 1])
    return Calm(40 + memory(rng, n, 0.3) + np.arange(n) * slope, 1.0)


def _saw(rng: Rng, n: int) -> Calm:
    period = int(rng.integers(150, 700))
    x = 30 + 10 * ((np.arange(n) % period) / period) + 0.5 * memory(rng, n, 0.5)
    return Calm(x, 4.0)


def _prices(rng: Rng, n: int) -> Calm:
    day = cycle(rng, n, 24, 2) * rng.uniform(0, 1)
    x = np.exp(-1.5 + 0.25 * day + 0.3 * memory(rng, n, 0.4))
    spikes = rng.random(n) < 0.004
    x[spikes] *= rng.uniform(2, 8, spikes.sum())
    return Calm(x, 0.12, (24,))


def _temperature(rng: Rng, n: int) -> Calm:
    year = 3 * np.sin(2 * np.pi * (np.arange(n) / 8760 + rng.random()))
    x = 70 + 2.1 * cycle(rng, n, 24, 1) + year + 1.5 * memory(rng, n, 0.97)
    return Calm(x, 3.0, (24,))


def _machine(rng: Rng, n: int) -> Calm:
    x = 85 + 5 * memory(rng, n, 0.999) + 2 * memory(rng, n, 0.9) + 0.5 * rng.standard_normal(n)
    return Calm(x, 6.0)


def _taxi(rng: Rng, n: int) -> Calm:
    x = 15000 + 5000 * cycle(rng, n, 48, 3) + 2500 * cycle(rng, n, 336, 4)
    return Calm(x + 700 * memory(rng, n, 0.8), 3500.0, (48, 336))


def _traffic(rng: Rng, n: int) -> Calm:
    t = np.cumsum(rng.choice([1, 1, 1, 2, 3], n))  # samples are missing: the day's place slides
    x = np.abs(8 + 4 * np.sin(2 * np.pi * t / 288) + 2.5 * memory(rng, n, 0.5))
    return Calm(np.round(x, 2).astype(np.float64), 4.0)


def _travel(rng: Rng, n: int) -> Calm:
    t = np.cumsum(rng.choice([1, 1, 1, 2, 6], n))
    rush = 0.3 * np.maximum(0, np.sin(2 * np.pi * t / 288)) ** 3
    x = np.exp(4.8 + rush + 0.21 * rng.standard_t(4, n))
    return Calm(np.round(x).astype(np.float64), 60.0)


def _mentions(rng: Rng, n: int) -> Calm:
    mean = np.exp(2 + 0.42 * cycle(rng, n, 288, 2) + 0.3 * memory(rng, n, 0.98))
    x = rng.negative_binomial(3, 3 / (3 + mean)).astype(float)
    for at in np.flatnonzero(rng.random(n) < 4e-4):
        end = min(n, at + 60)
        x[at:end] += rng.poisson(np.exp(-np.arange(end - at) / 10) * rng.uniform(20, 80))
    return Calm(x, 12.0, (288,))


def _steady_mentions(rng: Rng, n: int) -> Calm:
    mean = np.exp(3 + 0.3 * cycle(rng, n, 288, 2) + 0.4 * memory(rng, n, 0.995))
    return Calm(rng.poisson(mean).astype(float), 12.0, (288,))


def _latency(rng: Rng, n: int) -> Calm:
    return Calm(45 + 0.8 * rng.standard_t(3, n) + memory(rng, n, 0.98, 0.5), 1.5)


def _busy_and_idle(rng: Rng, n: int) -> Calm:
    busy = np.cumsum(rng.random(n) < 1 / 40) % 2
    x = 30 + 20 * busy * (1 + 0.2 * np.sin(2 * np.pi * np.arange(n) / 288))
    return Calm(x + 2 * memory(rng, n, 0.3), 20.0)


def _keystrokes(rng: Rng, n: int) -> Calm:
    x = 0.06 * memory(rng, n, 0.2) * (rng.random(n) < 0.9) + 0.02 * rng.standard_t(3, n)
    return Calm(x, 0.1)


TUNED: Final = {
    "load": Kind(_load, 4032, 3),
    "coarse load": Kind(_coarse_load, 4032, 3),
    "disk": Kind(_disk, 4032, 2),
    "backups": Kind(_backups, 4032, 2),
    "requests": Kind(_requests, 4032, 1),
    "wander": Kind(_wander, 4032, 2),
    "walk": Kind(_walk, 4032, 2),
    "trend": Kind(_trend, 4032, 1),
    "saw": Kind(_saw, 4032, 1),
    "prices": Kind(_prices, 1624, 6),
    "temperature": Kind(_temperature, 7267, 1),
    "machine": Kind(_machine, 22695, 1),
    "taxi": Kind(_taxi, 10320, 1),
    "latency": Kind(_latency, 4032, 1),
    "busy and idle": Kind(_busy_and_idle, 18050, 1),
    "keystrokes": Kind(_keystrokes, 3500, 2),
    "traffic": Kind(_traffic, 2500, 4),
    "travel": Kind(_travel, 2500, 3),
    "mentions": Kind(_mentions, 15842, 7),
    "steady mentions": Kind(_steady_mentions, 15842, 3),
}


# The family that is only measured.


def _queue(rng: Rng, n: int) -> Calm:
    """Draw a queue's length at regular times: a walk that zero reflects."""
    load = rng.uniform(0.7, 0.9)
    level, out = 0, np.empty(n)
    for i, come in enumerate(rng.poisson(8 * load, n).tolist()):
        level = max(0, level + come - 8)
        out[i] = level
    return Calm(out, 4.0)


def _office(rng: Rng, n: int) -> Calm:
    """Draw counts an hour: office hours of weekdays, and holidays."""
    hour, day = np.arange(n) % 24, np.arange(n) // 24
    is_open = (hour >= 8) & (hour < 18) & (day % 7 < 5)
    closed = np.isin(day, np.flatnonzero(rng.random(day[-1] + 1) < 0.02))
    mean = np.where(is_open & ~closed, 30 + 10 * np.sin(np.pi * (hour - 8) / 10), 1.0)
    return Calm(rng.poisson(mean * np.exp(0.1 * memory(rng, n, 0.9))).astype(float), 8.0, (24, 168))


def _thermostat(rng: Rng, n: int) -> Calm:
    """Heat below one limit and not above another: cycles of no fixed length."""
    outside = memory(rng, n, 0.999, 4.0)
    noise = 0.05 * rng.standard_normal(n)
    level, heats, out = 20.0, False, np.empty(n)
    for i in range(n):
        heats = level < 19.5 or (heats and level < 20.5)
        level += (0.12 if heats else 0.0) - 0.004 * (level - 8 - outside[i])
        out[i] = level + noise[i]
    return Calm(np.round(out, 1), 0.5)


def _battery(rng: Rng, n: int) -> Calm:
    """Draw a charge that falls and is filled up, at no fixed times."""
    level, fills, out = 80.0, False, np.empty(n)
    steps = rng.gamma(4, 0.05, n)
    for i, step in enumerate(steps.tolist()):
        fills = (fills and level < 97) or level < rng.uniform(15, 35)
        level += 5 * step if fills else -step
        out[i] = level
    return Calm(np.round(out), 15.0)


def _deploys(rng: Rng, n: int) -> Calm:
    """Draw a level that each deployment moves a little; gamma noise."""
    moved = np.cumsum(np.where(rng.random(n) < 1 / 300, rng.normal(0, 0.5, n), 0.0))
    return Calm(100 * np.exp(0.05 * moved) + rng.gamma(2, 2, n), 5.0)


def _shots(rng: Rng, n: int) -> Calm:
    """Draw impulses that fade: a tank of jobs."""
    impulses = np.where(rng.random(n) < 0.05, rng.pareto(3, n) + 0.5, 0.0)
    return Calm(np.asarray(lfilter([1.0], [1, -0.9], impulses)) + 0.05 * rng.random(n), 1.5)


def _two_modes(rng: Rng, n: int) -> Calm:
    """Draw times of hits and misses of a cache, whose share drifts."""
    share = 0.2 / (1 + np.exp(-memory(rng, n, 0.99)))
    missed = rng.random(n) < share
    return Calm(np.exp(np.where(missed, 3.5, 1.0) + 0.3 * rng.standard_normal(n)), 8.0)


def _loud_and_quiet(rng: Rng, n: int) -> Calm:
    """Draw returns whose spread has a memory."""
    noise = rng.standard_normal(n).tolist()
    variance, out = 1.0, np.empty(n)
    for i, e in enumerate(noise):
        out[i] = e * math.sqrt(variance)
        variance = 0.05 + 0.08 * out[i] ** 2 + 0.87 * variance
    return Calm(out, 1.0)


def _irregular_cycle(rng: Rng, n: int) -> Calm:
    """Draw a second-order autoregression that swings once in about fifty samples."""
    noise = rng.standard_normal(n + 500)
    damped, turn = 0.97, 2 * np.pi / 50
    x = lfilter([1.0], [1, -2 * damped * math.cos(turn), damped**2], noise)[500:]
    return Calm(np.asarray(x / x.std()) + 0.3 * rng.standard_normal(n), 1.0)


def _solar(rng: Rng, n: int) -> Calm:
    """Draw a panel's power: nothing at night, clouds by day."""
    clear = np.maximum(0, np.sin(2 * np.pi * np.arange(n) / 96))
    clouds = 1 / (1 + np.exp(-2 - 1.5 * memory(rng, n, 0.9)))
    return Calm(np.round(clear * clouds * 500), 100.0, (96,))


def _vibration(rng: Rng, n: int) -> Calm:
    """Draw the vibration of a machine at a few speeds, each for a while."""
    speed = np.zeros(n, np.int64)
    at = 0
    while at < n:
        length = int(rng.gamma(3, 30)) + 5
        speed[at : at + length] = rng.integers(0, 3)
        at += length
    return Calm(np.array([1.0, 1.4, 2.2])[speed] * rng.gamma(50, 1 / 50, n), 0.4)


def _errors(rng: Rng, n: int) -> Calm:
    """Draw errors among a thousand requests, more of them for a while now and then."""
    state = np.cumsum(np.where(rng.random(n) < 0.02, 1, 0)) % 2
    return Calm(rng.binomial(1000, np.where(state == 1, 0.004, 0.001)).astype(float), 2.0)


def _flow(rng: Rng, n: int) -> Calm:
    """Draw a river: rain comes at once, goes slowly, and a season is behind it."""
    rain = np.where(rng.random(n) < 0.03, rng.exponential(3, n), 0.0)
    season = 1 + 0.5 * np.sin(2 * np.pi * (np.arange(n) / 5000 + rng.random()))
    x = np.asarray(lfilter([0.2], [1, -0.95], rain * season))
    return Calm(np.exp(0.5 * x + 0.02 * rng.standard_normal(n)), 0.5)


def _voltage(rng: Rng, n: int) -> Calm:
    """Draw a supply's voltage in coarse steps, loaded by day."""
    x = 230 - 1.5 * np.maximum(0, cycle(rng, n, 144, 2)) + 0.8 * memory(rng, n, 0.7)
    return Calm(np.round(2 * x) / 2, 1.0, (144,))


HELD_OUT: Final = {
    "queue": Kind(_queue, 4000, 4),
    "office": Kind(_office, 6000, 4),
    "thermostat": Kind(_thermostat, 5000, 3),
    "battery": Kind(_battery, 5000, 2),
    "deploys": Kind(_deploys, 4000, 3),
    "shots": Kind(_shots, 4000, 4),
    "two modes": Kind(_two_modes, 5000, 4),
    "loud and quiet": Kind(_loud_and_quiet, 4000, 4),
    "irregular cycle": Kind(_irregular_cycle, 4000, 3),
    "solar": Kind(_solar, 5000, 3),
    "vibration": Kind(_vibration, 5000, 4),
    "errors": Kind(_errors, 4000, 4),
    "flow": Kind(_flow, 6000, 2),
    "voltage": Kind(_voltage, 4000, 3),
}


def series(family: dict[str, Kind], seed: int, share: float) -> list[Series]:
    """Return a family's series, of which the first `share` is calm.

    One to three windows each, a thirtieth of the series long; what happens in one begins at its
    middle: a spike, a drop, a shift, loud noise, or a shift that stays.
    """
    found = []
    for name, kind in family.items():
        for i in range(kind.how_many):
            rng = _rng(seed, i, name)
            calm = kind.draw(rng, kind.length)
            calibration = int(share * kind.length)
            windows = _windows(rng, kind.length, calibration)
            values = calm.values.copy()
            for begin, end in windows:
                _happen(rng, values, (begin + end) // 2, end, calm.scale)
            found.append(Series(name, values, windows, calm.periods, calibration))
    return found


def calm_series(family: dict[str, Kind], seed: int, share: float) -> list[Series]:
    """Return the same series without anything that happens in them."""
    return [
        Series(
            name,
            calm.values,
            [],
            calm.periods,
            int(share * kind.length),
            calm.seldom,
        )
        for name, kind in family.items()
        for i in range(kind.how_many)
        for calm in [kind.draw(_rng(seed, i, name), kind.length)]
    ]


def _rng(seed: int, i: int, name: str) -> Rng:
    return np.random.default_rng((seed, i, *name.encode()))


def _windows(rng: Rng, length: int, calibration: int) -> list[tuple[int, int]]:
    wanted, width = int(rng.integers(1, 4)), length // 30
    found: list[tuple[int, int]] = []
    for _ in range(100):
        if len(found) == wanted:
            break
        begin = int(rng.integers(calibration + width, length - width))
        if all(abs(begin - other) > 2 * width for other, _ in found):
            found.append((begin, begin + width))
    return sorted(found)


def _happen(rng: Rng, x: Values, middle: int, end: int, scale: float) -> None:
    what = rng.choice(["spike", "drop", "shift", "noise", "lasting"])
    long = int(rng.integers(min(20, end - middle - 1), end - middle))
    if what == "spike":
        x[middle : middle + int(rng.integers(1, 8))] += rng.uniform(4, 12) * scale
    elif what == "drop":
        x[middle : middle + int(rng.integers(3, 30))] -= rng.uniform(3, 6) * scale
    elif what == "shift":
        x[middle : middle + long] += rng.choice([-1, 1]) * rng.uniform(1.5, 4) * scale
    elif what == "noise":
        x[middle : middle + long] += rng.normal(size=long) * 3 * scale
    else:
        x[middle:] += rng.choice([-1, 1]) * rng.uniform(1.5, 4) * scale
