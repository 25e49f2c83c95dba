"""Watch the signals of every inference against their references."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.baseline import Baseline
from selfheal_edge.signals import Measurement

__all__ = ["SENSOR_ALARMS", "Alarm", "PerformanceMonitor"]

_WINDOW: Final = 256
_SETTLED_SAMPLES: Final = 64
_SETTLED_MEAN: Final = 0.5  # four standard errors of a mean of 64
_MIN_REPEATS: Final = 8
_FLAT_SHARE: Final = 0.25


SENSOR_ALARMS: Final = frozenset({"input_repeats", "input_flat", "input_nonfinite"})
"""Alarms that say by themselves that a sensor is at fault."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A signal has left its reference."""

    signal: str
    direction: int
    """+1 above the reference, -1 below."""
    magnitude: float
    """Estimated shift, in standard deviations of the reference's normal scores."""
    onset: int
    """Estimated prediction at which it began, counted like `PerformanceMonitor.count`."""
    statistic: float
    threshold: float
    earliest: int = -1
    """With 95 % confidence it did not begin before this prediction: what a rollback may trust."""

    def __str__(self) -> str:
        return f"{self.signal} {self.direction * self.magnitude:+.2f} sd"


class PerformanceMonitor:
    """A bank of charts on the normal scores of every signal, under one false-alarm promise.

    Parameters
    ----------
    baseline
        Frozen references and the wanted mean number of predictions between false alarms.

    Notes
    -----
    The charts, and how far the promise goes, are `MonitorBank`'s: CUSUMs for slow, middling and
    fast shifts and a count of far samples, on either side of every signal. The size of the
    calibration and the signals' autocorrelation are in the thresholds; calibrate on inputs in the
    order in which they come.

    Three more alarms need no chart, and name a sensor rather than a distribution:
    ``input_repeats``, when more inputs in a row are equal to the bit than chance explains,
    ``input_flat``, when eight in a row have less than a quarter of the least spread that
    calibration saw, and ``input_nonfinite``.

    Memory is fixed after construction. One thread at a time.
    """

    def __init__(self, baseline: Baseline) -> None:
        self.names: tuple[str, ...] = tuple(baseline.references)
        signals = max(1, len(self.names))
        self._bank = (
            _core.MonitorBank(
                list(baseline.references.values()),
                min(1e12 / signals, baseline.false_alarm_interval),
            )
            if self.names
            else None
        )
        share = max(baseline.repeat_share, 1.0 / baseline.samples)
        self._max_repeats = (
            max(_MIN_REPEATS, math.ceil(math.log(baseline.false_alarm_interval) / -math.log(share)))
            if share < 0.99
            else 0  # inputs are always the same: that they repeat says nothing
        )
        self._flat_below = tuple(
            (i, _FLAT_SHARE * reference.lowest)
            for i, (name, reference) in enumerate(baseline.references.items())
            if name.startswith("input_std")
        )
        self._flat = 0
        self._since_alarm = 0
        self._scores = _core.RingBuffer(_WINDOW, max(1, len(self.names)))
        self._row = np.zeros(max(1, len(self.names)))
        self.count = 0
        """Predictions seen."""
        self.repeats = 0
        """Equal inputs in a row, the latest included."""
        self.nonfinite = 0
        """Values that were NaN or infinite, ever."""

    @property
    def window(self) -> npt.NDArray[np.float64]:
        """Normal scores of the latest predictions, oldest first: shape (n <= 256, signals)."""
        return np.asarray(self._scores.to_array(), np.float64)

    @property
    def memory_bytes(self) -> int:
        """Bytes of references, charts and history."""
        bank = 0 if self._bank is None else self._bank.memory_bytes()
        return bank + self._scores.memory_bytes() + self._row.nbytes

    def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
        """Take in one inference; return the alarms that it raised, usually none."""
        self.count += 1
        alarms: list[Alarm] = []
        if self._bank is not None:
            self._row[:] = measurement.values
            if self._bank.update(self._row):
                alarms += [self._alarm(self._bank, i) for i in self._bank.alarms]
            self._scores.push(self._bank.scores)
        if measurement.nonfinite:
            self.nonfinite += measurement.nonfinite
            alarms.append(self._sensor("input_nonfinite", measurement.nonfinite, 0, 0))
        is_flat = any(measurement.values[i] < least for i, least in self._flat_below)
        self._flat = self._flat + 1 if is_flat else 0
        if self._flat and self._flat % _MIN_REPEATS == 0:
            alarms.append(self._sensor("input_flat", self._flat, _MIN_REPEATS, self._flat))
        self.repeats = self.repeats + 1 if measurement.repeats_previous else 0
        if self._max_repeats and self.repeats and self.repeats % self._max_repeats == 0:
            alarms.append(
                self._sensor("input_repeats", self.repeats, self._max_repeats, self.repeats)
            )
        self._since_alarm = 0 if alarms else self._since_alarm + 1
        return tuple(alarms)

    def _alarm(self, bank: _core.MonitorBank, signal: int) -> Alarm:
        # The bank counts since its last reset.
        before = self.count - bank.count
        onset, earliest = bank.onset(signal), bank.onset_earliest(signal)
        return Alarm(
            self.names[signal],
            bank.direction(signal),
            bank.magnitude(signal),
            before + (bank.count - 1 if onset is None else onset),
            bank.statistic(signal),
            1.0,
            before + (0 if earliest is None else earliest),
        )

    def _sensor(self, signal: str, value: float, threshold: float, ago: int) -> Alarm:
        return Alarm(signal, 1, float(value), self.count - ago, float(value), float(threshold))

    def settled(self) -> bool:
        """Whether the latest 64 predictions raised no alarm and look like the reference again."""
        if self.repeats or self._since_alarm < _SETTLED_SAMPLES:
            return False
        recent = self.window[-_SETTLED_SAMPLES:]
        if len(recent) < _SETTLED_SAMPLES:
            return False
        known = np.isfinite(recent)
        if not known.any(axis=1).all():
            return False
        # A signal may be without a value at times, as the distance to a class that was never seen.
        means = np.where(known, recent, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
        return bool((np.abs(means) < _SETTLED_MEAN).all())

    def reset(self) -> None:
        """Forget charts and history, as after a repair; counters go on."""
        if self._bank is not None:
            self._bank.reset()
        self._scores.clear()
        self.repeats = self._flat = self._since_alarm = 0
