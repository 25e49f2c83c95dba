"""All that one model's loop knows, in one value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.loop.calm import Calm
from selfheal_edge.loop.healed_bytes import HealedByte
from selfheal_edge.loop.learned_repair import ALLOWANCE, YEAR, LearnedRepair, Putoff
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.policy import Heal, Policy
from selfheal_edge.repair.protocol import RepairCase
from selfheal_edge.store.failures import Failure

__all__ = [
    "Backoff",
    "Counters",
    "Learning",
    "LoopState",
    "ModelTrial",
    "Moment",
    "PeriodicTrigger",
    "Repair",
    "Trust",
    "Why",
]

INTEGRITY = frozenset({Cause.WEIGHT_CORRUPTION, Cause.RUNTIME_FAULT})
"""Troubles that end by proof alone, whatever the signals say."""

_MOST: Final = 64


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
    TRIAL = "a new model file has held for long enough"
    LABELS = "labels have come, or more inputs"


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
    is_familiar: bool = False
    """Whether what has alarmed looks like an operating condition that is known."""
    generation: int = 0
    """The one that the live bytes are meant to be."""
    has_passed: bool = False
    """Whether the latest inputs have come to another condition that is known."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries, in predictions: each twice as long as the one before, up to 64 times.

    What a repair lacked (memory, a descriptor) may come back at any time, so they do not grow
    without end.
    """

    first: int
    """The first pause."""
    pause: int
    """The next one."""
    at: int = 0
    """The prediction of the next try."""
    resisting: frozenset[tuple[str, int]] = frozenset()
    """Image and block of what the latest try could not restore."""

    @classmethod
    def starting_with(cls, pause: int) -> Backoff:
        """Return one that has put off nothing."""
        return cls(pause, pause)

    def put_off(self, prediction: int, corrupt: Iterable[CorruptBlock] | None = None) -> Backoff:
        """Return what follows a try that failed; `corrupt` is what resisted it, if that is new."""
        resisting = self.resisting
        if corrupt is not None:
            resisting = frozenset((b.image, b.block) for b in corrupt)
        longer = min(2 * self.pause, _MOST * self.first)
        return Backoff(self.first, longer, prediction + self.pause, resisting)


@dataclass(frozen=True, slots=True)
class PeriodicTrigger:
    """Tells when something is due: every so many predictions or seconds, whichever comes first."""

    predictions: int | None
    """Due after this many; None: predictions do not matter."""
    seconds: float | None
    """Due after this long; None: time does not matter."""
    next_prediction: int | None = None
    """Due from this prediction on, if predictions matter; None before the first `restarted`."""
    next_second: float = math.inf
    """Due from this time on; never before the first `restarted`."""

    def restarted(self, prediction: int, now: float) -> PeriodicTrigger:
        """Return a trigger that counts from here."""
        after = None if self.predictions is None else prediction + self.predictions
        until = math.inf if self.seconds is None else now + self.seconds
        return replace(self, next_prediction=after, next_second=until)

    def is_due(self, prediction: int, now: float) -> bool:
        """Whether it is time."""
        by_number = self.next_prediction is not None and prediction >= self.next_prediction
        return by_number or now >= self.next_second


@dataclass(frozen=True, slots=True)
class Trust:
    """Why answers are flagged, if they are: a verdict, or a suspicion not looked at yet."""

    is_marked: bool = False
    """A trouble goes on, or a repair could not be proven."""
    suspicions: int = 0
    """Incidents, ever, that a worker has to look at before answers are trusted again."""
    cleared: int = 0
    """How many of these have been looked at; what was wrong then is marked by now."""
    is_code_damaged: bool = False
    """Code that runs the model is damaged: nothing but a new process helps."""


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair under way: from the search for its cause to its proof."""

    why: Why
    corrupt: tuple[CorruptBlock, ...] = ()
    """What was found to begin with; none for a trouble outside of the weights."""
    alarms: tuple[Alarm, ...] = ()
    """What is to be explained, where alarms are the reason."""
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
class Learning:
    """An operating condition that the user has accepted, and that is learned from what follows."""

    since: int
    """The sample at which it was accepted."""
    until: int
    """The prediction at which it is learned."""
    name: str | None = None
    """What to call it; None numbers it."""
    is_doubted: bool = False
    """Whether it has alarmed since: it is judged sooner then."""
    adds: bool = False
    """Whether what is known of it stays, and this is added."""


@dataclass(frozen=True, slots=True)
class ModelTrial:
    """A new model file that serves, and takes the old one's place if it holds."""

    sha256: str
    until: PeriodicTrigger
    """Due when it has held for long enough."""


