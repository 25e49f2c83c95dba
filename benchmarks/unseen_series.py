"""Series in which something comes seldom: a family that no choice has looked at.

Calibrated on the first 15 %, some have seen what will come, most have not. No threshold, and no
share of a calibration's length, was chosen by them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.signal import lfilter

from simulated_series import Calm, Kind, Rng, Values, cycle, memory

__all__ = ["SELDOM"]


def _times(rng: Rng, n: int, mean: float) -> list[int]:
    """Return when what comes at a constant rate, once in `mean` samples, comes."""
    return [int(at) for at in np.flatnonzero(rng.random(n) < 1.0 / mean)]


def _moved(rng: Rng, n: int, mean: float, sd: float) -> Values:
    """Return a level that jumps, once in `mean` samples."""
    level = np.zeros(n)
    for at in _times(rng, n, mean):
        level[at:] = rng.normal() * sd
    return level


def _moved_sensor(rng: Rng, n: int) -> Calm:
    return Calm(memory(rng, n, 0.2) + _moved(rng, n, rng.uniform(300, 6000), 1.5), 1.5)


def _releases(rng: Rng, n: int) -> Calm:
    """Draw times of answers; each release of a program makes it faster or slower."""
    level = np.exp(_moved(rng, n, 1500, 0.3))
    return Calm(level * rng.gamma(4, 2.5, n), 6.0)


def _failovers(rng: Rng, n: int) -> Calm:
    """Draw a machine's load, which doubles for some time while another one is away."""
    load = 30 + 3 * memory(rng, n, 0.6)
    for at in _times(rng, n, 2500):
        load[at : at + int(rng.exponential(60)) + 5] *= 2
    return Calm(load, 3.0)


def _closed_days(rng: Rng, n: int) -> Calm:
    """Draw visitors of a shop, which is shut on some days."""
    visits = np.exp(3 + 0.8 * cycle(rng, n, 96, 2))
    for day in range(0, n, 96):
        if rng.random() < 1 / 25:
            visits[day : day + 96] = 0.2
    return Calm(rng.poisson(visits).astype(float), 15.0, (96,))


def _bursts(rng: Rng, n: int) -> Calm:
    x = rng.exponential(1.0, n)
    for at in _times(rng, n, 1200):
        x[at : at + int(rng.geometric(0.1))] += rng.exponential(6)
    return Calm(x, 1.0)


def _maintenance(rng: Rng, n: int) -> Calm:
    """Draw a valve that wears and is put right."""
    x, wear = np.empty(n), 0.0
    rate = rng.uniform(0, 2e-3)
    for i in range(n):
        wear = 0.0 if rng.random() < 1 / 900 else wear + rate
        x[i] = wear
    return Calm(x + 0.5 * rng.standard_normal(n), 0.6)


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
