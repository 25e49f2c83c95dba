"""Which labels a committee asks for: of inputs on which its members part."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.learning.feedback import RecentAnswers
from selfheal_edge.learning.questions import Askable, Parting, Question, Questions
from selfheal_edge.learning.samples import SampleShape
from selfheal_edge.model import SelfHealingModel, parts_of
from selfheal_edge.policy import Policy

__all__ = ["Asked", "Wanted"]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """An answer whose label was asked for, kept until it comes."""

    ids: tuple[int, ...]
    """Each member's own."""
    probabilities: npt.NDArray[np.float32]
    """Shape (members, classes)."""
    verdict: int
    has_parted: bool
    place: int
    """Of its probabilities, among those that are kept."""


class Wanted:
    """The questions of a committee, with copies of their inputs, in fixed memory.

    Inputs are asked about as the first member that is open takes them.

    Parameters
    ----------
    model
        The first member.
    policy
        Has `questions_bytes`.
    clock
        Monotonic seconds.
    seed
        Of what is drawn; None draws from the operating system.
    answers
        Shape of what is kept of answers that were asked for: (n, members, classes).
    """

    def __init__(
        self,
        model: SelfHealingModel,
        policy: Policy,
        clock: Callable[[], float],
        seed: int | None,
        answers: tuple[int, int, int],
    ) -> None:
        self._bytes = policy.questions_bytes
        self._clock = clock
        self._rng: np.random.Generator | None = None
        self._seed = seed
        self._shape = _shape_of(model)
        self._questions = self._about(self._shape)
        self._answers = np.zeros(answers, np.float32)
        self._asked: OrderedDict[int, Asked] = OrderedDict()

    def _random(self) -> np.random.Generator:
        if self._rng is None:
            self._rng = np.random.default_rng(self._seed)
        return self._rng

    def _about(self, shape: SampleShape) -> Questions:
        return Questions(shape, self._bytes, clock=self._clock, rng=self._random, guard=_no_guard)

    @property
    def memory_bytes(self) -> int:
        """Bytes of inputs and of the answers to them, used or not."""
        return self._questions.memory_bytes + self._answers.nbytes

    def holds(self, id: int) -> bool:
        """Whether the label of an answer was asked for, and its answer is kept."""
        return id in self._asked

    def peek(self, id: int) -> Asked | None:
        """Return an answer whose label was asked for."""
        return self._asked.get(id)

    def answer(self, id: int) -> None:
        """Take note that a question was answered."""
        self._questions.answer(id)

    def ask(
        self,
        limit: int,
        core: _core.Committee,
        taken: Collection[int],
        models: Sequence[SelfHealingModel],
        share: _core.FixedShare,
    ) -> tuple[Question, ...]:
        """Return at most `limit` questions: those that wait, and new ones.

        Parameters
        ----------
        limit
            1 or more.
        core
            Has the latest answers.
        taken
            Answers whose label is known.
        models
            The members, in order.
        share
            Has the weights: who sleeps parts with no other.
        """
        model = next((m for m in models if not parts_of(m).inference_lock.closed), None)
        if model is None:
            return ()
        if (shape := _shape_of(model)) != self._shape:
            # Inputs as another member took them are asked about no more; their labels still count.
            self._shape, self._questions = shape, self._about(shape)
        found, parting = self._askable(core, model, share)
        questions = self._questions.ask(limit, found, taken, parting)
        for question in questions:
            self._note(question.id, core)
        return tuple(self._worded(question) for question in questions)

    def _note(self, id: int, core: _core.Committee) -> None:
        kept = core.kept(id)
        if kept is None or id in self._asked:
            return
        place = len(self._asked)
        if place == len(self._answers):
            place = self._asked.popitem(last=False)[1].place
        self._answers[place] = kept
        self._asked[id] = Asked(
            core.ids(id), self._answers[place], core.verdict(id), core.parted(id), place
        )

    def _worded(self, question: Question) -> Question:
        if question.asked.is_decisive or question.asked.stratum == "parting":
            return replace(question, reason="the members part here")
        return question

    def _askable(
        self, core: _core.Committee, model: SelfHealingModel, share: _core.FixedShare
    ) -> tuple[Askable, Parting]:
        """Return the latest answers with an input, and what is said for and against each."""
        parts = parts_of(model)
        with parts.inference_lock.lock():
            recent: RecentAnswers = parts.loop.labels.recent()
        first, last = core.held_from, core.first_id + core.number
        rows, ids, verdicts, others = [], [], [], []
        weights = share.weights
        member = next((n for n in range(len(weights)) if _is_of(core, last, n, recent)), None)
        numbers = range(first, last + 1) if member is not None and core.number else range(0)
        for number in numbers:
            assert member is not None
            own = core.ids(number)[member]
            row = recent.row(own) if own >= 0 else None
            if row is None or len(recent.ids) - row > recent.with_input:
                continue
            verdict = core.verdict(number)
            ids.append(number)
            rows.append(row - (len(recent.ids) - recent.with_input))
            verdicts.append(verdict)
            others.append(_strongest_other(core.labels(number), weights, verdict))
        chosen = np.array(rows, np.int64)
        golden = np.array(verdicts, np.int64)
        inputs = tuple(part[len(part) - recent.with_input :][chosen] for part in recent.inputs)
        found = Askable(
            np.array(ids, np.int64),
            inputs,
            None,
            None,
            golden,
            np.zeros(len(ids), np.int64),
        )
        return found, Parting(golden, np.array(others, np.int64), 0)


def _shape_of(model: SelfHealingModel) -> SampleShape:
    specs = model.inputs
    return SampleShape(
        tuple((s.dtype.str, s.shape[1:] if s.shape[:1] == (1,) else s.shape) for s in specs), 0
    )


def _no_guard() -> AbstractContextManager[None]:
    return nullcontext()


def _is_of(core: _core.Committee, last: int, member: int, recent: RecentAnswers) -> bool:
    return bool(core.number) and recent.row(core.ids(last)[member]) is not None


def _strongest_other(
    labels: tuple[int, ...], weights: npt.NDArray[np.float64], verdict: int
) -> int:
    """Return the class with most weight beside what was answered; the same where none is."""
    found, most = verdict, 0.0
    for label in {label for label in labels if label not in (-1, verdict)}:
        weight = sum(w for w, one in zip(weights, labels, strict=True) if one == label)
        if weight > most:
            found, most = label, float(weight)
    return found
