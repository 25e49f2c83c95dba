"""What a committee learns from labels: weights follow, and the members hear of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.ensemble.attendance import Attendance
from selfheal_edge.ensemble.desk import Desk, Told, class_losses
from selfheal_edge.ensemble.questions import Wanted
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.learning.feedback import Claim, FeedbackReceipt, Outcome
from selfheal_edge.learning.questions import Question
from selfheal_edge.learning.sources import FeedbackSource
from selfheal_edge.log import logger
from selfheal_edge.model import SelfHealingModel, parts_of
from selfheal_edge.policy import Policy

if TYPE_CHECKING:
    from selfheal_edge.store.keys import KeyArgument

__all__ = ["EnsembleLabels"]

_UNAUTHENTICATED: Final = 0.125
_CONTRADICTED: Final = 0.5  # what an answer lost more than the best one, so that it is doubted
_NO_MEMBERS_OWN: Final = 0.95  # the loss at a probability of 3 %


class EnsembleLabels:
    """Takes labels of a committee's answers; the caller has the committee's lock.

    Parameters
    ----------
    desk
        Reads what is said, and knows the sources.
    share
        The weights, which follow.
    core
        Has the latest answers.
    attendance
        Has the members.
    policy
        Has `owner` and `questions_bytes`.
    clock
        Monotonic seconds.
    seed
        Of what is asked.
    count
        Labels before.
    """

    def __init__(
        self,
        desk: Desk,
        share: _core.FixedShare,
        core: _core.Committee,
        attendance: Attendance,
        policy: Policy,
        clock: Callable[[], float],
        seed: int | None,
        count: int,
    ) -> None:
        self.count = count
        """Labels that moved weights."""
        self.secrets: Final[dict[str, KeyArgument]] = {}
        """Keys of the sources that were made since the start."""
        self._of_members: WeakKeyDictionary[SelfHealingModel, dict[str, FeedbackSource]] = (
            WeakKeyDictionary()
        )
        """What members have made of these sources: without a key it is the object that counts."""
        self._desk = desk
        self._share = share
        self._core = core
        self._attendance = attendance
        self._owner = policy.owner
        member = attendance.seats[0].member
        answers = core.capacity, len(attendance.seats), member.width
        self._wanted = Wanted(member.model, policy, clock, seed, answers)

    def source(self, name: str, key: KeyArgument) -> FeedbackSource:
        """Make a source known to the committee and its members, or to none of them."""
        open_ones = [seat.member.model for seat in self._attendance.seats if not seat.is_closed]
        for one in open_ones:
            parts_of(one).loop.labels.sources.check(name, key)
        made = self._desk.sources.add(name, key)
        self.secrets[name] = key
        for one in open_ones:
            self._introduce(one, name)
        return made

    def introduce(self, model: SelfHealingModel) -> None:
        """Make the sources known to a model that comes, or raise and change nothing."""
        known = self._of_members.get(model, {})
        for name, key in self.secrets.items():
            if name not in known:
                parts_of(model).loop.labels.sources.check(name, key)
        for name in self.secrets:
            self._introduce(model, name)

    def forget(self, model: SelfHealingModel) -> None:
        """Forget what a model has made of the sources: it serves another file, and knows none."""
        self._of_members.pop(model, None)

    def _introduce(self, model: SelfHealingModel, name: str) -> FeedbackSource:
        known = self._of_members.setdefault(model, {})
        if name not in known:
            known[name] = model.feedback_source(name, self.secrets.get(name))
        return known[name]

    def feedback(
        self, label: Any, correct: Any, id: Any, source: Any
    ) -> FeedbackReceipt | tuple[FeedbackReceipt, ...]:
        """Take labels in, as `SelfHealingEnsemble.feedback` says."""
        latest = self._core.first_id + self._core.number if self._core.number else None
        claims, are_many = self._desk.read(label, correct, id, source, latest)
        receipts = tuple(self._take(claim) for claim in claims)
        return receipts if are_many else receipts[0]

    def _place(self, id: int) -> tuple[Outcome, str] | None:
        """Return why an answer cannot be spoken of; None where it can."""
        first, last = self._core.held_from, self._core.first_id + self._core.number
        if first <= id <= last or self._wanted.holds(id):
            return None
        if self._core.first_id < id < first:
            return Outcome.LATE, f"the latest {self._core.capacity} answers are kept"
        if self._desk.lowest is not None and self._desk.lowest < id <= self._core.first_id:
            return Outcome.LATE, "it is of before the latest start, and was not asked for"
        return Outcome.UNKNOWN, "no answer of this committee has this id"

    def _take(self, claim: Claim) -> FeedbackReceipt:
        asked = self._wanted.peek(claim.id)
        verdict = self._core.verdict(claim.id) if asked is None else asked.verdict
        told = self._desk.take(claim, self._place(claim.id), verdict)
        if isinstance(told, FeedbackReceipt):
            return told
        losses = self._losses(told, verdict)
        text = self._learn(told, losses)
        ids = self._core.ids(claim.id) if asked is None else asked.ids
        self._wanted.answer(claim.id)
        self._forward(told, ids, verdict)
        return FeedbackReceipt(claim.id, Outcome.ACCEPTED, text)

    def _losses(self, told: Told, verdict: int) -> npt.NDArray[np.float64] | None:
        """Return what an answer has cost each member; None where that is not known."""
        asked = self._wanted.peek(told.id)
        if told.label is None:
            if told.correct is not False or verdict < 0:
                return None
            if asked is not None:
                return class_losses(1.0 - asked.probabilities, verdict, asked.ids)
            return self._core.losses(told.id, verdict, wrong=True)
        if asked is not None and isinstance(told.label, int):
            return class_losses(asked.probabilities, told.label, asked.ids)
        return self._core.losses(told.id, told.label)

    def _learn(self, told: Told, losses: npt.NDArray[np.float64] | None) -> str:
        """Have a label move the weights; return what became of it in words."""
        if losses is None:
            return "it says nothing of the members"
        awake = np.array([not asleep for asleep in self._share.asleep])
        known = losses[awake & np.isfinite(losses)]
        if self._attendance.seats[0].member.classes is not None and (
            not len(known) or known.min() > _NO_MEMBERS_OWN
        ):
            return "no member thinks it possible, so that it moves no weight"
        asked = self._wanted.peek(told.id)
        parted = self._core.parted(told.id) if asked is None else asked.has_parted
        importance = self._core.importance(parted)
        if told.name == self._owner:
            self._share.update(losses)
            text = "weights follow it"
        elif told.is_authenticated:
            self._share.hear(losses, importance=importance)
            text = "weights follow it, as far as it may be false"
        else:
            self._share.hear(losses, _UNAUTHENTICATED, importance)
            text = "weights follow it a little: it has no key"
        self.count += 1
        self._attendance.label_came()
        least = known.min(initial=np.inf)
        for n in np.flatnonzero(awake & (losses > least + _CONTRADICTED)):
            self._attendance.doubt(int(n))
        return text

    def _forward(self, told: Told, ids: Sequence[int], verdict: int) -> None:
        """Give a label to the members' own feedback, each of its own answer."""
        labels = self._core.labels(told.id)
        for seat, id, label in zip(self._attendance.seats, ids, labels, strict=True):
            if id < 0:
                continue
            model = seat.member.model
            is_normality = parts_of(model).loop.labels.space.is_normality
            said = _said(told, is_normality, named_the_same=0 <= label == verdict)
            if not said:
                continue
            try:
                source: FeedbackSource | str | None = None
                if told.source is not None:
                    source = self._introduce(model, told.name)
                model.feedback(**said, id=id, source=source)
            except (ModelClosedError, ValueError, RuntimeError):
                logger().warning("%s did not take a label", seat.member.name, exc_info=True)

    def wanted(self, limit: int) -> tuple[Question, ...]:
        """Return the questions that would decide most."""
        models = [seat.member.model for seat in self._attendance.seats]
        return self._wanted.ask(limit, self._core, self._desk.answered, models, self._share)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the questions."""
        return self._wanted.memory_bytes


def _said(told: Told, is_normality: bool, *, named_the_same: bool) -> dict[str, Any]:
    """Return what a member hears of a label; nothing where it says nothing of this member's answer.

    An autoencoder is told which inputs are normal, and not what it should answer.
    """
    if is_normality:
        return {} if told.label is not None else {"correct": told.correct}
    if told.label is not None:
        return {"label": told.label}
    return {"correct": False} if told.correct is False and named_the_same else {}
