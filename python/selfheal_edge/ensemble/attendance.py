"""Who of a committee answers, sleeps, returns, or is held at a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from selfheal_edge import _core
from selfheal_edge.ensemble.agreement import Agreement
from selfheal_edge.ensemble.members import Member
from selfheal_edge.ensemble.standing import Condition, Standing, stand
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.log import logger
from selfheal_edge.model import parts_of
from selfheal_edge.store.journal import EventKind, Journal

__all__ = ["TRIAL_ROUNDS", "Attendance", "Seat"]

_PARTING_MEMORY: Final = 0.05
_PROOF_PAUSE: Final = 16
_DOUBT_PAUSE: Final = 256
"""Answers between two times that a member is asked its known answers since members part."""
TRIAL_ROUNDS: Final = 64
"""Labels until a member that took another's place has proven itself."""
_MOST_PAUSE: Final = 256
_RECENT: Final = 32


@dataclass(slots=True, eq=False)
class Seat:
    """What is known of one member while it serves."""

    member: Member
    loop: Any
    healed: tuple[int, int] | None = None
    """Repairs, and when the latest one was proven; None until it was looked at."""
    condition: Condition = field(default_factory=Condition)
    cap: float | None = None
    """What it may weigh while something of it is on trial."""
    trial_until: int | None = None
    """The round at which a member that took another's place has proven itself."""
    failure: str = ""
    """Why it gives no answer."""
    pause: int = 1
    """Answers until it is tried again, after its next failure."""
    is_retired: bool = False
    """Whether it cannot answer with the others any more."""
    doubted_at: int = -_DOUBT_PAUSE
    """The answer after which its known answers were asked last."""

    @classmethod
    def of(cls, member: Member) -> Seat:
        """Return the seat of a member that begins."""
        return cls(member, parts_of(member.model).loop)

    @property
    def has_moved(self) -> bool:
        """Whether its model serves another file than it did: one on trial was rejected."""
        return parts_of(self.member.model).loop is not self.loop

    @property
    def is_closed(self) -> bool:
        """Whether its model was closed."""
        return parts_of(self.member.model).inference_lock.closed


