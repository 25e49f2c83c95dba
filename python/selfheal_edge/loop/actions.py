"""What the loop can do. Each is carried out by `loop.executor`; most report back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.patch import Patch
from selfheal_edge.loop.incidents import Step
from selfheal_edge.loop.state import Why
from selfheal_edge.repair.protocol import RepairCase
from selfheal_edge.store.journal import EventKind

__all__ = [
    "Action",
    "Adopt",
    "AnswerAgain",
    "AskFeedback",
    "AskKnownAnswers",
    "Certify",
    "CheckWeights",
    "Confirm",
    "EndTrial",
    "FailBack",
    "FailOver",
    "Forget",
    "Keep",
    "LearnAgain",
    "LearnRegime",
    "LookAtInputs",
    "NameCause",
    "Proceed",
    "Propose",
    "RaiseError",
    "ReadSignals",
    "RebuildRuntime",
    "Record",
    "RenewGolden",
    "ResetMonitor",
    "SwitchTo",
    "TryStrategy",
]


@dataclass(frozen=True, slots=True)
class CheckWeights:
    """Compare every byte with its keyed hash → `WeightsChecked`.

    What the core would heal as the sweep comes to it is healed at once.
    """

    why: Why


@dataclass(frozen=True, slots=True)
class AskKnownAnswers:
    """Ask the running instance the known answers → `KnownAnswersAsked`."""

    why: Why


@dataclass(frozen=True, slots=True)
class AskFeedback:
    """Ask the diagnoser whether labels that came say something → `FeedbackNamed`, if they do."""


@dataclass(frozen=True, slots=True)
class NameCause:
    """Ask the diagnoser → `CauseNamed`; where there are alarms, with the monitor's scores.

    Where the alarms are those of an operating condition that is known, there is none to be named
    → `RegimeKnown`.
    """

    symptoms: Symptoms


@dataclass(frozen=True, slots=True)
class TryStrategy:
    """Apply a strategy and have it proven → `RepairAttempt`."""

    name: str
    case: RepairCase


@dataclass(frozen=True, slots=True)
class Propose:
    """Have strategies learn what may help, within the budget → `Proposed`."""

    names: tuple[str, ...]
    diagnosis: Diagnosis
    since: int
    """The sample at which the condition began, as far as it is known."""
    after: int | None = None
    """The generation that was learned in this drift before: its labels count as well."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Make a patch of golden a generation, which serves → `Adopted`."""

    names: tuple[str, ...]
    patch: Patch
    condition: str
    """What it is for, known by its inputs since `since`."""
    since: int
    lesson: Lesson | None = None
    """What it was learned from."""


@dataclass(frozen=True, slots=True)
class LearnAgain:
    """Learn a repair anew that was taken out of service, without what was revoked → `LearnedAgain`.

    It serves where its condition lasts, else what serves goes on.
    """

    condition: str
    diagnosis: Diagnosis
    generation: int
    """The one that it stands for."""
    lesson: Lesson | None
    """What is left of what that was learned from; None: that is not known."""
    serves: bool


@dataclass(frozen=True, slots=True)
class SwitchTo:
    """Have a condition's generation serve, if it is proven → `Switched`."""

    generation: int
    condition: str
    """Empty: golden's."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Have the store write what the loop knows, now: a crash buys nothing back."""


@dataclass(frozen=True, slots=True)
class Certify:
    """Count how many labels cannot change what a condition's generation answers → `Certified`."""

    condition: str
    generation: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Keep a generation that was on probation, together with what the loop knows of it."""

    generation: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop a generation that was learned, and what is known of its condition → `Forgotten`."""

    generation: int
    condition: str | None
    """None: the condition has another generation by now."""


@dataclass(frozen=True, slots=True)
class LookAtInputs:
    """Ask whether inputs have come to another condition that is known → `ConditionKnown`."""


@dataclass(frozen=True, slots=True)
class FailOver:
    """Have the spare serve, if it is proven sound → `FailedOver`."""


@dataclass(frozen=True, slots=True)
class FailBack:
    """Have the model itself serve again."""


@dataclass(frozen=True, slots=True)
class ReadSignals:
    """Ask the monitor whether the signals have settled → `SignalsRead`.

    Or whether they have come to an operating condition that is known → `RegimeKnown`.
    """


@dataclass(frozen=True, slots=True)
class LearnRegime:
    """Have the monitor learn an operating condition, if it can → `RegimeLearned`.

    Only of what is known to be harmless, or was accepted.
    """

    since: int
    """The sample at which it began."""
    name: str | None = None
    """None numbers it."""
    adds: bool = False
    """Whether what is known of this name stays, and is refined."""


@dataclass(frozen=True, slots=True)
class ResetMonitor:
    """Restart the charts → `MonitorReset`."""


@dataclass(frozen=True, slots=True)
class RebuildRuntime:
    """Build the runtime anew from verified bytes; a state is kept → `RuntimeRebuilt`."""


@dataclass(frozen=True, slots=True)
class RenewGolden:
    """Write golden's damaged copies anew from the file, if asked to → `GoldenRenewed`."""

    guards: tuple[CorruptBlock, ...]
    is_needed: bool


@dataclass(frozen=True, slots=True)
class AnswerAgain:
    """Compute the answer anew: it came from a model that was damaged and is healed."""


@dataclass(frozen=True, slots=True)
class RaiseError:
    """Raise the runtime's own error in the calling thread: no damage explains it."""


@dataclass(frozen=True, slots=True)
class EndTrial:
    """Have the new model file take the old one's place in the store, or forget it."""

    has_held: bool


@dataclass(frozen=True, slots=True)
class Record:
    """Write to the journal."""

    kind: EventKind
    cause: Cause | None = None
    evidence: tuple[str, ...] = ()
    strategy: str | None = None
    outcome: str | None = None
    details: Mapping[str, Any] | None = None
    """The diagnosis in numbers."""


@dataclass(frozen=True, slots=True)
class Proceed:
    """Go on with a step → `NextStep`."""

    step: Step


Action: TypeAlias = (
    CheckWeights
    | AskKnownAnswers
    | AskFeedback
    | NameCause
    | TryStrategy
    | Propose
    | Adopt
    | LearnAgain
    | SwitchTo
    | Keep
    | Certify
    | Confirm
    | Forget
    | LookAtInputs
    | FailOver
    | FailBack
    | ReadSignals
    | LearnRegime
    | ResetMonitor
    | RebuildRuntime
    | RenewGolden
    | AnswerAgain
    | RaiseError
    | EndTrial
    | Record
    | Proceed
)
