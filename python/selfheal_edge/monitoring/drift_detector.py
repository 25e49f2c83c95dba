"""One detector for one signal: what to take when in doubt."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.monitoring.interval import predictions
from selfheal_edge.monitoring.promise import Promise, promise_of

__all__ = ["DriftDetector"]

_MIN_SAMPLES = 50


def _real_numbers(normal: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return samples as float64: complex numbers, dates, texts and records are none."""
    try:
        given = np.asarray(normal)
        is_real = given.dtype.kind in "biuf" or (
            given.dtype.kind == "O" and all(isinstance(x, Real) for x in given.flat)
        )
        if is_real:
            return np.ascontiguousarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"normal: expected numbers, got {type(normal).__name__}") from error
    raise TypeError(f"normal: expected numbers, got {type(normal).__name__} of {given.dtype}")


def _periods(period: int | Sequence[int] | None) -> list[int]:
    given = () if period is None else period
    found = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
    for value in found:
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"period: expected whole numbers of samples, got {value!r}")
        if value < 2:
            raise ValueError(f"period: expected at least 2 samples, got {value}")
    return [int(value) for value in found]


class DriftDetector(_core.SignalMonitor):
    """Say when a signal is no longer what it was, wrong no more often than asked.

    Parameters
    ----------
    normal
        Samples of normal operation, 1-D, at least 50 finite ones, in the order in which they came:
        their distribution and their memory (autocorrelation) are learned and never move.
    false_alarm_interval
        How far apart false alarms shall be on average: samples, 10 to 1e12, or a duration such as
        ``"30 d"`` (s, min, h, d, w) together with `rate_hz`.
    rate_hz
        Samples a second.
    period
        Samples in a day, a week, or whatever repeats; up to four. What follows from the place in
        each, level and spread, is learned from `normal`, which must hold two cycles and better
        eight, and taken out. The stream is taken to go on right after `normal`: a sample that is
        missing is a NaN.
    latch
        A shift that lasts raises one alarm (one up, one down), and no other until it has ended or
        `accept` takes it for normal. False: an alarm again and again, each as long after the one
        before as the shift takes to be found.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came; with the number of samples that would
        do, where `normal` is too short for the interval.

    Warns
    -----
    UserWarning
        Where `normal` shows a period that was not named.

    Notes
    -----
    The charts, and how far the promise goes, are `MonitorBank`'s; `promise` says what of it this
    calibration lets be kept. Fixed memory, about 15 KiB and 8 bytes for each place of a period; one
    update costs well below a microsecond. One thread at a time.

    Examples
    --------
    >>> import numpy as np
    >>> from selfheal_edge import DriftDetector
    >>> normal = np.random.default_rng(0).normal(20.0, 0.5, 10_000)
    >>> detector = DriftDetector(normal, false_alarm_interval="30 d", rate_hz=10)
    >>> [i for i in range(100) if detector.update(22.0)][0] < 10
    True
    """

    def __init__(
        self,
        normal: npt.ArrayLike,
        *,
        false_alarm_interval: float | str,
        rate_hz: float | None = None,
        period: int | Sequence[int] | None = None,
        latch: bool = False,
    ) -> None:
        arl0 = predictions(false_alarm_interval, rate_hz)
        if isinstance(normal, np.ma.MaskedArray):
            normal = np.where(normal.mask, np.nan, normal.data)
        samples = _real_numbers(normal)
        usable = np.count_nonzero(np.isfinite(samples))
        if np.ndim(normal) != 1 or usable < _MIN_SAMPLES:
            raise ValueError(
                f"normal: expected at least {_MIN_SAMPLES} finite numbers in one dimension, "
                f"got {usable} in shape {np.shape(normal)}"
            )
        super().__init__(samples, arl0=arl0, periods=_periods(period), latch=latch)
        left_out = set(self.left_out)
        if left_out >= {0, 1, 2, 3} or left_out >= {4, 5, 6, 7}:
            needed = self.samples_needed
            raise ValueError(
                f"normal: expected at least {needed} samples like these for one false alarm in "
                f"{arl0:,.0f}, got {usable}"
                if needed
                else "normal: expected samples that do not hang together for as long as they "
                f"last, got {usable} with an autocorrelation of {self.phi:.3g}"
            )
        if self.unnamed_period:
            warnings.warn(
                f"normal: shows a period of about {self.unnamed_period} samples that was not "
                "named: see period= and DriftDetector.promise",
                stacklevel=2,
            )

    @property
    def promise(self) -> Promise:
        """What this calibration lets be kept, and what would help where it is less than asked."""
        return promise_of(self, self.price)

    @property
    def price(self) -> float:
        """How much larger the thresholds are than a known distribution would need, 1 or more.

        Delay grows in about this proportion: the price of having calibrated on few samples. The
        mean over the charts for middling shifts; infinite if there were too few for them.
        """
        held = self.thresholds
        pairs = [(held[side][1], held[f"certain_{side}"][1]) for side in ("upper", "lower")]
        return math.fsum(h / certain if certain else 1.0 for h, certain in pairs) / len(pairs)
