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

_REFERENCE_VALUES: Final = (0.25, 1.0)  # slow and small shifts; fast and large ones
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
    """Estimated shift, in standard deviations of the reference."""
    onset: int
    """Estimated prediction at which it began, counted like `PerformanceMonitor.count`."""
    statistic: float
    threshold: float

    def __str__(self) -> str:
        return f"{self.signal} {self.direction * self.magnitude:+.2f} sd"


class PerformanceMonitor:
    """Two-sided CUSUMs on the normal scores of every signal, under one false-alarm promise.

    Parameters
    ----------
    baseline
        Frozen references and the wanted mean number of predictions between false alarms.

    Notes
    -----
    Every signal has a chart for small shifts (k = 0.25) and one for large ones (k = 1). The
    promise is shared evenly among them (Bonferroni), and each threshold allows for an error of
    the reference's mean of 1.3 standard errors. Autocorrelated signals alarm more often than
    promised: calibrate on inputs in the order in which they come.

    Three more alarms need no chart, and name a sensor rather than a distribution:
    ``input_repeats``, when more inputs in a row are equal to the bit than chance explains,
    ``input_flat``, when eight in a row have less than a quarter of the least spread that
    calibration saw, and ``input_nonfinite``.

    Memory is fixed after construction. One thread at a time.
    """

    def __init__(self, baseline: Baseline) -> None:
        self.names: tuple[str, ...] = tuple(baseline.references)
        self._references = tuple(baseline.references.values())
        charts = len(_REFERENCE_VALUES) * max(1, len(self.names))
        arl0 = min(1e12, baseline.false_alarm_interval * charts)
        allowance = 1.3 / math.sqrt(baseline.samples)
        thresholds = {
            k: _core.cusum_threshold(arl0, max(0.05, k - allowance)) for k in _REFERENCE_VALUES
        }
        self._charts = tuple(
            tuple(_core.Cusum(0.0, 1.0, k=k, h=h) for k, h in thresholds.items())
            for _ in self.names
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
        charts = sum(c.memory_bytes() for pair in self._charts for c in pair)
        references = sum(r.memory_bytes() for r in self._references)
        return int(charts + references + self._scores.memory_bytes() + self._row.nbytes)

    def update(self, measurement: Measurement) -> tuple[Alarm, ...]:
        """Take in one inference; return the alarms that it raised, usually none."""
        self.count += 1
        alarms: list[Alarm] = []
        for i, value in enumerate(measurement.values):
            score = self._references[i].score(value)
            self._row[i] = score
            for chart in self._charts[i]:
                if chart.update(score):
                    alarms.append(self._alarm(self.names[i], chart))
        self._scores.push(self._row)
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

    def _alarm(self, signal: str, chart: _core.Cusum) -> Alarm:
        ago = chart.count + chart.skipped - (chart.onset or 0)
        return Alarm(
            signal,
            chart.direction,
            chart.magnitude,
            self.count - ago,
            chart.statistic,
            chart.h,
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
        if not np.isfinite(recent).all():
            return False
        return bool((np.abs(recent.mean(axis=0)) < _SETTLED_MEAN).all())

    def reset(self) -> None:
        """Forget charts and history, as after a repair; counters go on."""
        for pair in self._charts:
            for chart in pair:
                chart.reset()
        self._scores.clear()
        self.repeats = self._flat = self._since_alarm = 0
