"""Incidents beside `Incident`: the user's calls, and results of the loop's own actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.inference.incident import Incident
from selfheal_edge.integrity.code_watch import CodeDamage
from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.learning.feedback import FeedbackRecord
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.patch import Patch
from selfheal_edge.loop.remembered import Remembered
from selfheal_edge.loop.state import Why
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.policy import Heal
from selfheal_edge.repair.certificate import Certificate
from selfheal_edge.trial.proof import RepairAttempt

__all__ = [
    "Accepted",
    "Adopted",
    "AnyIncident",
    "CauseNamed",
    "Certified",
    "CodeDamaged",
    "ConditionKnown",
    "DamageFound",
    "Ended",
    "FailedOver",
    "FeedbackCame",
    "FeedbackDue",
    "FeedbackNamed",
    "Forgotten",
    "FoundHarmless",
    "GoldenRenewed",
    "HealSet",
    "Interrupted",
    "KnownAnswersAsked",
    "LearnedAgain",
    "Looked",
    "MarkedUntrusted",
    "MonitorReset",
    "NextStep",
    "Posted",
    "Proposed",
    "RegimeKnown",
    "RegimeLearned",
    "RegimeUnclear",
    "RepairAttempt",
    "Restarted",
    "Revoked",
    "RolledBack",
    "RuntimeRebuilt",
    "SignalsRead",
    "Started",
    "Step",
    "Switched",
    "TrialBegan",
    "WeightsChecked",
    "WeightsRejected",
]


@dataclass(frozen=True, slots=True)
class Started:
    """The model is open."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The model is open, and a store has told what the process before knew."""

    before: Remembered
    conditions: frozenset[str]
    """Those that inputs can be told to come from."""
    generations: frozenset[int] = frozenset()
    """Those that are held and were learned."""
    problem: str = ""
    """Why there are fewer conditions than repairs, where that is known."""


@dataclass(frozen=True, slots=True)
class TrialBegan:
    """The model is open with a new file over an old one's store, which is to prove itself."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Posted:
    """A worker will look at this; the inference that reported it goes on."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Looked:
    """The worker has looked at the first so many suspicions."""

    suspicions: int


@dataclass(frozen=True, slots=True)
class DamageFound:
    """A sweep beside the inferences (`scrub`, `idle`) found damage."""

    blocks: tuple[CorruptBlock, ...]


@dataclass(frozen=True, slots=True)
class CodeDamaged:
    """Pages of the code that runs the model are not what they were."""

    pages: tuple[CodeDamage, ...]


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The user has rolled back, and the result was proven."""


@dataclass(frozen=True, slots=True)
class MarkedUntrusted:
    """A strategy, or a rollback that failed, says that answers cannot be relied on."""


@dataclass(frozen=True, slots=True)
class WeightsRejected:
    """Weights that were changed on purpose, or a new model file, did not hold; others serve."""

    what: Literal["generation", "update"]
    digest: str
    """SHA-256 of the file with these weights."""
    reason: str


@dataclass(frozen=True, slots=True)
class FeedbackCame:
    """People or other systems have spoken of answers; what they said was taken in."""

    records: tuple[FeedbackRecord, ...]


@dataclass(frozen=True, slots=True)
class FeedbackDue:
    """So many labels have come that they are worth a look."""


@dataclass(frozen=True, slots=True)
class FeedbackNamed:
    """Labels say what is wrong: what inputs mean has changed, or a source lies."""

    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True)
class WeightsChecked:
    """Every byte was compared with its keyed hash."""

    why: Why
    corrupt: tuple[CorruptBlock, ...]
    """What did not have it, healed by now where the core may do that."""


@dataclass(frozen=True, slots=True)
class KnownAnswersAsked:
    """The known answers were asked of the running instance."""

    why: Why
    are_right: bool


@dataclass(frozen=True, slots=True)
class CauseNamed:
    """The diagnoser has answered."""

    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True)
class FailedOver:
    """The spare was verified and, if sound, serves."""

    is_sound: bool


@dataclass(frozen=True, slots=True)
class SignalsRead:
    """The monitor says whether the signals look like their references again."""

    settled: bool


@dataclass(frozen=True, slots=True)
class MonitorReset:
    """The charts begin anew."""

    sample: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The user says that what there is now is normal; the charts have taken its level over."""


@dataclass(frozen=True, slots=True)
class RegimeKnown:
    """The monitor has recognised an operating condition; the charts follow it."""

    name: str


@dataclass(frozen=True, slots=True)
class FoundHarmless:
    """A drift is steady, and the model does as well as it did in calibration."""

    since: int
    """The sample from which on that is known."""
    text: str
    """What says so."""