@dataclass(frozen=True)  # without slots: the executor copies all of it in one go
class LoopState:
    """What the loop knows. Immutable: `decide` returns the next one.

    Policy, strategies, and whether there is a spare, never change; all else does.
    """

    policy: Policy
    has_spare: bool
    learners: frozenset[str]
    """Names of the strategies that learn."""
    backoff: Backoff
    known_answers: PeriodicTrigger
    rebuild: PeriodicTrigger
    pause: int
    """Predictions between two looks at a trouble that goes on; doubles with each."""
    now: Moment = field(default_factory=Moment)
    trouble: Diagnosis | None = None
    """The trouble that goes on, if any."""
    calm: Calm = field(default_factory=Calm)
    """What it takes to end it."""
    pending: tuple[Alarm, ...] = ()
    """The first alarm of every signal that no diagnosis has heard yet."""
    diagnose_at: int = 0
    """The prediction at which they are diagnosed."""
    learning: Learning | None = None
    """What the user has accepted as normal, until it is learned."""
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
    before: int = 0
    """Predictions of earlier starts, where a store remembers them."""
    failures: tuple[Failure, ...] = ()
    """What was tried on this device and did not hold."""
    trial: ModelTrial | None = None
    """The new model file on trial, if there is one."""
    returns: tuple[int, ...] = ()
    """Of the latest troubles, predictions from the end of one to the onset of the next."""
    ended_at: int | None = None
    """The sample at which a trouble has ended, by a repair or by itself, since which none was
    named; None where none has."""
    healed: tuple[HealedByte, ...] = ()
    """The latest bytes that were wrong: what breaks there again is a failing cell, and a sweep
    finds the flips of one attack one after the other."""
    heal: Heal = "all"
    """What the loop may change, from now on."""
    learned: tuple[LearnedRepair, ...] = ()
    """Repairs, each for a condition of its own."""
    leaving: tuple[tuple[int, str | None], ...] = ()
    """Generations that are to be dropped, with the condition that is to be forgotten with them."""
    condition: str = ""
    """The one of them that lasts now; empty: the normal one, in which `home` serves."""
    home: int = 0
    """The generation that serves in normal operation: golden, or what the user has put there."""
    told: str = ""
    """Why what was learned could not serve, as the journal was told last."""
    put_off: tuple[Putoff, ...] = ()
    """Causes for which no repair is learned now."""
    allowance: float = ALLOWANCE
    """What was left at `allowed_at` of the probability that something worse is confirmed."""
    allowed_at: float = 0.0
    """Of the loop's clock."""
    hold: int = 0
    """Predictions for which no condition was to claim inputs, after the latest that did not fit."""
    left_at: int = 0
    """The prediction at which that was."""
    since: int = 0
    """The sample at which the condition that lasts began, as far as it is known."""
    named: int = 0
    """Conditions that were named so far."""
    switched_at: tuple[int, ...] = ()
    """The predictions of the latest passages from one condition to another."""
    looked_at: int = 0
    """The prediction at which inputs were looked at last, where any condition is known."""

    @classmethod
    def first(
        cls,
        policy: Policy,
        *,
        has_spare: bool = False,
        learners: Iterable[str] = (),
    ) -> LoopState:
        """Return the state of a model that has served nothing yet."""
        return cls(
            policy,
            has_spare,
            frozenset(learners),
            Backoff.starting_with(policy.rediagnose_after),
            PeriodicTrigger(policy.known_answers_every, None),
            PeriodicTrigger(policy.rebuild_after_predictions, policy.rebuild_after_seconds),
            policy.rediagnose_after,
            heal=policy.heal,
        )

    @property
    def in_service(self) -> LearnedRepair | None:
        """The learned repair that serves now."""
        return next((r for r in self.learned if r.condition == self.condition), None)

    @property
    def probation(self) -> LearnedRepair | None:
        """The learned repair that serves now, if it is not confirmed."""
        serving = self.in_service
        return None if serving is None or serving.is_confirmed else serving

    @property
    def allowed(self) -> float:
        """What is left of the allowance now: a year of running brings it back."""
        since = min(max(0.0, self.now.second - self.allowed_at), YEAR)
        return min(ALLOWANCE, self.allowance + ALLOWANCE * since / YEAR)

    @property
    def named_trouble(self) -> Diagnosis | None:
        """The trouble that goes on, or that a repair on probation was learned for."""
        probation = self.probation
        return self.trouble if probation is None else self.trouble or probation.diagnosis

    @property
    def is_calm(self) -> bool:
        """Whether there is neither a trouble nor an alarm that is not explained yet."""
        return self.trouble is None and not self.pending

    @property
    def is_damaged(self) -> bool:
        """Whether there is damage that no strategy could repair."""
        return self.trouble is not None and self.trouble.cause in INTEGRITY
