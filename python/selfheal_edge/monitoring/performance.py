"""How well a model does, as far as that can be told: `Performance`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple

__all__ = ["CONFIDENCE", "Basis", "ExpectedError", "Performance", "not_estimable"]

CONFIDENCE: Final = 0.9
"""Share of windows whose true performance an interval is meant to cover."""

_NEAR: Final = 0.05
_SURE: Final = 0.15

Basis = Literal[
    "confidences", "feedback", "confidences and feedback", "reconstruction error", "calibration"
]


class ExpectedError(NamedTuple):
    """How far a regressor's answers lay from what they should have been, in calibration."""

    mean: float
    """Mean absolute error."""
    sd: float
    """Standard deviation of the absolute errors."""
    samples: int


@dataclass(frozen=True, slots=True)
class Performance:
    """An estimate of how well a model does on its latest inputs, with an interval."""

    measure: Literal["accuracy", "mean absolute error", "reconstruction error"]
    """What is estimated. Accuracy: the share of answers that are right, 0 to 1."""
    estimate: float | None
    """None where nothing can be said; `text` has the reason."""
    low: float | None = None
    """Ends of the interval, made to hold the true value in nine windows of ten."""
    high: float | None = None
    expected: float | None = None
    """The same in calibration."""
    basis: Basis | None = None
    """What the estimate rests on."""
    samples: int = 0
    """The latest inferences that it is about."""
    labels: int = 0
    """Labels from feedback among what it rests on."""
    text: str = ""
    """The same for a person, or why nothing can be said."""

    @property
    def is_estimable(self) -> bool:
        """Whether there is an estimate."""
        return self.estimate is not None

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval lies on the bad side of what calibration saw."""
        if self.low is None or self.high is None or self.expected is None:
            return False
        if self.measure == "accuracy":
            return self.high < self.expected
        return self.low > self.expected

    @property
    def is_as_expected(self) -> bool:
        """Whether an accuracy is that of calibration, and known well enough to say so.

        The estimate lies at most 5 points below it, and the interval's low end at most 15.
        """
        if self.measure != "accuracy" or self.estimate is None:
            return False
        if self.low is None or self.expected is None:
            return False
        return self.estimate >= self.expected - _NEAR and self.low >= self.expected - _SURE

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "is_worse": self.is_worse}

    def __str__(self) -> str:
        return self.text


def not_estimable(
    why: str,
    measure: Literal["accuracy", "mean absolute error", "reconstruction error"] = "accuracy",
    expected: float | None = None,
) -> Performance:
    """Return what is said where nothing can be estimated.

    Parameters
    ----------
    why
        The reason, as a clause.
    measure, expected
        As in `Performance`.
    """
    return Performance(measure, None, expected=expected, text=f"not estimable: {why}")
