"""Does a calibrated monitor keep its promise? Run lengths, calibrations, onsets, gaps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

import signals_for_detectors as signals
from exact_run_length import Source, bank_rate
from selfheal_edge import DriftDetector, _core


def chart_run_lengths(runs: int) -> Iterator[tuple[str, float]]:
    """Give each chart's simulated run length over the promised one, on N(0, 1)."""
    rng = np.random.default_rng(11)
    arl0 = 500.0
    samples = rng.standard_normal(int(runs * arl0))
    makes: dict[str, Any] = {
        **{
            f"Cusum k={k}": _core.Cusum(0, 1, k=k, arl0=arl0, track_onset=False)
            for k in (0.25, 0.5, 1.0)
        },
        "Cusum upper k=0.5": _core.Cusum(0, 1, arl0=arl0, sides="upper", track_onset=False),
        "PageHinkley": _core.PageHinkley(0, 1, arl0=arl0, track_onset=False),
        **{
            f"Ewma weight={w}": _core.Ewma(0, 1, weight=w, arl0=arl0, track_onset=False)
            for w in (0.05, 0.25)
        },
    }
    for name, chart in makes.items():
        yield name, len(samples) / len(chart.update_many(samples)) / arl0


class Cell(NamedTuple):
    """One case of the promise."""

    kind: str
    n0: int
    phi: float
    signals: int = 1
    rho: float = 0.0

    def __str__(self) -> str:
        many = f", {self.signals} signals rho={self.rho}" if self.signals > 1 else ""
        return f"{self.kind} n0={self.n0} phi={self.phi}{many}"


def kept(cell: Cell, arl0: float, calibrations: int, alarms: int, seed: int) -> float:
    """Return the share of calibrations whose mean time between false alarms is at least `arl0`.

    The time is estimated from about `alarms` alarms each, so its own noise, one over the root of
    `alarms`, lowers the share: of banks that promise 1000 and keep 1400, ten alarms condemn more
    than a tenth.
    """
    rng = np.random.default_rng(seed)
    good = 0
    for _ in range(calibrations):
        normal = _draw(cell, rng, cell.n0)
        bank = _core.MonitorBank(
            [_core.Reference(np.ascontiguousarray(column)) for column in normal.T], arl0
        )
        seen = found = 0
        # Enough when so few alarms in so long a time leave no doubt.
        while found < alarms and seen < 2.0 * alarms * arl0:
            part = _draw(cell, rng, int(5 * arl0))
            rows = bank.update_many(part)
            found += len(np.unique(rows[:, 0]))
            seen += len(part)
        good += seen >= arl0 * max(found, 1)
    return good / calibrations


SMALL_CALIBRATIONS: Final = (50, 80, 120, 200, 400)
LONG_INTERVALS: Final = (1e5, 1e6, 2.6e7)


def sources() -> dict[str, Source]:
    """Return sources that no constant of the thresholds was tuned on."""
    return {
        "continuous": _continuous(),
        "seven levels, phi = 0.3": _quantised(0.3),
        "seven levels, phi = 0.6": _quantised(0.6),
        "counts": _counts(0.7),
        "halves": Source(np.arange(40.0), _normed(0.5 ** np.arange(1.0, 41.0))),
        "one in a hundred": Source(np.array([0.0, 1.0]), np.array([0.99, 0.01])),
        "one in five hundred": Source(np.array([0.0, 1.0]), np.array([0.998, 0.002])),
        "nine tenths on one level": _mostly_one(),
        "bursts of a rare level": _bursts(0.02, 0.2),
    }


class Kept(NamedTuple):
    """How calibrations of one size fare."""

    share: float
    """Of those that are accepted: how many keep the promise."""
    charts: float
    """Charts that one of these has, of 8, on average."""
    refused: float
    """Share of all that a `DriftDetector` refuses, with the number of samples that would do."""


def kept_exactly(source: Source, n0: int, arl0: float, calibrations: int, seed: int = 1) -> Kept:
    """Return how calibrations on `n0` samples keep `arl0`."""
    rng = np.random.default_rng((seed, n0))
    good = charts = accepted = 0
    for _ in range(calibrations):
        reference = _core.Reference(source.draw(rng, n0))
        monitor = _core.SignalMonitor(reference, arl0=arl0)
        left_out = set(monitor.left_out)
        if left_out >= {0, 1, 2, 3} or left_out >= {4, 5, 6, 7}:
            continue
        accepted += 1
        charts += 8 - len(left_out)
        good += bank_rate(monitor, reference, source) * arl0 <= 1
    return Kept(good / accepted, charts / accepted, 1 - accepted / calibrations)


def _normed(shares: signals.Samples) -> signals.Samples:
    return np.asarray(shares / shares.sum())


def _continuous() -> Source:
    """Scores are ranks: every continuous distribution is this one."""
    far = np.logspace(-7, -3, 60)
    p = np.concatenate([far, np.linspace(1e-3, 1 - 1e-3, 500)[1:-1], 1 - far[::-1]])
    edges = np.concatenate([[0.0], 0.5 * (p[1:] + p[:-1]), [1.0]])
    return Source(p, _normed(np.diff(edges)))


