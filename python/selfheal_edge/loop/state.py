"""All that one model's loop knows, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.loop.backoff import Backoff
from selfheal_edge.loop.schedule import PeriodicTrigger
from selfheal_edge.loop.trust import Trust
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.policy import Policy
from selfheal_edge.repair.protocol import RepairCase

__all__ = ["Counters", "LoopState", "Moment", "Repair", "Why"]

INTEGRITY = frozenset({Cause.WEIGHT_CORRUPTION, Cause.RUNTIME_FAULT})
"""Troubles that end by proof alone, whatever the signals say."""


class Why(Enum):
    """Why something is looked at, which says what follows from it."""

    SWEEP = "a sweep found damage"
    FAILED_RUN = "the runtime failed"
    ALARM = "a first alarm"
    DIAGNOSIS = "alarms wait for a diagnosis"
    RETRY = "damage resisted, and is tried again"
    SCHEDULE = "it is time to"
    REBUILD = "the runtime could not be rebuilt"
    RUNTIME_FAULT = "known answers are wrong"
    REPAIR = "a repair is about to begin"


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the stream of inferences is."""

    prediction: int = 0
    """Predictions so far."""
    second: float = 0.0
    """Of the loop's clock."""
    sample: int = 0
    """Predictions so far as the monitor counts them, which alarms refer to."""
    on_spare: bool = False
    """Whether the spare serves."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair under way: from the search for its cause to its proof."""

    why: Why
    corrupt: tuple[CorruptBlock, ...] = ()
    """What was found to begin with; none for a trouble outside of the weights."""
    diagnosis: Diagnosis | None = None
    """None until it is named."""
    case: RepairCase = field(default_factory=RepairCase)
    """What the strategies are given."""
    first_case: RepairCase = field(default_factory=RepairCase)
    """The same, without the damage that came while strategies were applied."""
    ladder: tuple[str, ...] = ()
    """The strategies that are still to be tried."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What has happened so far, in numbers."""

    alarms: int = 0
    """Alarms heard, those during a known trouble included."""
    corrupt_blocks: int = 0
    """Corrupt blocks that a repair was begun for."""
    guards_mended: int = 0
    """Damages to what guards the weights that were mended."""
    repairs: int = 0
    """Repairs that were proven."""
    failed: int = 0
    """Strategies that were applied and did not hold."""
    repeated: int = 0
    """Times that a strategy met new damage, and was applied again."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """What the loop knows. Immutable: `decide` returns the next one.

    Policy, and whether there is a spare, never change; all else does.
    """

    policy: Policy
    has_spare: bool
    backoff: Backoff
    known_answers: PeriodicTrigger
    rebuild: PeriodicTrigger
    pause: int
    """Predictions between two looks at a trouble that goes on; doubles with each."""
    now: Moment = field(default_factory=Moment)
    trouble: Diagnosis | None = None
    """The trouble that goes on, if any."""
    pending: tuple[Alarm, ...] = ()
    """The first alarm of every signal that no diagnosis has heard yet."""
    diagnose_at: int = 0
    """The prediction at which they are diagnosed."""
    recovered_at: int = 0
    """The sample of the latest recovery: older alarms tell of what was healed then."""
    verify_spare_at: int = 0
    """The prediction at which a spare that serves is verified again."""
    repair: Repair | None = None
    """The repair under way, if any. Answers given meanwhile are flagged."""
    trust: Trust = field(default_factory=Trust)
    lost: frozenset[tuple[str, str, int]] = frozenset()
    """Image, part and block of guards that could not be mended, and are written down once."""
    lost_of: tuple[int, ...] = ()
    """The generations that were held then."""
    count: Counters = field(default_factory=Counters)

    @classmethod
    def first(cls, policy: Policy, *, has_spare: bool = False) -> LoopState:
        """Return the state of a model that has served nothing yet."""
        return cls(
            policy,
            has_spare,
            Backoff.starting_with(policy.rediagnose_after),
            PeriodicTrigger(policy.known_answers_every, None),
            PeriodicTrigger(policy.rebuild_after_predictions, policy.rebuild_after_seconds),
            policy.rediagnose_after,
        )

    @property
    def is_trusted(self) -> bool:
        """Whether the model's own answers may be relied on."""
        return self.trust.holds and self.repair is None

    @property
    def is_calm(self) -> bool:
        """Whether there is neither a trouble nor an alarm that is not explained yet."""
        return self.trouble is None and not self.pending

    @property
    def is_damaged(self) -> bool:
        """Whether there is damage that no strategy could repair."""
        return self.trouble is not None and self.trouble.cause in INTEGRITY