class Attendance:
    """The seats of a committee, and what follows from how each member is.

    The caller has the committee's lock.

    Parameters
    ----------
    seats
        One a member, in order.
    share
        Their weights.
    core
        Has the number of answers, and the chart of partings.
    journal
        Hears who sleeps and wakes.
    agreement
        How often members part in normal operation.
    interval
        Mean number of answers between two false alarms that they part too often.
    """

    def __init__(
        self,
        seats: list[Seat],
        share: _core.FixedShare,
        core: _core.Committee,
        journal: Journal,
        agreement: Agreement,
        interval: float,
    ) -> None:
        self.seats: Final = seats
        self.agreement = agreement
        self.standing = Standing((False,) * len(seats), ("",) * len(seats))
        self.returning: tuple[bool, ...] = ()
        """Which members return to the share that they had; empty where none does."""
        self.extra_inferences = 0
        """Of known answers."""
        self._share = share
        self._core = core
        self._journal = journal
        self._interval = interval
        self._watched: tuple[bool, ...] | None = None
        self._heard_at = 0  # the answer at which a label or a proof came last
        for n, seat in enumerate(seats):
            self._let_in(n, seat)

    def _let_in(self, n: int, seat: Seat) -> None:
        """Have the core ask a member, look at its loop's state, and read its output."""
        member, spec = seat.member, seat.member.output
        self._core.seat(
            n,
            infer=member.model.infer,
            loop=seat.loop,
            scores=member.scores,
            dtype=spec.dtype,
            scale=spec.scale if spec.quantized else 1.0,
            zero_point=spec.zero_point if spec.quantized else 0,
            temperature=member.temperature,
        )

    def look(self) -> bool:
        """Look at how the members are, and say who sleeps; return whether that has changed."""
        before = self.standing
        if self._core.has_changed:
            for n, seat in enumerate(self.seats):
                self._look_at(n, seat, seat.loop.state)
        standing = self.standing = stand([seat.condition for seat in self.seats])
        self._core.on_call = standing.on_call is not None
        was = self._share.asleep
        if standing.asleep != was:
            self._share.set_asleep(list(standing.asleep))
            for n, seat in enumerate(self.seats):
                if was[n] != standing.asleep[n]:
                    self._tell(seat, standing.reasons[n], is_asleep=standing.asleep[n])
        if standing.on_call is not None and before.on_call != standing.on_call:
            name = self.seats[standing.on_call].member.name
            self._journal.add(
                EventKind.ALARM,
                self._core.number,
                outcome=f"all members should sleep: {name} serves, untrusted",
            )
        self._watch()
        self._settle()
        return before.asleep != standing.asleep

    def _look_at(self, n: int, seat: Seat, state: Any) -> None:
        trouble = state.trouble
        on_trial = state.probation is not None or state.trial is not None
        seat.condition = Condition(
            None if trouble is None else trouble.cause,
            seat.loop.is_trusted,
            bool(state.pending),
            on_trial,
            seat.failure,
        )
        healed = state.count.repairs, state.recovered_at
        if seat.healed is not None and healed != seat.healed and not seat.condition.cause:
            self._share.restore(n)
        seat.healed = healed
        self._core.note(n, state)
        if on_trial:
            if seat.cap is None:
                self.hold(n, self.past(n))
            seat.trial_until = None  # it lasts as long as the trial, whatever labels come
        elif seat.cap is not None and seat.trial_until is None:
            self._release(n, seat)

    def _tell(self, seat: Seat, reason: str, *, is_asleep: bool) -> None:
        self._journal.add(
            EventKind.ASLEEP if is_asleep else EventKind.AWAKE,
            self._core.number,
            cause=seat.condition.cause,
            evidence=(reason,) if reason else (),
            outcome=f"{seat.member.name} {'sleeps' if is_asleep else 'is awake, at the floor'}",
        )

    # ---------------------------------------------------------------- trials

    def past(self, n: int) -> float:
        """Return what a member weighs, or weighed before it slept."""
        share = self._share
        return share.past[n] if share.asleep[n] else float(share.weights[n])

    def hold(self, n: int, weight: float, rounds: int = TRIAL_ROUNDS) -> None:
        """Let a member weigh no more than this, while something of it is on trial."""
        seat = self.seats[n]
        seat.cap = min(1.0, max(weight, self._share.floor, 1e-6))
        seat.trial_until = self._share.rounds + rounds
        self._share.set_cap(n, seat.cap)

    def _release(self, n: int, seat: Seat) -> None:
        seat.cap = seat.trial_until = None
        self._share.set_cap(n, 1.0)

    def seat_another(self, n: int, member: Member, agreement: Agreement) -> float:
        """Give a member's place to another; return what it may weigh until 64 labels have come."""
        weight, old, seat = self.past(n), self.seats[n], Seat.of(member)
        if old.cap is not None:
            weight = min(weight, old.cap)
        self._let_in(n, seat)  # all of it or, where that raises, nothing
        self.seats[n] = seat
        self.agreement, self._watched = agreement, None
        self.hold(n, weight)
        return weight

    def label_came(self) -> None:
        """Have trials end that were to last until so many labels."""
        self._heard_at = self._core.number
        for n, seat in enumerate(self.seats):
            if seat.trial_until is not None and self._share.rounds >= seat.trial_until:
                self._release(n, seat)
        self._settle()

    # ---------------------------------------------------------------- members that return

    def _settle(self) -> None:
        returning = self._share.returning
        self.returning = tuple(returning) if any(returning) else ()

    def prove_those_that_return(self) -> bool:
        """Ask them their known answers now and then, where no labels come; return whether now."""
        number = self._core.number
        if number - self._heard_at < _PROOF_PAUSE:
            return False
        self._heard_at = number
        for n, returns in enumerate(self.returning):
            if not returns:
                continue
            if self._ask_known_answers(self.seats[n]):
                self._share.prove(n)
        self._settle()
        return True

    def doubt(self, n: int) -> None:
        """Ask a member that is awake its known answers, since something speaks against it.

        A label may be a lie, a known answer is none: a member that gives them wrong has every byte
        checked, and sleeps. At most once in 16 answers, so that labels cannot keep it busy.
        """
        seat, number = self.seats[n], self._core.number
        if self.standing.asleep[n] or seat.failure:
            return
        if number - seat.doubted_at >= _PROOF_PAUSE:
            self._ask_known_answers(seat)

    def doubt_one(self) -> None:
        """Ask one of those that part its known answers: no label has said who of them errs.

        The one that was asked longest ago, and each at most once in 256 answers: four known answers
        are 1.6 % of its inferences.
        """
        fit = [
            seat
            for seat, asleep in zip(self.seats, self.standing.asleep, strict=True)
            if not (asleep or seat.failure)
        ]
        longest = min(fit, key=lambda seat: seat.doubted_at, default=None)
        if longest is None:
            return
        if self._core.number - longest.doubted_at >= _DOUBT_PAUSE:
            self._ask_known_answers(longest)
        self._core.follow_partings_from(max(0, min(s.doubted_at for s in fit) + _DOUBT_PAUSE))

    def _ask_known_answers(self, seat: Seat) -> bool | None:
        """Return whether a member gives them right; None where it could not be asked."""
        model, seat.doubted_at = seat.member.model, self._core.number
        try:
            are_right = model.hear_contradiction()
        except (ModelClosedError, RuntimeError):
            logger().warning("%s could not be asked", seat.member.name, exc_info=True)
            return None
        if are_right is not None:
            self.extra_inferences += len(parts_of(model).loop.repairs.known.inputs)
        return are_right

    # ---------------------------------------------------------------- members that fail

    def retire(self, n: int, error: Exception) -> None:
        """Take note that a member cannot answer with the others any more: it is not asked."""
        seat = self.seats[n]
        seat.loop, seat.is_retired = parts_of(seat.member.model).loop, True
        self._let_in(n, seat)
        self.silence(n, error)

    def silence(self, n: int, error: Exception) -> None:
        """Take note that a member gave no answer: it is tried again, later each time."""
        seat = self.seats[n]
        seat.failure = f"it gives no answer: {error}"
        self._core.silence(n, None if seat.is_retired else self._core.number + seat.pause)
        self._core.note(n, None)
        seat.pause = min(2 * seat.pause, _MOST_PAUSE)

    def hear_the_silent(self) -> None:
        """Have those that failed asked at once."""
        for n, seat in enumerate(self.seats):
            if not seat.is_retired:
                self._core.silence(n, 0)

    def heard_again(self, answers: Sequence[Any]) -> None:
        """Take note of who of those that failed has answered."""
        for n, (seat, answer) in enumerate(zip(self.seats, answers, strict=True)):
            if seat.failure and answer is not None:
                seat.failure, seat.pause = "", 1
                self._core.silence(n, 0)
                self._core.note(n, None)

    # ---------------------------------------------------------------- members that part

    def _watch(self) -> None:
        """Count partings of those that are awake against how often they usually part."""
        awake = tuple(not asleep for asleep in self.standing.asleep)
        if awake == self._watched:
            return
        self._watched = awake
        share = self.agreement.largest_share(awake)
        if share is None or not self._core.watch(share, _PARTING_MEMORY, self._interval):
            self._core.watch_nothing()

    def tell_of_parting(self) -> None:
        """Tell the members that are awake that they part too often."""
        assert self._watched is not None
        usual = self.agreement.share(self._watched)
        assert usual is not None
        text = f"members part on more inputs than the {usual:.1%} of calibration"
        self._journal.add(EventKind.ALARM, self._core.number, outcome=text)
        for seat, asleep in zip(self.seats, self.standing.asleep, strict=True):
            if asleep or seat.failure:
                continue
            try:
                seat.member.model.hear_parting(text, _RECENT)
            except (ModelClosedError, RuntimeError):
                logger().warning("%s could not be told", seat.member.name, exc_info=True)

    # ---------------------------------------------------------------- what is told of it

    def reason(self, n: int) -> str:
        """Return why a member sleeps, is held at a weight, or returns; empty for none."""
        seat = self.seats[n]
        if self.standing.reasons[n]:
            return self.standing.reasons[n]
        if seat.cap is not None:
            return "it is on trial" if seat.trial_until else "a repair or file is on trial"
        return "it returns to the share that it had" if self._share.returning[n] else ""

    def trials_left(self) -> dict[str, int]:
        """Return rounds that are left of trials that labels end, by place, for a store."""
        return {
            str(n): max(0, seat.trial_until - self._share.rounds)
            for n, seat in enumerate(self.seats)
            if seat.trial_until is not None
        }
