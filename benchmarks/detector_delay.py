"""Detection delay at equal hazard of false alarm just before the change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core

SHIFTS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
BEST_K: Final = tuple(0.5 * shift for shift in SHIFTS)
Make = Callable[[float], Any]
Samples = npt.NDArray[np.float64]


def alarms_before(make: Make, setting: float, warm_up: int, window: int, runs: Samples) -> float:
    """Alarms a sample in the window after the warm-up, over the runs; starts anew at alarms."""
    found = 0
    for run in runs:
        alarms = make(setting).update_many(run)
        found += int(np.count_nonzero(alarms >= warm_up))
    return found / (len(runs) * window)


def tune(
    make: Make, hazard: float, runs: Samples, warm_up: int, low: float, high: float, rises: bool
) -> float:
    """Find the setting with this hazard by bisection on a log scale.

    `rises` says whether a larger setting means more alarms.
    """
    window = runs.shape[1] - warm_up
    for _ in range(9):
        middle = math.sqrt(low * high)
        more = alarms_before(make, middle, warm_up, window, runs) > hazard
        if more == rises:
            high = middle
        else:
            low = middle
    return math.sqrt(low * high)


def mean_delay(make: Make, setting: float, before: Samples, after: Samples) -> float:
    """Return samples from the change up to and including the alarm, capped at the stream's end."""
    total = 0.0
    for calm, changed in zip(before, after, strict=True):
        detector = make(setting)
        detector.update_many(calm)
        alarms = detector.update_many(changed)
        total += (alarms[0] + 1) if len(alarms) else len(changed)
    return total / len(before)


def streams(
    rng: np.random.Generator, runs: int, warm_up: int, length: int, shift: float
) -> tuple[Samples, Samples]:
    """Give samples before and after a change of the mean."""
    return (
        rng.standard_normal((runs, warm_up)),
        rng.standard_normal((runs, length)) + shift,
    )


def known_reference(
    hazard: float, runs: int, seed: int = 3
) -> list[tuple[float, float, float, float]]:
    """Give (shift, bank's delay, best single CUSUM's, that one's in theory), N(0, 1) known.

    The CUSUM of a shift has k = shift / 2 and its own exact threshold; the bank has one setting,
    tuned to the same number of false alarms a sample.
    """
    rng = np.random.default_rng(seed)
    reference = _core.Reference.normal(0.0, 1.0)

    def bank(arl0: float) -> Any:
        return _core.SignalMonitor(reference, arl0=arl0)

    long = rng.standard_normal((1, int(1500 / hazard)))
    setting = tune(bank, hazard, long, 0, 0.5 / hazard, 1.5 / hazard, False)
    made = bank(setting)
    rows = []
    for shift, k in zip(SHIFTS, BEST_K, strict=True):
        before, after = streams(rng, runs, 300, int(480 / shift**2) + 60, shift)
        h = _core.cusum_threshold(1.0 / hazard, k)
        chart = _core.Cusum(0, 1, k=k, h=h, track_onset=False)
        rows.append(
            (
                shift,
                _delay_of(made, before, after),
                _delay_of(chart, before, after),
                steady_state_delay(h, k, shift),
            )
        )
    return rows


def _delay_of(detector: Any, before: Samples, after: Samples) -> float:
    total = 0
    for calm, changed in zip(before, after, strict=True):
        detector.reset()
        detector.update_many(calm)
        alarms = detector.update_many(changed)
        total += (int(alarms[0]) + 1) if len(alarms) else len(changed)
    return total / len(before)


def steady_state_delay(h: float, k: float, shift: float, states: int = 300) -> float:
    """Return a two-sided CUSUM's mean delay when the change comes long after the start.

    Markov chain (Brook and Evans 1972) for the side that sees the shift: its quasi-stationary
    distribution without the shift, times the run lengths with it. The other side is left out.
    """
    width = h / (states - 0.5)

    def normal_cdf(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z.ravel()]).reshape(z.shape)

    def moves(mean: float) -> npt.NDArray[np.float64]:
        states_at = np.arange(states, dtype=np.float64)
        step: npt.NDArray[np.float64] = states_at[None, :] - states_at[:, None]
        upper = normal_cdf(np.asarray((step + 0.5) * width + k - mean, np.float64))
        lower = normal_cdf(np.asarray((step - 0.5) * width + k - mean, np.float64))
        matrix = upper - lower
        matrix[:, 0] = upper[:, 0]
        return matrix

    calm = moves(0.0)
    weights = np.zeros(states)
    weights[0] = 1.0
    for _ in range(4000):
        weights = weights @ calm
        weights /= weights.sum()
    lengths = np.linalg.solve(np.eye(states) - moves(shift), np.ones(states))
    return float(weights @ lengths)


