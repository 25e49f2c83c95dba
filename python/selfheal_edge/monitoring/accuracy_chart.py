"""A chart on labels: alarms when a model is right less often than in calibration."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["AccuracyChart"]

_CONFIDENCE: Final = 1.2816  # 90 % of a normal distribution lie below
_FINENESS: Final = 4
_MOST_LIMIT: Final = 1600
_LEAST_ERRORS: Final = 0.005


class AccuracyChart:
    """A Bernoulli CUSUM on whether answers were right, with a promise in labels.

    Parameters
    ----------
    accuracy
        Share of calibration samples that were right, above 0.2.
    samples
        How many calibration samples there were: what they leave unknown of the accuracy is allowed
        for, so that 90 of 100 calibrations keep the promise.
    interval
        Labels between two false alarms, on average and at least: 100 to 1e7.
    drop
        The loss of accuracy that it finds soonest, above 0.

    Raises
    ------
    ValueError
        Naming the argument, what was expected and what came.

    Notes
    -----
    Reynolds and Stoumbos (1999): an error adds its log likelihood ratio of the two accuracies, a
    right answer takes its own off, and below zero the sum stays at zero; in whole units, a quarter
    of what a right answer takes off where that is coarse. The limit is the
    smallest for which the mean number of labels to a false alarm, exact by the chain's linear
    equations, is the interval. Labels have to be asked for before the answer is known: where errors
    alone are reported every one of them alarms. One thread at a time.

    Examples
    --------
    >>> chart = AccuracyChart(0.95, samples=600)
    >>> any(chart.update(True) for _ in range(1000))
    False
    >>> [n for n in range(100) if chart.update(n % 3 > 0)][0] < 40
    True
    """

    def __init__(
        self, accuracy: float, samples: int, *, interval: float = 10_000, drop: float = 0.1
    ) -> None:
        if not 0.2 < accuracy <= 1.0:
            raise ValueError(f"accuracy: expected above 0.2 and at most 1, got {accuracy}")
        if samples < 1:
            raise ValueError(f"samples: expected at least 1, got {samples}")
        if not 100 <= interval <= 1e7:
            raise ValueError(f"interval: expected 100 to 1e7 labels, got {interval}")
        if not 0.0 < drop < accuracy:
            raise ValueError(f"drop: expected above 0 and below the accuracy, got {drop}")
        errors = min(max(_upper_limit(1.0 - accuracy, samples), _LEAST_ERRORS), 0.9)
        worse = min(errors + drop, 0.95)
        fall = -math.log((1.0 - worse) / (1.0 - errors))
        rise = math.log(worse / errors)
        self.errors = errors
        """The share of errors that counts as normal."""
        unit = 1 if rise >= _FINENESS * fall else _FINENESS
        up = max(1, math.floor(unit * rise / fall))
        shared = math.gcd(up, unit)
        self.steps = up // shared, unit // shared
        """What an error adds, and what a right answer takes off."""
        self.limit = _solve(errors, self.steps, interval)
        """The sum that alarms."""
        self.interval = interval
        self.labels = 0
        """Labels taken since the start or the latest alarm."""
        self._sum = 0

    @property
    def statistic(self) -> float:
        """The sum over its limit; 1 is an alarm."""
        return self._sum / self.limit

    def update(self, is_right: bool) -> bool:
        """Take in whether an answer was right; return whether that raises an alarm.

        The chart starts anew after one.
        """
        if self._sum >= self.limit:
            self._sum = self.labels = 0
        self.labels += 1
        rise, fall = self.steps
        self._sum = max(0, self._sum + (-fall if is_right else rise))
        return self._sum >= self.limit


def _upper_limit(share: float, samples: int) -> float:
    """Return the share below which nine of ten true shares lie (Wilson 1927)."""
    z = _CONFIDENCE
    centre = share + z * z / (2 * samples)
    half = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    return (centre + half) / (1 + z * z / samples)


def run_length(errors: float, steps: tuple[int, int], limit: int) -> float:
    """Return the mean number of labels to an alarm, from zero.

    Parameters
    ----------
    errors
        Share of wrong answers, independent of each other: above 0.
    steps, limit
        As in `AccuracyChart`.
    """
    chain: npt.NDArray[np.float64] = np.eye(limit)
    states = np.arange(limit)
    np.add.at(chain, (states, np.maximum(0, states - steps[1])), -(1.0 - errors))
    risen = states + steps[0]
    stays = risen < limit
    np.add.at(chain, (states[stays], risen[stays]), -errors)
    return float(np.linalg.solve(chain, np.ones(limit))[0])


def _solve(errors: float, steps: tuple[int, int], interval: float) -> int:
    """Return the smallest limit with such a run length; doubled, then halved."""
    low, high = 1, 2 * sum(steps)
    while run_length(errors, steps, high) < interval:
        if 2 * high > _MOST_LIMIT:
            raise ValueError(
                f"interval: expected one that a chart can keep at {1 - errors:.0%} right answers, "
                f"got {interval:,.0f} labels; a larger drop needs less"
            )
        low, high = high, 2 * high
    while low + 1 < high:
        middle = (low + high) // 2
        if run_length(errors, steps, middle) < interval:
            low = middle
        else:
            high = middle
    return high
