"""What a calibration lets a detector promise, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from selfheal_edge import _core

__all__ = ["Promise", "chart_names", "promise_of"]

_ALLOWANCES: Final = ("slow shifts", "middling shifts", "fast shifts", "far samples")
_TREND: Final = 0.7
_LEAST_MEMORIES: Final = 50  # lengths of a signal's memory that a calibration has to hold
_WANDER_SD: Final = 2.5  # of the level are allowed for
_UNSTEADY: Final = 0.574  # of a constant level once in forty
_ANSWERED: Final = 0.2
"""Lengths of the calibration for which it answers for what it does not show.

That n samples show nothing of a kind, and the next a n do, has a chance of
exp(-r n) (1 - exp(-r a n)) where such things come at a constant rate r: at the worst rate
a / (1 + a) (1 + a)^(-1/a), which is 0.067 for a = 0.2. What comes at the very end of a calibration,
or is small, hardly shows there: 0.03 more, by simulation of levels that jump.
"""


def chart_names(charts: list[int]) -> tuple[str, ...]:
    """Return what charts of a bank watch for, such as ``"slow shifts up"``."""
    return tuple(f"{_ALLOWANCES[chart % 4]} {'down' if chart >= 4 else 'up'}" for chart in charts)


@dataclass(frozen=True, slots=True)
class Promise:
    """How often a detector is wrong, and what of its calibration may break that."""

    interval: float
    """Samples between two false alarms, on average, that were asked for."""
    broken_by: tuple[str, ...]
    """What the calibration shows that no threshold can answer for; empty: the promise is kept."""
    advice: tuple[str, ...]
    """What would help, one sentence for each of `broken_by`."""
    left_out: tuple[str, ...]
    """Charts that the calibration cannot support, and that are therefore not used."""
    price: float
    """How much larger thresholds are than a known distribution would need."""
    samples: int = 0
    """Of the calibration."""

    @property
    def kept(self) -> bool:
        """Whether 90 of 100 calibrations like this one keep the interval.

        That is, as long as nothing comes that was too seldom for the calibration to show, such as a
        level that jumps once a month: see `kept_for`.
        """
        return not self.broken_by

    @property
    def kept_for(self) -> int:
        """Samples after the calibration in which the promise covers what that did not show, too.

        In nine of ten cases nothing of a kind that the calibration has not shown comes in them, at
        whatever constant rate it comes: a fifth of the calibration's length, which no threshold
        changes. 0 where the promise is not kept.
        """
        return int(_ANSWERED * self.samples) if self.kept else 0

    def __str__(self) -> str:
        words = f"1 in {self.interval:,.0f}"
        if self.kept:
            words += (
                ", kept for 90 of 100 calibrations like this one; for what comes too seldom for "
                f"{self.samples:,} samples to show, kept for the next {self.kept_for:,}"
            )
        else:
            words += f"; not kept: {', '.join(self.broken_by)}. {' '.join(self.advice)}"
        if self.left_out:
            words += f" (not watched for: {', '.join(self.left_out)})"
        return words


def promise_of(monitor: _core.SignalMonitor, price: float) -> Promise:
    """Return what the calibration of a monitor of one signal lets it promise."""
    found: list[tuple[str, str]] = []
    n = monitor.samples
    sd = monitor.wander / _WANDER_SD
    if monitor.trend > _TREND:
        found.append(
            (
                "level follows a trend",
                "A trend has no normal level: watch the differences between samples.",
            )
        )
    elif monitor.wander > 0:
        found.append(
            (
                f"level wanders by {sd:.2g} sd from one eighth of the calibration to the next",
                "Calibrate over all levels that are normal, or keep a reference for each "
                "(MonitorBank.regime).",
            )
        )
    elif monitor.unsteadiness > _UNSTEADY:
        found.append(
            (
                "level may wander or follow a trend",
                "Calibrate for longer: it is too little to tell from chance.",
            )
        )
    if monitor.spread_wander > 0:
        found.append(
            (
                f"spread wanders by {100 * monitor.spread_wander:.2g} % from one part of the "
                "calibration to the next",
                "Calibrate over quiet and loud times alike, or keep a reference for each "
                "(MonitorBank.regime).",
            )
        )
    if monitor.unnamed_period:
        found.append(
            (
                f"period of about {monitor.unnamed_period} samples",
                f"Name it: period={_named(monitor)}.",
            )
        )
    length = (1 + monitor.phi) / (1 - monitor.phi)
    if n < _LEAST_MEMORIES * length and monitor.phi > 0:
        found.append(
            (
                f"{n} samples are too few for a memory of {length:.0f}",
                f"Calibrate on {_LEAST_MEMORIES * length:.0f} samples and more.",
            )
        )
    return Promise(
        interval=monitor.arl0,
        broken_by=tuple(what for what, _ in found),
        advice=tuple(how for _, how in found),
        left_out=chart_names(monitor.left_out),
        price=price,
        samples=int(n),
    )


def _named(monitor: _core.SignalMonitor) -> str:
    periods = [*monitor.periods, monitor.unnamed_period]
    return str(periods[0]) if len(periods) == 1 else str(tuple(sorted(periods)))
