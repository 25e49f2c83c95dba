"""Two families that no choice has looked at: one in which something comes seldom, one of others.

SELDOM: calibrated on the first 15 %, some have seen what will come, most have not; it says when. No
threshold, and no share of a calibration's length, was chosen by it. LATER was drawn after wandering
spreads were told of, and scored once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.signal import lfilter

from simulated_series import Calm, Kind, Rng, Values, cycle, memory

__all__ = ["LATER", "SELDOM"]


def _times(rng: Rng, n: int, mean: float) -> list[int]:
    """Return when what comes at a constant rate, once in `mean` samples, comes."""
    return [int(at) for at in np.flatnonzero(rng.random(n) < 1.0 / mean)]


def _moved(rng: Rng, n: int, mean: float, sd: float) -> tuple[Values, list[int]]:
    """Return a level that jumps, once in `mean` samples, and when."""
    level = np.zeros(n)
    times = _times(rng, n, mean)
    for at in times:
        level[at:] = rng.normal() * sd
    return level, times


def _moved_sensor(rng: Rng, n: int) -> Calm:
    calm = memory(rng, n, 0.2)
    level, times = _moved(rng, n, rng.uniform(300, 6000), 1.5)
    return Calm(calm + level, 1.5, seldom=tuple(times))


def _releases(rng: Rng, n: int) -> Calm:
    """Draw times of answers; each release of a program makes it faster or slower."""
    level, times = _moved(rng, n, 1500, 0.3)
    return Calm(np.exp(level) * rng.gamma(4, 2.5, n), 6.0, seldom=tuple(times))


def _failovers(rng: Rng, n: int) -> Calm:
    """Draw a machine's load, which doubles for some time while another one is away."""
    load = 30 + 3 * memory(rng, n, 0.6)
    times = _times(rng, n, 2500)
    for at in times:
        load[at : at + int(rng.exponential(60)) + 5] *= 2
    return Calm(load, 3.0, seldom=tuple(times))


def _closed_days(rng: Rng, n: int) -> Calm:
    """Draw visitors of a shop, which is shut on some days."""
    visits = np.exp(3 + 0.8 * cycle(rng, n, 96, 2))
    closed = [day for day in range(0, n, 96) if rng.random() < 1 / 25]
    for day in closed:
        visits[day : day + 96] = 0.2
    return Calm(rng.poisson(visits).astype(float), 15.0, (96,), tuple(closed))


def _bursts(rng: Rng, n: int) -> Calm:
    x = rng.exponential(1.0, n)
    times = _times(rng, n, 1200)
    for at in times:
        x[at : at + int(rng.geometric(0.1))] += rng.exponential(6)
    return Calm(x, 1.0, seldom=tuple(times))


def _maintenance(rng: Rng, n: int) -> Calm:
    """Draw a valve that wears and is put right."""
    x, wear, times = np.empty(n), 0.0, []
    rate = rng.uniform(0, 2e-3)
    for i in range(n):
        wear += rate
        if rng.random() < 1 / 900:
            wear = 0.0
            times.append(i)
        x[i] = wear
    return Calm(x + 0.5 * rng.standard_normal(n), 0.6, seldom=tuple(times))


def _storms(rng: Rng, n: int) -> Calm:
    """Draw wind: a memory, and weather that makes it louder for days."""
    loud = 1 + np.maximum(0, memory(rng, n, 0.998) - 1)
    return Calm(5 + loud * memory(rng, n, 0.8), 1.2)


def _steady(rng: Rng, n: int) -> Calm:
    """Draw what nothing happens to: a filtered noise of heavy tails."""
    return Calm(np.asarray(lfilter([0.6, 0.3, 0.1], [1.0], rng.standard_t(4, n))), 1.0)


def _packets(rng: Rng, n: int) -> Calm:
    return Calm(rng.negative_binomial(3, 0.2, n).astype(float), 7.0)


SELDOM: Final = {
    "moved sensor": Kind(_moved_sensor, 5000, 8),
    "releases": Kind(_releases, 5000, 5),
    "failovers": Kind(_failovers, 5000, 5),
    "closed days": Kind(_closed_days, 6000, 5),
    "bursts": Kind(_bursts, 5000, 5),
    "maintenance": Kind(_maintenance, 5000, 5),
    "storms": Kind(_storms, 6000, 4),
    "steady": Kind(_steady, 5000, 5),
    "packets": Kind(_packets, 5000, 5),
}


