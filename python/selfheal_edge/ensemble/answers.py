"""What a committee answers, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from selfheal_edge.health import HealthState, Prediction

__all__ = [
    "EnsembleHealth",
    "EnsemblePrediction",
    "EnsemblePredictions",
    "MemberHealth",
    "Vote",
]


@dataclass(frozen=True, slots=True)
class Vote:
    """What one member said, and what it counted for."""

    member: str
    label: int | None
    """The class that it named; None for a model without classes, and where it gave no answer."""
    confidence: float | None
    """Its own probability of it, as `Prediction.confidence`: before its temperature."""
    weight: float
    """Of its answer in the committee's: 0 for a sleeper."""
    trusted: bool
    """As `Prediction.trusted`; False where it gave no answer."""


@dataclass(frozen=True, slots=True, eq=False)
class EnsemblePrediction:
    """One answer of a committee, and what to make of it."""

    id: int
    """Unique, also across restarts: below 2**63. Not that of any member."""
    output: npt.NDArray[np.float32]
    """Calibrated probabilities, or a regressor's values, in the shape of a member's output."""
    label: int | None
    """Most likely class; None for models without classes, and where no member answered."""
    confidence: float | None
    """Its probability; of votes the share of weight that is for it."""
    trusted: bool
    """Whether the members that are trusted weigh half or more, and would name the same class
    without the others. False while the only one that serves is one that should sleep."""
    parted: bool
    """Whether two members that are awake name different classes."""
    names: tuple[str, ...]
    """The members."""
    weights: tuple[float, ...]
    """What each counted for; 0 for a sleeper."""
    answers: tuple[Prediction | None, ...]
    """What each answered; None where it did not."""

    @property
    def votes(self) -> tuple[Vote, ...]:
        """Each member's vote and weight."""
        parts = zip(self.names, self.answers, self.weights, strict=True)
        return tuple(
            Vote(name, None, None, weight, trusted=False)
            if answer is None
            else Vote(name, answer.label, answer.confidence, weight, answer.trusted)
            for name, answer, weight in parts
        )


@dataclass(frozen=True, slots=True, eq=False)
class EnsemblePredictions:
    """The answers to a batch of n samples."""

    answers: tuple[EnsemblePrediction, ...]
    """One a sample, in order."""
    output: npt.NDArray[np.float32]
    """What `SelfHealingEnsemble.predict` returns for the batch."""

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """`EnsemblePrediction.id` of each: shape (n,)."""
        return np.array([answer.id for answer in self.answers], np.int64)

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Most likely class of each, -1 for none: shape (n,); None for models without classes."""
        if all(answer.label is None for answer in self.answers):
            return None
        found = [-1 if answer.label is None else answer.label for answer in self.answers]
        return np.array(found, np.int64)

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """Its probability, NaN without a label: shape (n,)."""
        found = [
            np.nan if answer.confidence is None else answer.confidence for answer in self.answers
        ]
        return np.array(found, np.float64)

    @property
    def trusted(self) -> npt.NDArray[np.bool_]:
        """As `EnsemblePrediction.trusted`, of each: shape (n,)."""
        return np.array([answer.trusted for answer in self.answers], np.bool_)


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """How one member stands."""

    weight: float
    """What its answers count for now: 0 while it sleeps."""
    is_asleep: bool
    reason: str
    """Why it sleeps, is held at a weight, or returns; empty for one of which there is nothing to
    say."""
    is_returning: bool
    """Whether it is on its way back to the share that it had before it slept."""
    most: float
    """What it may weigh at most: below 1 while a repair, a file or the member itself is on
    trial."""
    temperature: float
    """What its logits are divided by."""
    is_calibrated: bool
    """Whether calibration had labels to fit that to; 1 otherwise."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class EnsembleHealth:
    """A committee's state at one moment."""

    state: HealthState
    """Untrusted while no member is fit to serve."""
    members: Mapping[str, MemberHealth]
    answers: int
    """Answers since the start."""
    labels: int
    """Labels that moved weights, ever."""
    inferences_per_answer: float
    """What an answer costs: inferences of members, since the start; known answers included."""
    partings: int
    """Answers since the start on which members that were awake named different classes."""
    usual_partings: float | None
    """The share of them in calibration, as those that are awake have it; None where that is not
    known."""
    is_watched: bool
    """Whether more partings than usual are an alarm."""
    switching_rate: float
    """How often the best member changes, a round, as it has been learned."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the state by name."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        members = {name: member.to_dict() for name, member in self.members.items()}
        return {**data, "state": self.state.value, "members": members}