@dataclass(frozen=True, slots=True)
class RegimeUnclear:
    """Alarms may be those of an operating condition that is known: more samples have to tell."""

    alarms: tuple[Alarm, ...]
    wait: int
    """Predictions until there are enough."""


@dataclass(frozen=True, slots=True)
class RegimeLearned:
    """The monitor has learned an operating condition; the charts follow it."""

    name: str | None
    """None where too little has come."""
    is_other: bool = False
    """Whether what came is not what was accepted: nothing was learned then."""


@dataclass(frozen=True, slots=True)
class HealSet:
    """The user has changed what the loop may change."""

    heal: Heal


@dataclass(frozen=True, slots=True)
class ConditionKnown:
    """Inputs have come to a condition that a repair was made for, or back to normal."""

    name: str
    """Empty: golden's."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """Strategies have learned what may help, or have not."""

    names: tuple[str, ...]
    """Of the strategies that it is made of."""
    patch: Patch | None
    """None: nothing is better than leaving things as they are."""
    text: str
    evidence: tuple[str, ...] = ()
    details: Mapping[str, Any] | None = None
    is_refused: bool = False
    """Whether nothing was tried, since what was learned could not serve."""
    lesson: Lesson | None = None
    """What the patch was learned from."""


@dataclass(frozen=True, slots=True)
class Certified:
    """It was counted how many labels cannot change what a repair answers."""

    condition: str
    generation: int
    certificate: Certificate | None
    """None where no label has taught it, or it cannot be learned once more."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was learned is a generation, and serves; or it could not."""

    names: tuple[str, ...]
    generation: int | None
    text: str
    harm: float = 0.0
    """Accuracy that it costs in normal operation."""


@dataclass(frozen=True, slots=True)
class Switched:
    """A condition's generation serves, proven; or it could not, and what served before does."""

    condition: str
    """Empty: golden's."""
    is_sound: bool
    text: str
    is_learned: bool = True
    """Whether the charts know its level."""
    is_held: bool = True
    """Whether there is such a generation at all."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A generation that was learned is dropped."""

    generation: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """The user has revoked a source, or predictions: what they taught is to be unlearned."""

    what: str
    """The same for a person."""
    source: str | None
    is_authenticated: bool
    """Whether the source has a key."""
    tainted: Mapping[int, tuple[str, Lesson | None]]
    """Generations that are held and were learned from it, or may have been: why, and what is left
    of the lesson, with its inputs where they are held."""
    judged: tuple[FeedbackRecord, ...] = ()
    """Labels that go, as far as they are kept: trials are without them from now on."""
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LearnedAgain:
    """A repair was learned anew without what was revoked, as a generation of its own; or not."""

    condition: str
    diagnosis: Diagnosis
    generation: int | None
    text: str
    gone: int
    """The generation that it stands for, which is not held any more."""
    serves: bool = False
    harm: float = 0.0


@dataclass(frozen=True, slots=True)
class RuntimeRebuilt:
    """The runtime was built anew, on schedule."""

    is_sound: bool
    """False: the source bytes are damaged."""
    refused: str = ""
    """Why it could not be built now, where that says nothing of its bytes."""


@dataclass(frozen=True, slots=True)
class GoldenRenewed:
    """Golden's damaged copies were written anew, where they could."""

    guards: tuple[CorruptBlock, ...]
    """The damage to what guards the weights that this was done for."""
    renewed: bool
    generations: tuple[int, ...]
    """Those that are held."""


class Step(Enum):
    """What is decided after what came before is done."""

    TROUBLE = "look at the trouble that goes on"
    HEALED_FIRST = "corruption was repaired: name what else there is"
    SCHEDULE = "do what is due"


@dataclass(frozen=True, slots=True)
class NextStep:
    """The step of a procedure that comes now."""

    step: Step


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An action raised: what was decided before is dropped."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Every action that followed from an incident was carried out."""


AnyIncident: TypeAlias = (
    Incident
    | Started
    | Restarted
    | TrialBegan
    | Posted
    | Looked
    | DamageFound
    | RolledBack
    | CodeDamaged
    | MarkedUntrusted
    | FeedbackCame
    | FeedbackDue
    | FeedbackNamed
    | WeightsChecked
    | WeightsRejected
    | KnownAnswersAsked
    | CauseNamed
    | RepairAttempt
    | FailedOver
    | SignalsRead
    | MonitorReset
    | Accepted
    | RegimeKnown
    | RegimeLearned
    | RegimeUnclear
    | FoundHarmless
    | HealSet
    | ConditionKnown
    | Proposed
    | Adopted
    | Switched
    | Forgotten
    | Revoked
    | LearnedAgain
    | Certified
    | RuntimeRebuilt
    | GoldenRenewed
    | NextStep
    | Interrupted
    | Ended
)