def _swings(rng: Rng, n: int) -> Calm:
    """Draw returns whose log spread has a memory."""
    return Calm(np.exp(0.4 * memory(rng, n, 0.98)) * rng.standard_normal(n), 1.1)


def _tides(rng: Rng, n: int) -> Calm:
    t = np.arange(n) + 1000 * rng.random()
    sea = np.cos(2 * np.pi * t / 74.5) + 0.3 * np.cos(2 * np.pi * t / 72.0)
    return Calm(sea + 0.2 * memory(rng, n, 0.9), 0.7)


def _aftershocks(rng: Rng, n: int) -> Calm:
    """Draw counts that make more counts likely."""
    heat, out = 0.0, np.empty(n)
    for i in range(n):
        out[i] = rng.poisson(0.5 + 0.7 * heat)
        heat = 0.8 * heat + 0.2 * out[i]
    return Calm(out, 1.3)


def _share(rng: Rng, n: int) -> Calm:
    """Draw the hits of a cache among 200 requests."""
    level = 1 / (1 + np.exp(-1.5 - 0.4 * memory(rng, n, 0.99)))
    return Calm(rng.binomial(200, level) / 200, 0.05)


def _congestion(rng: Rng, n: int) -> Calm:
    """Draw times of a round trip; a queue builds up and empties."""
    queue, out = 0.0, np.empty(n)
    for i, step in enumerate(rng.standard_normal(n).tolist()):
        queue = max(0.0, 0.98 * queue + 0.3 * step)
        out[i] = queue
    return Calm(20 * np.exp(0.1 * rng.standard_normal(n)) + 5 * out, 5.0)


def _pump(rng: Rng, n: int) -> Calm:
    """Draw the power of a pump that runs for about as long as it rests."""
    runs = np.cumsum(rng.random(n) < 1 / 25) % 2
    return Calm(100 * runs + 2 + (1 + 4 * runs) * rng.standard_normal(n), 50.0)


def _position(rng: Rng, n: int) -> Calm:
    return Calm(3 * memory(rng, n, 0.97) + 0.3 * rng.standard_normal(n), 3.0)


def _long_memory(rng: Rng, n: int) -> Calm:
    """Draw fractional noise of order 0.25."""
    weights = np.cumprod(np.concatenate(([1.0], (np.arange(1, 2000) - 0.75) / np.arange(1, 2000))))
    x = np.convolve(rng.standard_normal(n + 2000), weights, "full")[2000 : n + 2000]
    return Calm(np.asarray(x), 1.1)


def _two_slopes(rng: Rng, n: int) -> Calm:
    """Draw an autoregression that forgets highs fast and lows slowly."""
    x, out = 0.0, np.empty(n)
    for i, e in enumerate(rng.standard_normal(n).tolist()):
        x = (0.3 if x > 0 else 0.8) * x + e
        out[i] = x
    return Calm(out, 1.3)


def _heavy(rng: Rng, n: int) -> Calm:
    return Calm(rng.standard_t(2.5, n) + 10, 1.5)


def _defects(rng: Rng, n: int) -> Calm:
    return Calm(rng.binomial(50, 0.06, n).astype(float), 1.7)


def _shifts(rng: Rng, n: int) -> Calm:
    """Draw a plant's load in three shifts a day, each with a level and a spread."""
    which = np.arange(n) // 32 % 3
    level, spread = np.array([50.0, 60.0, 30.0])[which], np.array([2.0, 4.0, 1.0])[which]
    return Calm(level + spread * memory(rng, n, 0.4), 8.0, (96,))


LATER: Final = {
    "swings": Kind(_swings, 5000, 4),
    "tides": Kind(_tides, 5000, 3),
    "aftershocks": Kind(_aftershocks, 5000, 4),
    "share": Kind(_share, 5000, 4),
    "congestion": Kind(_congestion, 5000, 4),
    "pump": Kind(_pump, 5000, 4),
    "position": Kind(_position, 5000, 4),
    "long memory": Kind(_long_memory, 5000, 4),
    "two slopes": Kind(_two_slopes, 5000, 4),
    "heavy": Kind(_heavy, 5000, 4),
    "defects": Kind(_defects, 5000, 4),
    "shifts": Kind(_shifts, 5000, 4),
}
