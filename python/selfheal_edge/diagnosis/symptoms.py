"""What a diagnosis is made from, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.monitoring.monitor import Alarm

__all__ = ["MIN_SAMPLES", "Diagnosis", "Evidence", "Symptoms", "shift_of"]

MIN_SAMPLES: Final = 8
"""Fewer scores say nothing of a shift."""

_RECENT: Final = 32


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that a diagnosis rests on."""

    name: str
    value: float
    text: str

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, "value": self.value, "text": self.text}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause, how sure we are, and why."""

    cause: Cause
    confidence: float
    """0 to 1."""
    evidence: tuple[Evidence, ...] = ()

    def __str__(self) -> str:
        facts = "; ".join(str(e) for e in self.evidence)
        return f"{self.cause.value} ({self.confidence:.0%}): {facts}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the cause by name."""
        return {
            "cause": self.cause.value,
            "confidence": self.confidence,
            "evidence": [fact.to_dict() for fact in self.evidence],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Symptoms:
    """What the loop knows when it asks."""

    alarms: tuple[Alarm, ...] = ()
    signals: tuple[str, ...] = ()
    """Names of the columns of `scores`."""
    scores: npt.NDArray[np.float64] = field(default_factory=partial(np.empty, (0, 0)))
    """Normal scores of the latest predictions, oldest first, shape (n, signals)."""
    count: int = 0
    """Predictions so far; the last row of `scores` is number `count`."""
    repeats: int = 0
    """Equal inputs in a row."""
    corrupt_blocks: int = 0
    corrupt_regions: tuple[str, ...] = ()
    known_answers_right: bool | None = None
    """None when they were not asked."""

    def since_onset(self, signal: int) -> npt.NDArray[np.float64]:
        """Return a signal's scores since the change began, as the alarms estimate it.

        Parameters
        ----------
        signal
            Its index in `signals`.

        Returns
        -------
        numpy.ndarray
            float64, oldest first: at least 8 if there are as many, or none.
        """
        if self.scores.shape[0] == 0:
            return np.empty(0)
        onset = min((a.onset for a in self.alarms), default=self.count - _RECENT)
        span = max(MIN_SAMPLES, min(self.count - onset, len(self.scores)))
        return self.scores[-span:, signal]


def shift_of(scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean shift of normal scores in standard errors, and the share on its side."""
    finite = scores[np.isfinite(scores)]
    if finite.size < 2:
        return 0.0, 0.0
    mean = float(finite.mean())
    same_side = float(np.mean(np.sign(finite) == np.sign(mean)))
    return mean * math.sqrt(finite.size), same_side
