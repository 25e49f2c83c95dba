"""Take feedback in: whose it is, of which answer, whether it counts, and where it goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import FeedbackSourceError
from selfheal_edge.learning.admission import Admission
from selfheal_edge.learning.labels import Label
from selfheal_edge.learning.pool import TrustedPool
from selfheal_edge.learning.quarantine import Quarantine
from selfheal_edge.learning.questions import AskedLabel, Questions
from selfheal_edge.learning.samples import Sample, digest_of
from selfheal_edge.learning.sources import (
    UNAUTHENTICATED,
    FeedbackSource,
    KnownSource,
    SignedLabel,
    SourceTable,
)
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = [
    "Claim",
    "Doubt",
    "FeedbackIntake",
    "FeedbackReceipt",
    "FeedbackRecord",
    "Outcome",
    "RecentAnswers",
]

_MOST_ANSWERED: Final = 1024
_MOST_REVOKED: Final = 1024


class Outcome(str, Enum):
    """What became of one piece of feedback."""

    ACCEPTED = "accepted"
    OLD_GENERATION = "accepted, for an older generation"
    """The answer came from weights that serve no longer."""
    REPEATED = "repeated"
    """This source has spoken of this answer before: the first word counts."""
    LATE = "too late"
    """The prediction was, and its input is no longer kept."""
    UNKNOWN = "unknown id"
    """No prediction of this model has it."""
    OVER_QUOTA = "over quota"
    """The source has said as much as it may for now."""
    REFUSED = "refused"
    """The signature does not hold, was used before, or what is said contradicts itself."""

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class FeedbackReceipt:
    """What became of one piece of feedback, and why; true where it was taken in."""

    id: int
    outcome: Outcome
    text: str
    """The same for a person."""
    kept: Literal["pool", "quarantine"] | None = None
    """Where its input is kept: to be learned from, or as a suspect; None: nowhere."""

    def __bool__(self) -> bool:
        return self.outcome in (Outcome.ACCEPTED, Outcome.OLD_GENERATION)

    def __str__(self) -> str:
        return f"{self.id}: {self.outcome.value}: {self.text}"


@dataclass(frozen=True, slots=True, eq=False)
class FeedbackRecord:
    """Feedback that was taken in."""

    id: int
    label: Label | None
    """What is right: a class, or a target; None where it is said that the answer is wrong alone."""
    correct: bool | None
    """Whether the answer was; None of a target."""
    source: str
    """``"unauthenticated"`` for all bare names."""
    authenticated: bool
    question: AskedLabel | None
    """How it was asked for; None where it was volunteered."""
    predicted: int
    """The class that was answered; -1: none."""
    generation: int
    """What answered."""
    second: float
    """Of the model's clock."""
    input: Array | None = None
    """Raw, without a leading 1, of a model with one input; None where it is not kept."""
    embedding: npt.NDArray[np.float32] | None = None
    """Dequantised."""
    weight: float = 0.0
    """What it weighs in the trusted pool; 0: it is not learned from."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """Feedback as it came, with its arguments checked."""

    id: int
    label: Label | None
    correct: bool | None
    source: FeedbackSource | str | None = None
    signed: SignedLabel | None = None


class Doubt(NamedTuple):
    """Why nothing is learned from an input: an incident makes it suspect."""

    reason: str
    evidence: str
    incident: int


@dataclass(frozen=True, slots=True, eq=False)
class RecentAnswers:
    """The latest predictions, as copies: row k of each array belongs to `ids[k]`, oldest first."""

    ids: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    """The class that was answered; -1: none."""
    generations: npt.NDArray[np.int64]
    inputs: tuple[Array, ...]
    """One an input of the model: of the latest m of n predictions."""
    probabilities: npt.NDArray[np.float32] | None
    """Shape (n, classes)."""
    embeddings: npt.NDArray[np.float32] | None
    """Dequantised: shape (n, width)."""
    raw_embeddings: npt.NDArray[np.float32] | None
    """The same as the runtime has it, as numbers."""
    first: int
    """The first id of this start."""

    def latest(self) -> RecentAnswers:
        """Return the latest prediction alone."""
        inputs = tuple(part[-1:] for part in self.inputs)
        return replace(self.answers(slice(-1, None)), inputs=inputs)

    def answers(self, rows: slice | npt.NDArray[np.intp]) -> RecentAnswers:
        """Return some rows, without their inputs."""
        return RecentAnswers(
            self.ids[rows],
            self.predicted[rows],
            self.generations[rows],
            (),
            None if self.probabilities is None else self.probabilities[rows],
            None if self.embeddings is None else self.embeddings[rows],
            None if self.raw_embeddings is None else self.raw_embeddings[rows],
            self.first,
        )

    @property
    def with_input(self) -> int:
        """How many of the latest have their input."""
        return min((len(part) for part in self.inputs), default=0)

    def row(self, id: int) -> int | None:
        """Return the row of a prediction."""
        if not len(self.ids):
            return None
        row = id - int(self.ids[0])
        return row if 0 <= row < len(self.ids) else None

    def sample(self, row: int, second: float) -> Sample:
        """Return a copy of one prediction."""
        inputs = None
        behind = len(self.ids) - row
        if self.inputs and behind <= self.with_input:
            inputs = tuple(part[len(part) - behind].copy() for part in self.inputs)
        digest = b""
        if inputs is not None:
            digest = digest_of(b"".join(np.ascontiguousarray(part).tobytes() for part in inputs))
        return Sample(
            int(self.ids[row]),
            inputs,
            second,
            None if self.embeddings is None else self.embeddings[row].copy(),
            int(self.predicted[row]),
            int(self.generations[row]),
            digest=digest,
        )


class FeedbackIntake:
    """Takes feedback in, one after the other, and says what became of each.

    Parameters
    ----------
    sources, pool, quarantine, questions
        What it fills.
    clock
        Monotonic seconds; it may jump.
    guard
        Makes the context in which no other thread changes these.
    """

    def __init__(
        self,
        sources: SourceTable,
        pool: TrustedPool,
        quarantine: Quarantine,
        questions: Questions,
        *,
        clock: Callable[[], float],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.sources = sources
        self.pool = pool
        self.quarantine = quarantine
        self.questions = questions
        self._clock = clock
        self._guard = guard
        self._answered: OrderedDict[int, tuple[str, ...]] = OrderedDict()
        self._distrusted: str | None = None
        self._revoked: OrderedDict[int, None] = OrderedDict()
        self.lowest: int | None = None
        """The lowest id that any start gave, as far as that is known."""
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        """How much of it came, by what became of it."""

    @property
    def answered(self) -> frozenset[int]:
        """Predictions that feedback has come of."""
        return frozenset(self._answered)

    def take(
        self,
        claims: Sequence[Claim],
        recent: RecentAnswers,
        suspects: Mapping[int, Doubt] | None = None,
    ) -> tuple[tuple[FeedbackReceipt, ...], tuple[FeedbackRecord, ...]]:
        """Take claims in, in order.

        Parameters
        ----------
        claims, recent
            What is said, and of what.
        suspects
            By id, those of them that an incident makes suspect.

        Returns
        -------
        tuple of FeedbackReceipt
            One each.
        tuple of FeedbackRecord
            Of those that were taken in.

        Raises
        ------
        FeedbackSourceError, TypeError, ValueError
            For a source that is none, before anything is done.
        """
        with self._guard():
            known = [self.sources.named(claim.source) for claim in claims]
            receipts: list[FeedbackReceipt] = []
            records: list[FeedbackRecord] = []
            for claim, source in zip(claims, known, strict=True):
                doubt = None if suspects is None else suspects.get(claim.id)
                receipt, record = self._take(claim, source, recent, doubt)
                receipts.append(receipt)
                self.outcomes[receipt.outcome] += 1
                if record is not None:
                    records.append(record)
            return tuple(receipts), tuple(records)

    def _take(  # noqa: PLR0911 — an answer each
        self,
        claim: Claim,
        source: KnownSource | None,
        recent: RecentAnswers,
        doubt: Doubt | None,
    ) -> tuple[FeedbackReceipt, FeedbackRecord | None]:
        def nothing(outcome: Outcome, text: str) -> tuple[FeedbackReceipt, None]:
            return FeedbackReceipt(claim.id, outcome, text), None

        if claim.signed is not None:
            source, why = self.sources.signer(claim.signed)
            if source is None:
                return nothing(Outcome.REFUSED, why)
            source.counter = claim.signed.counter  # whatever becomes of it, it is used up
        if (source is not None and source.is_revoked) or claim.id in self._revoked:
            what = "this prediction" if source is None or not source.is_revoked else source.name
            return nothing(Outcome.REFUSED, f"{what} was revoked")
        now = self._clock()
        row = recent.row(claim.id)
        sample = self.questions.peek(claim.id)
        if sample is None:
            if row is None:
                return nothing(*self._where(claim.id, recent))
            sample = recent.sample(row, now)
        name = UNAUTHENTICATED if source is None else source.name
        if name in self._answered.get(claim.id, ()):
            return nothing(
                Outcome.REPEATED, f"{name} has spoken of this answer before, and that counts"
            )
        label, correct = claim.label, claim.correct
        if isinstance(label, int):
            agrees = label == sample.predicted
            if correct is not None and correct != agrees:
                said = f"correct={correct}, and names class {label} where {sample.predicted} was"
                return nothing(Outcome.REFUSED, f"it says {said} answered")
            correct = agrees
        elif label is None and correct and sample.predicted >= 0:
            label = sample.predicted
        if not self.sources.quota(source).take(now):
            more = "" if source is None or not source.is_authenticated else f" of {name}"
            return nothing(Outcome.OVER_QUOTA, f"as many labels as an hour may have{more} came")
        self._note(claim.id, name)
        asked = self.questions.answer(claim.id)
        is_keyed = source is not None and source.is_authenticated
        sample = _labelled(sample, label, name, now)
        kept, weight, why = self._keep(sample, label, doubt)
        record = FeedbackRecord(
            claim.id,
            label,
            correct,
            name,
            is_keyed,
            None if asked is None else asked[1],
            sample.predicted,
            sample.generation,
            now,
            sample.inputs[0] if sample.inputs is not None and len(sample.inputs) == 1 else None,
            sample.embedding,
            weight,
        )
        current = int(recent.generations[-1]) if len(recent.generations) else sample.generation
        outcome, text = Outcome.ACCEPTED, why
        if sample.generation != current:
            outcome = Outcome.OLD_GENERATION
            text = f"generation {sample.generation} had answered, {current} serves now; {why}"
        return FeedbackReceipt(claim.id, outcome, text, kept), record

    def _where(self, id: int, recent: RecentAnswers) -> tuple[Outcome, str]:
        oldest = int(recent.ids[0]) if len(recent.ids) else recent.first + 1
        if recent.first < id < oldest:
            return Outcome.LATE, f"the latest {len(recent.ids)} predictions are kept"
        if self.lowest is not None and self.lowest < id <= recent.first:
            return Outcome.LATE, "it is of before the latest start, and was not asked for"
        return Outcome.UNKNOWN, "no prediction of this model has this id"

    def _note(self, id: int, name: str) -> None:
        self._answered[id] = (*self._answered.pop(id, ()), name)
        while len(self._answered) > _MOST_ANSWERED:
            self._answered.popitem(last=False)

    def _keep(
        self, sample: Sample, label: Label | None, doubt: Doubt | None
    ) -> tuple[Literal["pool", "quarantine"] | None, float, str]:
        """Have a sample learned from, or put aside; return where it is, its weight, and why."""
        if label is None:
            return None, 0.0, "that it is wrong, and not what is right, is nothing to learn from"
        if sample.inputs is None:
            return None, 0.0, "its input is not kept, so that nothing can be learned from it"
        if doubt is not None:
            self._unlearn(sample)
            self.quarantine.add(sample, *doubt)
        suspicion = "" if doubt is None else f"it is suspect: {doubt.reason}"
        if why := self.quarantine.holds(sample) or suspicion:
            return "quarantine", 0.0, f"nothing is learned from it: {why}"
        judged, reason = self.pool.judge(sample), "label not believed"
        if sample.source == self._distrusted:
            judged, reason = Admission(0.0, "its source contradicts the others"), "poisoning"
        if judged.weight <= 0.0:
            self.pool.remove_input(sample.digest)
            self.quarantine.add(sample, reason, judged.reason)
            return "quarantine", 0.0, f"nothing is learned from it: {judged.reason}"
        low = f", with weight {judged.weight:g}: {judged.reason}" if judged.reason else ""
        if not self.pool.add(replace(sample, weight=judged.weight)):
            return None, judged.weight, f"the pool holds others of its kind{low}"
        return "pool", judged.weight, f"in the trusted pool{low}"

    def distrust(self, name: str | None, reason: str, evidence: str, incident: int) -> None:
        """Put all aside that one source has said, and what it says from now on; None: no more.

        Who is distrusted still speaks: how often it contradicts is evidence.
        """
        with self._guard():
            self._distrusted = name
            table = self.pool.table
            rows = [int(row) for row in table.used if table.source_of(row) == name]
            samples = [table.get(row) for row in rows]
            for row in rows:
                table.clear(row)
            for sample in samples:
                self.quarantine.add(sample, reason, evidence, incident)

    def revoke(self, source: str | None, ids: Collection[int]) -> tuple[int, ...]:
        """Take out of the pool what a source has said, or these predictions; bar them from now on.

        Returns
        -------
        tuple of int
            The predictions whose samples are gone.
        """
        with self._guard():
            if source is not None:
                self.sources.revoke(source)
            for id in ids:
                self._revoked[id] = None
                self._revoked.move_to_end(id)
                self.questions.forget(id)
            while len(self._revoked) > _MOST_REVOKED:
                self._revoked.popitem(last=False)
            gone, doubted = self.pool.revoke(source, ids)
            for sample in doubted:
                evidence = "it was believed on the word of what was revoked"
                self.quarantine.add(sample, "label not believed", evidence)
            return gone

    @property
    def revoked(self) -> frozenset[int]:
        """The predictions that were revoked, the latest 1024 at most."""
        return frozenset(self._revoked)

    def suspect(self, samples: Sequence[Sample], doubt: Doubt) -> None:
        """Unlearn what came of inputs that an incident makes suspect; put the latest aside."""
        with self._guard():
            for sample in samples:
                self._unlearn(sample)
                self.questions.forget(sample.id)
            for sample in samples[-self.quarantine.quota :]:
                self.quarantine.add(sample, *doubt)

    def _unlearn(self, sample: Sample) -> None:
        self.pool.remove(sample.id)
        if sample.digest:
            self.pool.remove_input(sample.digest)

    def release(self, sample: Sample, source: object) -> str:
        """Take a sample back that a person has released, who stands for it from now on.

        Raises
        ------
        FeedbackSourceError, TypeError
            For the source: a person has a capability, which was not revoked.
        ValueError
            For a prediction that was revoked.
        """
        with self._guard():
            if not isinstance(source, FeedbackSource):
                raise TypeError(
                    "source: expected a FeedbackSource, who stands for the sample, "
                    f"got {type(source).__name__}"
                )
            known = self.sources.named(source)
            assert known is not None
            if not known.is_authenticated:
                raise FeedbackSourceError(
                    f"source: expected one with a key to release a suspect, got {source!r}"
                )
            if known.is_revoked:
                raise FeedbackSourceError(
                    f"source: expected one that was not revoked, got {source!r}"
                )
            if sample.id in self._revoked:
                raise ValueError(f"id: expected one that was not revoked, got {sample.id}")
            now = self._clock()
            if sample.label is None and sample.target is None:
                self.questions.ask_again(replace(sample, second=now, source=""))
                return "its label is asked for"
            self.pool.remove(sample.id)
            taken = self.pool.add(replace(sample, source=known.name, weight=1.0, second=now))
            if taken:
                return f"in the trusted pool, on {known.name}'s word"
            return "released; the trusted pool holds others of its kind"

    # ---------------------------------------------------------------- at rest

    def to_plain(self) -> dict[str, Any]:
        """Return what no restart may forget, without samples and who has spoken of what."""
        return {
            "sources": self.sources.to_plain(),
            "lowest": self.lowest,
            "outcomes": {outcome.name: count for outcome, count in self.outcomes.items()},
            "asked": [self.questions.asked, self.questions.answered],
            "revoked": list(self._revoked),
        }

    def go_on_with(self, fields: Mapping[str, Any]) -> None:
        """Go on with what `to_plain` returned.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that; nothing has changed then.
        """
        lowest = None if fields["lowest"] is None else int(fields["lowest"])
        outcomes = {one: int(fields["outcomes"].get(one.name, 0)) for one in Outcome}
        asked, got = (int(n) for n in fields["asked"])
        revoked = OrderedDict.fromkeys(int(n) for n in fields.get("revoked", ()))
        self.sources.go_on_with(fields["sources"])
        if lowest is not None and self.lowest is not None:
            self.lowest = min(lowest, self.lowest)
        self.outcomes, self._revoked = outcomes, revoked
        self.questions.asked, self.questions.answered = asked, got

    def answered_to_plain(self) -> dict[str, Any]:
        """Return who has spoken of which prediction."""
        names = sorted({name for speakers in self._answered.values() for name in speakers})
        said = [[id, *(names.index(n) for n in who)] for id, who in self._answered.items()]
        return {"names": names, "said": said}

    def go_on_with_answered(self, fields: Mapping[str, Any]) -> None:
        """Go on with what `answered_to_plain` returned; raises as `go_on_with`."""
        names = [str(name)[:64] for name in fields["names"]]
        said = [(int(id), tuple(names[n] for n in who)) for id, *who in fields["said"]]
        self._answered = OrderedDict(said[-_MOST_ANSWERED:])


def _labelled(sample: Sample, label: Label | None, source: str, second: float) -> Sample:
    if label is None or isinstance(label, (int, np.integer)):
        known = None if label is None else int(label)
        return replace(sample, label=known, source=source, second=second)
    return replace(sample, target=np.asarray(label, np.float32), source=source, second=second)
