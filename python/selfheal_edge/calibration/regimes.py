"""Operating conditions that a calibration is told of, one per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.monitoring.regimes import (
    HOME,
    MOST_REGIMES,
    Regime,
    RegimeTable,
    match_limit,
)
from selfheal_edge.text import quoted

__all__ = ["NamedRegimes", "find_periods", "learn_regimes", "read_regimes"]

_LEAST: Final = 50
_MOST_SEARCHED: Final = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class NamedRegimes:
    """A regime for each calibration sample."""

    names: tuple[str, ...]
    """The one with most samples first: the references are learned from it."""
    members: npt.NDArray[np.int64]
    """Index in `names` of each sample: shape (n,)."""

    @property
    def home(self) -> npt.NDArray[np.bool_]:
        """Which samples the references are learned from: shape (n,)."""
        return np.asarray(self.members == 0)

    def check_size(self, samples: int) -> None:
        """Refuse another number of samples than there are inputs.

        Raises
        ------
        ValueError
            Naming both.
        """
        if len(self.members) != samples:
            raise ValueError(
                f"regimes: expected {samples} names, one per input, got {len(self.members)}"
            )


def read_regimes(regimes: Any) -> NamedRegimes | None:
    """Read the argument `regimes` of `calibrate`.

    Parameters
    ----------
    regimes
        Names or whole numbers, shape (n,); None where there are none.

    Raises
    ------
    TypeError, ValueError
        For anything else, more than eight of them, and one with fewer than 50 samples.
    """
    if regimes is None:
        return None
    if isinstance(regimes, (str, bytes)) or not isinstance(regimes, (Sequence, np.ndarray)):
        raise TypeError(
            "regimes: expected a name or a whole number for each input, "
            f"got {type(regimes).__name__}"
        )
    given = np.asarray(regimes)
    if given.dtype.kind == "O" and all(isinstance(x, str) for x in given.flat):
        given = given.astype(str)
    if given.ndim != 1 or given.dtype.kind not in "iuU" or not given.size:
        raise ValueError(
            "regimes: expected names or whole numbers in one dimension, one per input, "
            f"got shape {given.shape} and dtype {given.dtype.name}"
        )
    found, members, counts = np.unique(given, return_inverse=True, return_counts=True)
    names = [str(name) for name in found.tolist()]
    if len(names) > MOST_REGIMES:
        raise ValueError(f"regimes: expected at most {MOST_REGIMES}, got {len(names)}")
    if counts.min() < _LEAST:
        rare = int(counts.argmin())
        raise ValueError(
            f"regimes: expected at least {_LEAST} inputs of each, "
            f"got {int(counts[rare])} of {quoted(names[rare])}"
        )
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return NamedRegimes(tuple(names[i] for i in order), rank[members.reshape(-1)])


def learn_regimes(
    named: NamedRegimes | None,
    signals: Mapping[str, npt.NDArray[np.float64]],
    references: Mapping[str, _core.Reference],
) -> RegimeTable | None:
    """Return the table of the regimes that were named, or of one; None without signals.

    Parameters
    ----------
    named
        The regime of each sample; None: all are of one.
    signals
        Values by name, of all samples: shape (n,).
    references
        Of the same names, learned from the first regime.
    """
    if not references:
        return None
    if named is None:
        count = len(next(iter(signals.values())))
        named = NamedRegimes((HOME,), np.zeros(count, np.int64))
    limits = [reference.limit for reference in references.values()]
    table = RegimeTable.first(tuple(references), limits, named.names[0])
    scores = np.stack(
        [
            reference.score_many(np.ascontiguousarray(signals[name]))
            for name, reference in references.items()
        ],
        axis=1,
    )
    regimes = [
        Regime.of(
            name, scores[named.members == n], table.limits, share=float((named.members == n).mean())
        )
        for n, name in enumerate(named.names)
    ]
    limit = match_limit(scores[named.home], table.limits)
    return RegimeTable(table.signals, table.limits, tuple(regimes), limit)


def find_periods(
    signals: Mapping[str, npt.NDArray[np.float64]], references: Mapping[str, _core.Reference]
) -> dict[str, int]:
    """Return about how many samples repeat, by signal: of those in which that stands out.

    Parameters
    ----------
    signals
        Values by name, in order: shape (n,).
    references
        Of the same names. A signal without autocorrelation has no period.

    Notes
    -----
    Looks at the latest 20,000 samples, of which a period has to be half at most. Takes 10 to 100 ms
    for a signal with autocorrelation.
    """
    found = {}
    for name, reference in references.items():
        if reference.phi > 0.0:
            values = np.ascontiguousarray(signals[name][-_MOST_SEARCHED:])
            period = _core.SignalMonitor(values, arl0=1e4, periods=[]).unnamed_period
            if period:
                found[name] = int(period)
    return found