def _counts(mean: float) -> Source:
    shares = np.array([math.exp(-mean) * mean**k / math.factorial(k) for k in range(12)])
    return Source(np.arange(12.0), _normed(shares))


def _bursts(begin: float, end: float) -> Source:
    """Mostly a level; another in bursts, each sample of which may be the last."""
    moves = np.array([[1 - begin, begin], [end, 1 - end]])
    return Source(np.array([0.0, 1.0]), np.array([end, begin]) / (begin + end), moves)


def _mostly_one() -> Source:
    tail = _continuous()
    return Source(
        np.concatenate([[0.0], 1 + tail.values]), np.concatenate([[0.9], 0.1 * tail.shares])
    )


def _quantised(phi: float) -> Source:
    """Seven levels of a first-order autoregression; what follows from the level before, alone."""
    nodes = np.linspace(-6, 6, 1201)
    level = np.searchsorted(np.linspace(-1.8, 1.8, 6), nodes)
    density = np.exp(-0.5 * nodes**2)
    moves = np.zeros((7, 7))
    spread = math.sqrt(1 - phi * phi)
    for x, weight in zip(nodes, density, strict=True):
        after = np.exp(-0.5 * ((nodes - phi * x) / spread) ** 2)
        moves[np.searchsorted(np.linspace(-1.8, 1.8, 6), x)] += weight * np.bincount(
            level, after / after.sum(), 7
        )
    moves /= moves.sum(axis=1, keepdims=True)
    shares = np.full(7, 1 / 7)
    for _ in range(200):
        shares = shares @ moves
    return Source(np.arange(7.0), shares, moves)


def _draw(cell: Cell, rng: np.random.Generator, count: int) -> signals.Samples:
    return signals.stream(cell.kind, rng, count, phi=cell.phi, signals=cell.signals, rho=cell.rho)


def onset_coverage(shift: float, runs: int, arl0: float, seed: int = 2) -> tuple[float, float]:
    """Return how often the bound is not after the true start, and how far before it lies.

    On the default bank, N(0, 1) known, change after 1000 samples, runs with a false alarm left out.
    """
    rng = np.random.default_rng(seed)
    monitor = _core.SignalMonitor(_core.Reference.normal(0, 1), arl0=arl0)
    start = 1000
    covered = used = 0
    distance = 0.0
    for _ in range(runs):
        monitor.reset()
        samples = rng.standard_normal(start + int(600 / shift**2) + 200)
        samples[start:] += shift
        if len(monitor.update_many(samples[:start])):
            continue
        for x in samples[start:].tolist():
            if monitor.update(x):
                break
        else:
            continue
        bound = monitor.onset_earliest
        if bound is None:
            continue
        used += 1
        covered += bound <= start
        distance += start - bound
    return covered / max(used, 1), distance / max(used, 1)


OLD_SHIFTS: Final = (0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.0)
_BLOCK: Final = 100_000
_MOST: Final = 80  # blocks that an alarm is waited for


class OldOnset(NamedTuple):
    """How the bound fares in the README's configuration, over runs that found the change."""

    covered: float
    """Share of bounds that are not after the true start."""
    found: float
    """Share of runs that found it within eight million samples, with no false alarm before."""
    delay: float
    """Median of samples from the change to the alarm."""
    longest: float
    """The longest of these."""
    before: float
    """Median of samples from the bound to the true start, where it covers."""


def old_onset(shift: float, runs: int, seed: int = 7) -> OldOnset:
    """Calibrate on 10,000 samples for one false alarm in 30 days at 10 Hz, and shift later."""
    rng = np.random.default_rng((seed, int(1000 * shift)))
    delays: list[int] = []
    margins: list[int] = []
    for _ in range(runs):
        detector = DriftDetector(rng.standard_normal(10_000), false_alarm_interval=30 * 86400 * 10)
        lead = int(rng.integers(0, 200_000))
        if len(detector.update_many(rng.standard_normal(lead))):
            continue
        for block in range(_MOST):
            before = detector.state()
            samples = shift + rng.standard_normal(_BLOCK)
            found = detector.update_many(samples)
            if not len(found):
                continue
            detector = DriftDetector.from_state(before)
            detector.update_many(samples[: found[0] + 1])
            bound = detector.onset_earliest
            assert bound is not None
            delays.append(block * _BLOCK + int(found[0]) + 1)
            margins.append(lead - bound)
            break
    held = np.array(margins)
    return OldOnset(
        float(np.mean(held >= 0)),
        len(held) / runs,
        float(np.median(delays)),
        float(np.max(delays)),
        float(np.median(held[held >= 0])),
    )


def found_after_gap(detector: Any, bad: float) -> bool:
    """Whether a shift of 10 standard deviations is found after one bad value."""
    rng = np.random.default_rng(4)
    for x in rng.standard_normal(500).tolist():
        detector.update(x)
    detector.update(bad)
    for x in (10 + rng.standard_normal(500)).tolist():
        detector.update(x)
        if detector.drift_detected:
            return True
    return False


def bad_values() -> dict[str, float]:
    """Return what a broken sensor sends."""
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
