"""The promise of the chart on the mix of predicted classes, and how soon it tells.

False alarms are solved for exactly, by the chain of every chart; delays are simulated.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core

PARTS: Final = 13
"""Signals of a monitor and the mix: each has an equal share of the promise."""
SIZES: Final = (100, 300, 1000, 10_000)
STAYS: Final = (0.0, 0.5, 0.9)
INTERVALS: Final = (1e4, 1e5)
SHARES: Final = (0.3, 0.6, 0.9)

Shares = npt.NDArray[np.float64]


def mixes() -> dict[str, Shares]:
    """Return how often the classes of some models come."""
    zipf = 1.0 / np.arange(1.0, 51.0)
    return {
        "ten even classes": np.full(10, 0.1),
        "ten classes, 50 % to 1 %": np.array(
            [0.5, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.01, 0.01, 0.01]
        ),
        "three even classes": np.full(3, 1.0 / 3.0),
        "two classes, one of them 5 %": np.array([0.95, 0.05]),
        "fifty classes, Zipf": zipf / zipf.sum(),
    }


def draw(
    rng: np.random.Generator, shares: Shares, count: int, stay: float
) -> npt.NDArray[np.int64]:
    """Return labels, each kept from the one before with probability `stay`."""
    fresh = rng.choice(len(shares), count, p=shares)
    keeps = rng.random(count) < stay
    keeps[0] = False
    labels: npt.NDArray[np.int64] = fresh[
        np.maximum.accumulate(np.where(keeps, 0, np.arange(count)))
    ]
    return labels


def false_alarms(mix: _core.LabelMix, shares: Shares, stay: float) -> float:
    """Return the rate of all charts together, at most, over the promised one: exactly."""
    events = mix.reference.events
    named = [e["label"] for e in events if e["label"] is not None and not e["complement"]]
    rate = 0.0
    for i, event in enumerate(events):
        rest = event["label"] is None
        share = 1.0 - float(shares[named].sum()) if rest else float(shares[event["label"]])
        share = 1.0 - share if event["complement"] else share
        begin, on = (1.0 - stay) * share, stay + (1.0 - stay) * share
        for k, (first, further, limit) in enumerate(mix.charts(i)):
            if limit and 0.0 < share < 1.0:
                rate += 1.0 / _core.count_run_length(begin, on, first, further, limit, k == 2)
    return rate * mix.arl0


class Kept(NamedTuple):
    """How calibrations fare."""

    share: float
    """Of all: how many keep the promise, those without a chart among them."""
    charted: float
    """Of all: how many have a chart."""


def kept(shares: Shares, stay: float, size: int, interval: float, calibrations: int) -> Kept:
    """Return how calibrations of `size` labels keep `interval` of all signals together."""
    rng = np.random.default_rng((1, size))
    good = charted = 0
    for _ in range(calibrations):
        reference = _core.LabelReference(draw(rng, shares, size, stay), len(shares))
        if not reference.is_supported:
            good += 1
            continue
        charted += 1
        mix = _core.LabelMix(reference, PARTS * interval)
        good += false_alarms(mix, shares, stay) <= 1.0
    return Kept(good / calibrations, charted / calibrations)


def delays(stay: float, size: int, share: float, interval: float, runs: int) -> list[int]:
    """Return after how many labels it is told that one of ten even classes has come to `share`.

    One run a calibration; one without a chart has none. 20,000 labels are waited for.
    """
    rng = np.random.default_rng((2, size))
    even = np.full(10, 0.1)
    moved = np.full(10, (1.0 - share) / 9.0)
    moved[3] = share
    found = []
    for _ in range(runs):
        reference = _core.LabelReference(draw(rng, even, size, stay), 10)
        if not reference.is_supported:
            continue
        mix = _core.LabelMix(reference, PARTS * interval)
        mix.update_many(draw(rng, even, 500, stay))
        mix.restart()
        for part in range(40):
            told = mix.update_many(draw(rng, moved, 500, stay))
            if told.size:
                found.append(500 * part + int(told[0]) + 1)
                break
        else:
            found.append(20_000)
    return found