def calibration_price(n0: int, runs: int, arl0: float = 10_000.0, seed: int = 9) -> float:
    """Return the bank's delay calibrated on n0 samples over that with N(0, 1) known, at worst."""
    rng = np.random.default_rng(seed)
    known = _core.SignalMonitor(_core.Reference.normal(0.0, 1.0), arl0=arl0)
    worst = 0.0
    for shift in SHIFTS:
        ours = theirs = 0.0
        for _ in range(max(1, runs // 20)):
            before, after = streams(rng, 20, 300, int(480 / shift**2) + 200, shift)
            made = _core.SignalMonitor(_core.Reference(rng.standard_normal(n0)), arl0=arl0)
            ours += _delay_of(made, before, after)
            theirs += _delay_of(known, before, after)
        worst = max(worst, ours / theirs)
    return worst


def _calibrated(warm_up: int) -> Make:
    """Make the bank as a user has it: calibrated on the stream's own beginning."""

    class Calibrated:
        def __init__(self, arl0: float) -> None:
            self._arl0 = arl0
            self._monitor: Any = None

        def update_many(self, samples: Samples) -> npt.NDArray[np.int64]:
            if self._monitor is not None:
                return np.asarray(self._monitor.update_many(samples))
            reference = _core.Reference(np.ascontiguousarray(samples[:warm_up]))
            self._monitor = _core.SignalMonitor(reference, arl0=self._arl0)
            found = self._monitor.update_many(np.ascontiguousarray(samples[warm_up:]))
            return np.asarray(found) + warm_up

    return Calibrated


def peers(warm_up: int, kswin_runs: int) -> dict[str, tuple[Make, float, float, bool, int]]:
    """Give each peer in the one form that its threshold spans: make, range, rises, runs."""
    return {
        "default bank, calibrated": (_calibrated(warm_up), 100.0, 1e9, False, 0),
        "river PageHinkley": (
            lambda t: _core.PageHinkley(compat="river", threshold=t, track_onset=False),
            2.0,
            2000.0,
            False,
            0,
        ),
        "river ADWIN": (
            lambda d: _core.Adwin(d, clock=32, track_onset=False),
            1e-12,
            1.0,
            True,
            0,
        ),
        "river KSWIN": (
            lambda a: _core.Kswin(a, seed=1, track_onset=False),
            1e-9,
            0.1,
            True,
            kswin_runs,
        ),
        "frouros PageHinkley": (
            lambda t: _TwoSided(t, "PageHinkley"),
            2.0,
            2000.0,
            False,
            0,
        ),
        "frouros CUSUM": (lambda t: _TwoSided(t, "Cusum"), 2.0, 2000.0, False, 0),
    }


class _TwoSided:
    """frouros watches for a rise only: two of them, one upside down, started anew at alarms."""

    def __init__(self, threshold: float, kind: str) -> None:
        def make() -> Any:
            if kind == "Cusum":
                return _core.Cusum(compat="frouros", h=threshold, track_onset=False)
            return _core.PageHinkley(compat="frouros", threshold=threshold, track_onset=False)

        self._make = make
        self._charts = (make(), make())

    def update_many(self, samples: Samples) -> npt.NDArray[np.int64]:
        found: list[int] = []
        start = 0
        while start < len(samples):
            part = np.ascontiguousarray(samples[start:])
            states = [chart.state() for chart in self._charts]
            up = self._charts[0].update_many(part)
            down = self._charts[1].update_many(-part)
            first = min([int(a[0]) for a in (up, down) if len(a)], default=-1)
            if first < 0:
                break
            del states
            found.append(start + first)
            start += first + 1
            self._charts = (self._make(), self._make())
        return np.array(found, np.int64)


def against_peers(
    hazard: float, warm_up: int, runs: int, shifts: Sequence[float] = SHIFTS, seed: int = 5
) -> dict[str, list[float]]:
    """Give each detector's mean delays, all at the same hazard in the window before the change."""
    rng = np.random.default_rng(seed)
    window = 2000
    tuning = rng.standard_normal((max(40, int(400 / (hazard * window))), warm_up + window))
    held = {
        shift: streams(rng, runs, warm_up + window, int(480 / shift**2) + 2000, shift)
        for shift in shifts
    }
    delays: dict[str, list[float]] = {}
    for name, (make, low, high, rises, limit) in peers(warm_up, 60).items():
        used = tuning[:limit] if limit else tuning
        setting = tune(make, hazard, used, warm_up, low, high, rises)
        delays[name] = [
            mean_delay(make, setting, *(part[: limit or None] for part in held[shift]))
            for shift in shifts
        ]
    return delays
