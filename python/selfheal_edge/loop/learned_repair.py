"""A repair that was learned, as the loop knows it, and what none is learned for now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.repair.certificate import Certificate
from selfheal_edge.trial.betting import Evidence

__all__ = [
    "ALLOWANCE",
    "MOST_HARM",
    "YEAR",
    "LearnedRepair",
    "Putoff",
    "condition_name",
    "is_condition",
]

ALLOWANCE: Final = 0.05
"""Probability that a repair which is no better than golden is confirmed, for a year of running."""
YEAR: Final = 365.25 * 86400.0

MOST_HARM: Final = 0.01
"""Accuracy that all repairs together may cost in normal operation, by serving there by mistake."""

_NAMED: Final = "repaired "


def condition_name(number: int) -> str:
    """Return what the condition is called that the repair of this number was learned for."""
    return f"{_NAMED}{number}"


def is_condition(name: str) -> bool:
    """Whether it is such a name."""
    return name.startswith(_NAMED)


@dataclass(frozen=True, slots=True)
class LearnedRepair:
    """A repair that was learned for one condition: its generation serves while that lasts.

    On probation, until labels have decided: it serves, answers are flagged, and it is taken back
    by itself: to golden or, where it refines one that is confirmed, to that. Confirmed, answers are
    trusted.
    """

    condition: str
    diagnosis: Diagnosis
    generations: tuple[int, ...]
    """What was tried since golden, or since what is confirmed; the latest refinement last."""
    error: float
    """Allowed probability that it is confirmed although it is no better than golden."""
    evidence: Evidence = field(default_factory=Evidence)
    harm: float = 0.0
    """Accuracy that it costs in normal operation, on inputs that calibration has held back."""
    confirmed: int | None = None
    """The generation that labels have confirmed, if any."""
    labels: int = 0
    """Labels that have come since it was learned or refined."""
    refine_at: int | None = None
    """The prediction at which it is learned anew from more inputs; None: it was."""
    seen_last: int = 0
    """The prediction at which its condition was entered last, counted since the store was made."""
    restarts: int = 0
    """Ends of its process after which its probation went on."""
    certificate: Certificate | None = None
    """How many labels cannot change its answers; None where it was not learned from labels."""

    @property
    def is_confirmed(self) -> bool:
        """Whether labels have confirmed what serves."""
        return self.confirmed == self.generation

    @property
    def generation(self) -> int:
        """What serves."""
        return self.generations[-1]


@dataclass(frozen=True, slots=True)
class Putoff:
    """Repairs by learning for one cause that wait, since one was rejected, or none was found."""

    cause: Cause
    until: int
    """The prediction from which on another may be made."""
    pause: int
    """Predictions of the next wait."""
    labels: int = 0
    """Labels that have come since: enough of them end the wait."""
