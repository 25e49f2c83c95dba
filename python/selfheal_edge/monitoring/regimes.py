"""Known regimes: operating conditions that were seen before, and are no news."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import IntegrityError
from selfheal_edge.text import quoted

__all__ = ["HOME", "MATCH_SAMPLES", "MOST_REGIMES", "Regime", "RegimeTable", "match_limit"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

HOME: Final = "calibration"
"""Name of the regime that the references were learned in, unless calibration was given another."""

MATCH_SAMPLES: Final = 64
"""Predictions after which a regime can be told surely, and from which one can be learned."""

MOST_REGIMES: Final = 8

_LIMIT: Final = 2.5
_STRICTEST: Final = 1.5
_TOLERANCE: Final = 0.15  # in standard deviations: how far a regime's mean may move between visits
_LEAST_VARIANCE: Final = 0.05
_YOUNG: Final = 512
_MOST_WINDOWS: Final = 64
_LEAST: Final = 8  # values of a signal that say something of its mean
_FARTHEST: Final = 4.0
_MOST_COUNTED: Final = 4096  # so that a regime follows what changes over years
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Regime:
    """One operating condition: mean and variance of every signal's normal scores, clipped."""

    name: str
    mean: Singles
    """NaN for a signal that had no value: shape (signals,)."""
    variance: Singles
    samples: int
    """Predictions that these rest on, at most 4096."""
    share: float = 0.0
    """Of the calibration samples; 0 for one that was learned later."""
    seen_last: int | None = None
    """The prediction, counted like `PerformanceMonitor.count`, at which it was entered last."""

    def __post_init__(self) -> None:
        """Refuse what no regime is."""
        if not 0 < len(self.name) <= _LONGEST_NAME:
            raise ValueError(
                f"name: expected 1 to {_LONGEST_NAME} characters, got {quoted(self.name)}"
            )
        if self.mean.ndim != 1 or self.mean.shape != self.variance.shape:
            raise ValueError(
                "regime: expected a mean and a variance for each signal, "
                f"got shapes {self.mean.shape} and {self.variance.shape}"
            )
        known = ~np.isnan(self.mean)
        if (
            not np.isfinite(self.mean[known]).all()
            or not (self.variance[known] >= 0).all()
            or not np.isfinite(self.variance[known]).all()
        ):
            raise ValueError("regime: expected finite means, and variances that are not negative")
        if not 1 <= self.samples <= _MOST_COUNTED:
            raise ValueError(f"samples: expected 1 to {_MOST_COUNTED}, got {self.samples}")

    @classmethod
    def of(cls, name: str, scores: Floats, limits: Floats, *, share: float = 0.0) -> Regime:
        """Return the regime that scores come from.

        Parameters
        ----------
        name
            What it is called, at most 64 characters.
        scores
            Normal scores, shape (n, signals); NaN for no value. n at least 1.
        limits
            Where each signal's scores are clipped: shape (signals,).
        share
            As in `Regime`.
        """
        clipped = np.clip(scores, -limits, limits)
        known = np.isfinite(clipped)
        count = known.sum(axis=0)
        filled = np.where(known, clipped, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = filled.sum(axis=0) / count
            squares = np.where(known, np.square(clipped - mean), 0.0)
            variance = squares.sum(axis=0) / count
        is_told = count >= min(_LEAST, len(scores))
        return cls(
            name,
            np.where(is_told, mean, np.nan).astype(np.float32),
            np.where(is_told, variance, np.nan).astype(np.float32),
            min(len(scores), _MOST_COUNTED),
            share,
        )

    def distance(self, other: Regime) -> float:
        """Return how unlike two regimes are: about 1 for two windows of the same one.

        The mean over signals of (difference of means)² / (v1 / n1 + v2 / n2 + 0.15²), infinite
        where no signal has values in both.
        """
        squares = np.square(self.mean.astype(np.float64) - other.mean)
        mine, others = self.variance, other.variance
        if other.samples < MATCH_SAMPLES:  # too few to know their own
            others = np.maximum(mine, others)
        noise = (
            np.maximum(mine, _LEAST_VARIANCE) / self.samples
            + np.maximum(others, _LEAST_VARIANCE) / other.samples
            + _TOLERANCE**2
        )
        ratios = squares / noise
        known = ratios[np.isfinite(ratios)]
        return float(known.mean()) if known.size else math.inf

    def merged(self, other: Regime) -> Regime:
        """Return this regime after more of it was seen; a value that one lacks is the other's."""
        a, b = float(self.samples), float(other.samples)
        mean = (a * self.mean + b * other.mean) / (a + b)
        variance = (
            a * (self.variance + np.square(self.mean - mean))
            + b * (other.variance + np.square(other.mean - mean))
        ) / (a + b)
        mine, others = np.isnan(self.mean), np.isnan(other.mean)
        mean = np.where(mine, other.mean, np.where(others, self.mean, mean))
        variance = np.where(mine, other.variance, np.where(others, self.variance, variance))
        samples = min(self.samples + other.samples, _MOST_COUNTED)
        return replace(
            self,
            mean=mean.astype(np.float32),
            variance=variance.astype(np.float32),
            samples=samples,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, NaN as None."""
        return {
            "name": self.name,
            "mean": [None if math.isnan(x) else round(x, 4) for x in self.mean.tolist()],
            "variance": [None if math.isnan(x) else round(x, 4) for x in self.variance.tolist()],
            "samples": self.samples,
            "share": self.share,
            "seen_last": self.seen_last,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Regime:
        """Read what `to_dict` returned.

        Raises
        ------
        KeyError, TypeError, ValueError, OverflowError
            When it is not that.
        """
        last = fields["seen_last"]
        return cls(
            str(fields["name"]),
            _numbers(fields["mean"]),
            _numbers(fields["variance"]),
            int(fields["samples"]),
            float(fields["share"]),
            None if last is None else int(last),
        )


def _numbers(values: Sequence[float | None]) -> Singles:
    return np.array([math.nan if x is None else float(x) for x in values], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class RegimeTable:
    """The regimes that are known, the first of which is the one of the references. Immutable.

    It never holds more than eight: of a ninth, the learned one that was seen least recently goes.
    Two arrays of float32 a regime: under 1 KB in all for a dozen signals. Never learn one while an
    attack is suspected: what an attacker shows would be normal from then on.
    """

    signals: tuple[str, ...]
    """Names, in the order of scores."""
    limits: Floats
    """Where scores are clipped, by signal: as charts do, and at most at 4."""
    regimes: tuple[Regime, ...]
    limit: float = _LIMIT
    """Largest distance of windows of one regime, of which calibration tells the device's own."""
    current: int = 0
    """Index of the regime that the charts are in."""

    def __post_init__(self) -> None:
        """Refuse tables that do not fit."""
        width = len(self.signals)
        if self.limits.shape != (width,) or any(len(r.mean) != width for r in self.regimes):
            raise ValueError(f"regimes: expected numbers for {width} signals each")
        if not 0 < len(self.regimes) <= MOST_REGIMES or not (0 <= self.current < len(self.regimes)):
            raise ValueError(
                f"regimes: expected 1 to {MOST_REGIMES}, of which one is current, "
                f"got {len(self.regimes)} and {self.current}"
            )
        names = [regime.name for regime in self.regimes]
        if len(set(names)) != len(names):
            raise ValueError(f"regimes: expected a name for each of its own, got {names}")
        if not (self.limits > 0).all() or not 0 < self.limit < math.inf:
            raise ValueError("regimes: expected limits above 0")

    @classmethod
    def first(
        cls, signals: Sequence[str], limits: Sequence[float], name: str = HOME
    ) -> RegimeTable:
        """Return the table that knows the references' own regime alone.

        Parameters
        ----------
        signals, limits
            Names, and `Reference.limit` of each.
        name
            What that regime is called.
        """
        width = len(signals)
        # By construction, normal scores of calibration have mean 0 and variance 1.
        zeros = np.zeros(width, np.float32)
        home = Regime(name, zeros, zeros + np.float32(1), _MOST_COUNTED, 1.0)
        return cls(tuple(signals), np.minimum(np.asarray(limits, float), _FARTHEST), (home,))

    @property
    def regime(self) -> Regime:
        """The one that the charts are in."""
        return self.regimes[self.current]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return int(sum(r.mean.nbytes + r.variance.nbytes for r in self.regimes))

    def match(self, scores: Floats) -> int | None:
        """Return which regime a window comes from, None for one that is news.

        Parameters
        ----------
        scores
            The latest normal scores, at least 1: shape (n, signals). Of few more regimes fit, since
            less is known.

        Returns
        -------
        int or None
            Index of the nearest one whose distance is at most `limit`.
        """
        distances = self.distances(scores)
        nearest = int(np.argmin(distances))
        return nearest if distances[nearest] <= self.limit else None

    def changed_to(self, scores: Floats, *, is_provisional: bool = False) -> int | None:
        """Return which regime a window after an alarm comes from, None for one that is news.

        As `match`, and None where the window still looks like the current regime as well: what
        alarmed then is of a few samples or small, and no regime explains it. But one that was
        learned from fewer than 512 samples may itself be what is known too badly.

        Parameters
        ----------
        scores
            As `match`.
        is_provisional
            Take the widest limit, for a window that is judged again when more has come.
        """
        distances = self.distances(scores)
        nearest = int(np.argmin(distances))
        if distances[nearest] > (_LIMIT if is_provisional else self.limit):
            return None
        if nearest == self.current:
            is_young = self.current > 0 and self.regime.samples < _YOUNG
            return nearest if is_young else None
        return nearest if distances[self.current] > self.limit else None

    def distances(self, scores: Floats) -> list[float]:
        """Return how unlike each regime a window is; infinite for an empty one."""
        if not len(scores) or not self.signals:
            return [math.inf] * len(self.regimes)
        window = Regime.of("window", scores, self.limits)
        return [regime.distance(window) for regime in self.regimes]

    def entered(self, index: int, prediction: int) -> RegimeTable:
        """Return the table with another regime current."""
        regimes = list(self.regimes)
        regimes[index] = replace(regimes[index], seen_last=prediction)
        return replace(self, regimes=tuple(regimes), current=index)

    def refined(self, scores: Floats) -> RegimeTable:
        """Return the table after more was seen of the current regime.

        That of the references stays as it is: it is frozen.
        """
        if self.current == 0 or not len(scores):
            return self
        more = Regime.of(self.regime.name, scores, self.limits)
        regimes = list(self.regimes)
        regimes[self.current] = self.regime.merged(more)
        return replace(self, regimes=tuple(regimes))

    def learned(self, scores: Floats, prediction: int, name: str | None = None) -> RegimeTable:
        """Return the table with a regime more, which is current.

        Parameters
        ----------
        scores
            Normal scores of the new regime, at least 64: shape (n, signals).
        prediction
            When it was entered.
        name
            What to call it; None numbers it. A known name is learned anew.

        Raises
        ------
        ValueError
            For fewer scores, or the name of the references' regime.
        """
        if len(scores) < MATCH_SAMPLES:
            raise ValueError(
                f"scores: expected at least {MATCH_SAMPLES} predictions of a regime, "
                f"got {len(scores)}"
            )
        names = [regime.name for regime in self.regimes]
        if name is None:
            name = next(n for k in range(1, len(names) + 2) if (n := f"regime {k}") not in names)
        if name == names[0]:
            raise ValueError(
                f"name: expected another than {quoted(name)}, whose references are frozen"
            )
        new = replace(Regime.of(name, scores, self.limits), seen_last=prediction)
        kept = [regime for regime in self.regimes if regime.name != name]
        if len(kept) == MOST_REGIMES:
            # What calibration was given stays as long as there is anything else.
            oldest = min(
                kept[1:], key=lambda r: (r.share > 0, -1 if r.seen_last is None else r.seen_last)
            )
            kept = [regime for regime in kept if regime is not oldest]
        return replace(self, regimes=(*kept, new), current=len(kept))

    def without(self, name: str) -> RegimeTable:
        """Return the table without a regime that was learned; where it is current, in the first."""
        names = [regime.name for regime in self.regimes]
        if name not in names[1:]:
            return self
        gone = names.index(name)
        kept = tuple(regime for regime in self.regimes if regime.name != name)
        current = 0 if self.current == gone else self.current - (self.current > gone)
        return replace(self, regimes=kept, current=current)

    def level(self) -> tuple[Floats, Floats]:
        """Return level and spread of the current regime, for `MonitorBank.set_level`.

        A spread is at least 1: what is known of a narrower one makes charts no bolder.
        """
        if self.current == 0:
            return np.zeros(len(self.signals)), np.ones(len(self.signals))
        mean, variance = (
            values.astype(np.float64) for values in (self.regime.mean, self.regime.variance)
        )
        spread = np.sqrt(np.maximum(1.0, np.nan_to_num(variance, nan=1.0)))
        return np.nan_to_num(mean, nan=0.0), spread

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` takes."""
        fields = {
            "version": 1,
            "signals": list(self.signals),
            "limits": self.limits.tolist(),
            "limit": self.limit,
            "current": self.current,
            "regimes": [regime.to_dict() for regime in self.regimes],
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> RegimeTable:
        """Read what `to_bytes` returned.

        Raises
        ------
        IntegrityError
            When it is not that, or of a newer release.
        """
        try:
            fields = json.loads(data)
            if int(fields["version"]) != 1:
                raise ValueError(f"version {fields['version']}")
            return cls(
                tuple(str(name) for name in fields["signals"]),
                np.array(fields["limits"], np.float64),
                tuple(Regime.from_dict(row) for row in fields["regimes"]),
                float(fields["limit"]),
                int(fields["current"]),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"regimes: expected a readable row: {error!r}") from None


def match_limit(scores: Floats, limits: Floats) -> float:
    """Return the limit of distances that a device's own calibration supports: 1.5 to 2.5.

    Half more than the 99 % quantile of the distances of windows of 64 samples in a row to all other
    samples: a device whose normal windows are alike tells regimes apart that are alike.

    Parameters
    ----------
    scores
        Of one regime's calibration, in order: shape (n, signals). With fewer than 256 samples the
        limit is 2.5.
    limits
        As in `RegimeTable`.

    Notes
    -----
    At most 64 windows, evenly spaced.
    """
    if len(scores) < 4 * MATCH_SAMPLES or not scores.shape[1]:
        return _LIMIT
    distances = []
    last = len(scores) - MATCH_SAMPLES
    count = min(_MOST_WINDOWS, 2 * last // MATCH_SAMPLES + 1)
    for start in np.linspace(0, last, count).astype(int).tolist():
        inside = np.zeros(len(scores), bool)
        inside[start : start + MATCH_SAMPLES] = True
        window = Regime.of("window", scores[inside], limits)
        rest = Regime.of("rest", scores[~inside], limits)
        distances.append(rest.distance(window))
    return float(min(_LIMIT, max(_STRICTEST, 1.5 * float(np.quantile(distances, 0.99)))))
