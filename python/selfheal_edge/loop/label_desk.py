"""Where labels come in and questions go out: joins what learns to the model that serves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.contradictions import contradictions_of
from selfheal_edge.diagnosis.feedback import Feedback
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.errors import FeedbackSourceError
from selfheal_edge.inference.serving import Serving
from selfheal_edge.learning.admission import ClassPlaces
from selfheal_edge.learning.claims import MOST_ID, read_claims
from selfheal_edge.learning.feedback import (
    Claim,
    Doubt,
    FeedbackIntake,
    FeedbackReceipt,
    FeedbackRecord,
    RecentAnswers,
)
from selfheal_edge.learning.labels import LabelSpace
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.lesson_inputs import LessonInputs
from selfheal_edge.learning.pool import Labelled, TrustedPool
from selfheal_edge.learning.quarantine import Quarantine
from selfheal_edge.learning.questions import Askable, Parting, Question, Questions
from selfheal_edge.learning.samples import SampleShape
from selfheal_edge.learning.sources import (
    UNAUTHENTICATED,
    FeedbackSource,
    SignedLabel,
    SourceTable,
)
from selfheal_edge.loop.suspects import Judge, judge_for, suspect_all
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.estimate import abnormal_above
from selfheal_edge.monitoring.labelled import LabelledAnswers
from selfheal_edge.monitoring.signals import SignalExtractor
from selfheal_edge.policy import Policy
from selfheal_edge.tflite.arrays import dequantize
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec
from selfheal_edge.tflite.session import Session

if TYPE_CHECKING:
    from selfheal_edge.store.keys import KeyArgument

__all__ = ["LabelDesk"]

_TOLD: Final = 256
_USUAL_ERRORS: Final = 0.05
_LOOK_EVERY: Final = 16
_LATEST: Final = 256
_LEAST_ASKED_OF: Final = 32
"""Latest inputs, at least, of which some are asked for: an onset is an estimate."""
_ONE_IN: Final = 128


@dataclass(slots=True, eq=False)
class _Suspicion:
    """Which inputs an incident makes suspect."""

    judge: Judge
    doubt: Doubt
    first: int
    """The id of the first prediction that may be suspect."""
    seen: int
    """The id of the latest one that was judged in order to be put aside."""
    last: int = MOST_ID
    """The id of the last one."""
    aside: int = 0
    """How many were put aside."""


class LabelDesk:
    """Takes feedback in for one model, and asks for labels.

    Parameters
    ----------
    session, baseline, extractor
        What answers, what calibration learned, and what keeps the latest predictions.
    policy
        Has the caps.
    clock
        Monotonic seconds.
    first_id
        `Prediction.id` of an inference is this and its number.
    seed
        Of what is drawn, for tests; None draws from the operating system.

    Notes
    -----
    Its own lock is taken last and held for one look at the samples: never while a model runs.
    """

    def __init__(
        self,
        *,
        session: Session,
        baseline: Baseline,
        extractor: SignalExtractor,
        policy: Policy,
        clock: Callable[[], float],
        first_id: int,
        seed: int | None = None,
    ) -> None:
        self._session = session
        self._baseline = baseline
        self._extractor = extractor
        self._first = first_id
        self._lock = ModelLock(lambda: None)
        self.clock = clock
        """Monotonic seconds."""
        self._owner = policy.owner
        self._serving: Serving | None = None
        self._seed = seed
        self._rng: np.random.Generator | None = None
        instance = session.instance
        shape = SampleShape(
            tuple((spec.dtype.str, _row_shape(spec)) for spec in instance.inputs),
            _embedding_width(extractor, instance.taps),
            _target_size(baseline, instance.outputs),
        )
        self.space: Final = _space(baseline, instance.outputs)
        """What labels may be."""
        places = ClassPlaces(baseline.embedding, self.space.classes)
        guard = self._lock.lock
        self.pool = TrustedPool(
            shape, policy.pool_bytes, places=places, clock=clock, rng=self._random, guard=guard
        )
        self.quarantine = Quarantine(
            shape, policy.quarantine_bytes, guard=guard, released=self._released
        )
        self.questions = Questions(
            shape, policy.questions_bytes, clock=clock, rng=self._random, guard=guard
        )
        self.sources = SourceTable(
            session.model.sha256,
            policy.source_labels_per_hour,
            policy.unauthenticated_labels_per_hour,
        )
        self.intake = FeedbackIntake(
            self.sources, self.pool, self.quarantine, self.questions, clock=clock, guard=guard
        )
        self.intake.lowest = first_id
        lesson_bytes = policy.lesson_bytes if policy.snapshots else 0  # nothing is learned without
        self.lesson_inputs = LessonInputs(shape, lesson_bytes, clock=clock, guard=guard)
        self.is_urgent = False
        """Whether what was revoked waits to be written."""
        self._told: deque[Feedback] = deque(maxlen=_TOLD)
        self._since_look = 0
        self._latest_incident = "", 0
        self._suspicions: tuple[_Suspicion, ...] = ()
        """What makes inputs suspect that are still held; the latest may go on."""
        self._released_ids: deque[int] = deque(maxlen=_LATEST)
        self.named_by: tuple[Feedback, ...] = ()
        """What the latest diagnosis of labels was made of."""
        self._records: deque[FeedbackRecord] = deque(maxlen=_TOLD)

    @property
    def memory_bytes(self) -> int:
        """Bytes of pool, quarantine, questions and inputs of lessons, used or not."""
        parts = self.pool, self.quarantine, self.questions, self.lesson_inputs
        return sum(part.memory_bytes for part in parts)

    def _random(self) -> np.random.Generator:
        if self._rng is None:  # it is loaded for those who have labels
            self._rng = np.random.default_rng(self._seed)
        return self._rng

    def source(self, name: str, key: KeyArgument) -> FeedbackSource:
        """Make a source known, and return the capability."""
        with self._lock:
            return self.sources.add(name, key)

    # ---------------------------------------------------------------- what comes in

    def follow(self, serving: Serving) -> None:
        """Take labels for what this serves."""
        self._serving = serving

    def _number(self) -> int:
        return 0 if self._serving is None else self._serving.hot.number

    def recent(self, most: int = _LATEST) -> RecentAnswers:
        """Copy the latest predictions, at most so many; to be called under the inference lock."""
        serving = self._serving
        assert serving is not None, "follow() comes first"
        number = serving.hot.number  # the last row is this one's
        serving.note_generation()
        kept = self._extractor.recent(most)
        numbers = np.arange(number - len(kept) + 1, number + 1, dtype=np.int64)
        generations = serving.generations.of_all(numbers)
        instance = self._session.instance
        probabilities = None
        if kept.outputs is not None and self._baseline.output_kind is not None:
            probabilities = _probabilities(
                kept.outputs, instance.outputs[0], self._baseline.output_kind
            )
        embeddings = raw = None
        if kept.embeddings is not None and instance.taps:
            real = dequantize(_flat(kept.embeddings), instance.taps[0])
            embeddings = np.asarray(real, np.float32)
            raw = np.asarray(_flat(kept.embeddings), np.float32)
        is_whole = len(kept.inputs) == len(instance.inputs)
        return RecentAnswers(
            self._first + numbers,
            kept.labels,
            generations,
            kept.inputs if is_whole else (),
            probabilities,
            embeddings,
            raw,
            self._first,
        )

    def read(
        self,
        label: Any,
        correct: bool | None,
        id: Any,
        source: FeedbackSource | str | None,
        recent: RecentAnswers,
    ) -> tuple[tuple[Claim, ...], bool]:
        """Read the arguments of `SelfHealingModel.feedback`; return claims, and whether many.

        Raises
        ------
        TypeError, ValueError, FeedbackSourceError
            Naming the argument, what was expected and what came; nothing has changed then.
        """
        self.sources.named(source)  # raises for what is none
        latest = int(recent.ids[-1]) if len(recent.ids) else None
        return read_claims(self.space, label, correct, id, source, latest)

    def take(
        self, claims: Sequence[Claim], recent: RecentAnswers, odd_since: int | None = None
    ) -> tuple[tuple[FeedbackReceipt, ...], tuple[FeedbackRecord, ...]]:
        """Take feedback in; return what became of each, and what was accepted.

        Parameters
        ----------
        claims, recent
            As read.
        odd_since
            The number of the prediction from which on inputs are not as always, so that labels that
            contradict say nothing of what they mean; None: they are.
        """
        odd = MOST_ID if odd_since is None else self._first + odd_since
        asked = frozenset(claim.id for claim in claims) if self._suspicions else frozenset()
        suspects = self._doubts(recent, asked) if asked else {}
        receipts, records = self.intake.take(claims, recent, suspects)
        with self._lock.lock():
            self._records.extend(records)
            told = [_for_diagnosis(one, one.id < odd) for one in records if _tells(one)]
            self._told.extend(told)
            self._since_look += len(told)
        return receipts, records

    def is_due(self) -> bool:
        """Whether so many labels have come since the last look that they are worth another."""
        with self._lock.lock():
            is_due = self._since_look >= _LOOK_EVERY
            if is_due:
                self._since_look = 0
            return is_due

    def named(self) -> None:
        """Forget what a diagnosis was made of: it takes as much again for the next one."""
        with self._lock.lock():
            self.named_by = tuple(self._told)
            self._told.clear()

    # ---------------------------------------------------------------- what is put aside

    def trouble_changed(
        self, trouble: Diagnosis | None, since: int | None, lock: ModelLock
    ) -> None:
        """Put inputs aside that a trouble makes suspect, from its onset on, until it ends.

        Parameters
        ----------
        trouble
            What goes on now; None where it has ended.
        since
            The number of the prediction at which it began; None: not known.
        lock
            The inference lock.
        """
        serving = self._serving
        assert serving is not None, "follow() comes first"
        found = None if trouble is None else judge_for(trouble, self._baseline)
        if trouble is None or trouble.cause is not Cause.POISONING:
            self.intake.distrust(None, "", "", 0)
        else:
            self._distrust(str(trouble))
        if trouble is None:
            self._latest_incident = "", 0
        if found is None or trouble is None:
            if serving.is_suspect is not None:
                with lock.lock():
                    self._suspicion_ended(self._first + self._number())
                    serving.suspect(None)
            return
        judge, reason = found
        evidence = "; ".join(fact.text for fact in trouble.evidence)
        with lock.lock():
            recent = self.recent()
            now = self._first + self._number()
            first = now + 1 if since is None else self._first + since
            doubt = Doubt(reason, evidence, self._incident(reason))
            self._suspicion_ended(now)
            self._suspicions = (*self._suspicions, _Suspicion(judge, doubt, first, now))
            serving.suspect(self._judge_latest, all_are=judge is suspect_all)
        self._put_aside(recent, self._suspicions[-1])

    def _incident(self, reason: str) -> int:
        """Return the number of an incident: the same for one that is only named anew."""
        with self._lock.lock():
            if self._latest_incident[0] != reason:
                self._latest_incident = reason, self.quarantine.next_incident
            return self._latest_incident[1]

    def _distrust(self, evidence: str) -> None:
        found = contradictions_of(self.named_by or self.told, _USUAL_ERRORS)
        if found is not None:
            incident = self._incident("poisoning")
            self.intake.distrust(found.suspect, "poisoning", evidence, incident)

    def _suspicion_ended(self, last: int) -> None:
        """Take note that inputs after this one are not suspect; forget what is not held any more.

        Called under the inference lock.
        """
        oldest = last - _LATEST
        ended = (replace(one, last=min(one.last, last)) for one in self._suspicions)
        self._suspicions = tuple(one for one in ended if one.last > oldest)

    def _judge_latest(self) -> bool:
        """Judge the latest input; called under the inference lock, of some of the predictions.

        As many are put aside as an incident has room for, and then one in 128: the others say no
        more, and every prediction would pay for them. Whether one of these is suspect is found out
        when something is said of it.
        """
        one, number = self._suspicions[-1], self._first + self._number()
        is_full = one.aside >= self.quarantine.quota
        if not is_full or number - one.seen >= _ONE_IN:
            recent = self.recent(1 if is_full else min(number - one.seen, _LATEST))
            return number in self._put_aside(recent, one)
        if one.judge is suspect_all:
            return True
        return bool(one.judge(self.recent(1))[-1])

    def _put_aside(self, recent: RecentAnswers, one: _Suspicion) -> frozenset[int]:
        """Unlearn what came of suspects, and put them aside; return which they are."""
        found = self._suspects(recent, one)
        now = self.clock()
        self.intake.suspect([recent.sample(row, now) for row in found], one.doubt)
        one.aside += len(found)
        one.seen = self._first + self._number()
        return frozenset(recent.ids[found].tolist())

    def _suspects(
        self, recent: RecentAnswers, one: _Suspicion, of: frozenset[int] | None = None
    ) -> npt.NDArray[np.intp]:
        """Return the rows of the predictions that are suspect, of those with these ids if given."""
        is_asked = (recent.ids >= one.first) & (recent.ids <= one.last)
        without = frozenset(self._released_ids)
        for row in np.flatnonzero(is_asked).tolist():
            number = int(recent.ids[row])
            if number in without or (of is not None and number not in of):
                is_asked[row] = False
        rows = np.flatnonzero(is_asked)
        return rows[one.judge(recent.answers(rows))] if len(rows) else rows

    def _doubts(self, recent: RecentAnswers, of: frozenset[int] | None = None) -> dict[int, Doubt]:
        """Return which of the latest predictions are suspect: all of them, or those asked for."""
        return {
            number: one.doubt
            for one in self._suspicions
            for number in recent.ids[self._suspects(recent, one, of)].tolist()
        }

    @property
    def told(self) -> tuple[Feedback, ...]:
        """The latest labels, at most 256, as a diagnosis reads them; oldest first."""
        with self._lock.lock():
            return tuple(self._told)

    def labelled(self, latest: int) -> LabelledAnswers | None:
        """Return labels, drawn from all inputs, of so many latest predictions.

        These say how many answers are right. What was volunteered says nothing of that, nor does
        what is asked where golden and a candidate part, or where margins are small.
        """
        oldest = self._first + self._number() - latest + 1
        with self._lock.lock():
            right = [
                bool(record.correct)
                for record in self._records
                if record.id >= oldest
                and record.authenticated
                and record.correct is not None
                and record.question is not None
                and record.question.stratum == "any"
                and not record.question.answers_before
            ]
        return LabelledAnswers(np.array(right, bool)) if right else None

    # ---------------------------------------------------------------- what goes out

    def ask(
        self,
        limit: int,
        recent: RecentAnswers,
        parting: Parting | None = None,
        odd_since: int | None = None,
    ) -> tuple[Question, ...]:
        """Return at most `limit` questions.

        Parameters
        ----------
        limit, recent
            How many, and about which predictions.
        parting
            What golden and a repair on probation answer to the latest of their inputs: only these
            are asked about then, since the repair is for no others.
        odd_since
            The prediction from which on something was wrong: labels of inputs of before say nothing
            of it. None where nothing is.
        """
        count = recent.with_input if parting is None else len(parting.golden)
        if parting is None and odd_since is not None:
            since = len(recent.ids) - int(np.searchsorted(recent.ids, self._first + odd_since))
            count = min(count, max(since, _LEAST_ASKED_OF))
        first = len(recent.ids) - count
        doubted = self._doubts(recent) if self._suspicions else {}
        found = Askable(
            recent.ids[first:],
            tuple(part[len(part) - count :] for part in recent.inputs),
            None if recent.probabilities is None else recent.probabilities[first:],
            None if recent.embeddings is None else recent.embeddings[first:],
            recent.predicted[first:],
            recent.generations[first:],
        )
        with self._lock.lock():
            suspects = self.quarantine.table.rows["id"]
            taken = self.intake.answered | doubted.keys() | set(suspects[suspects >= 0].tolist())
        return self.questions.ask(limit, found, taken, parting)

    def labelled_since(self, ago: int, also: Collection[int] = ()) -> Labelled | None:
        """Return what may be learned from; None without targets.

        Parameters
        ----------
        ago
            Of so many latest predictions.
        also
            Of these as well.
        """
        if self._is_taught_nothing:
            return None
        oldest = self._first + self._number() - ago
        return self.pool.labelled(self._owner, oldest=oldest, also=frozenset(also))

    @property
    def _is_taught_nothing(self) -> bool:
        """Whether targets come that calibration had none of: nothing tells what they are worth."""
        return self.space.target is not None and self._baseline.error is None

    def labelled_of(self, lesson: Lesson) -> Labelled | None:
        """Return the samples of a lesson that the pool still has, as old as they were then."""
        if self._is_taught_nothing:
            return None
        ages = dict(zip(lesson.ids.tolist(), lesson.ages.tolist(), strict=True))
        return self.pool.labelled(self._owner, ages=ages)

    def inputs_since(self, ago: int) -> tuple[npt.NDArray[np.int64], Array]:
        """Return ids and copies of the latest raw inputs, at most `ago` and 256, oldest first.

        To be called under the inference lock.
        """
        kept = self._extractor.recent(min(ago, _LATEST)).inputs if ago > 0 else ()
        inputs = kept[0] if kept else np.empty((0, 1))
        last = self._first + self._number()
        return np.arange(last - len(inputs) + 1, last + 1, dtype=np.int64), inputs

    # ---------------------------------------------------------------- what is taken back

    def revoke(
        self, source: str | None, ids: Collection[int]
    ) -> tuple[tuple[int, ...], tuple[FeedbackRecord, ...]]:
        """Take labels of a source, or of predictions, out of all that is made of labels.

        Returns
        -------
        tuple of int
            Predictions whose samples are gone from the pool.
        tuple of FeedbackRecord
            Labels that are forgotten.
        """
        with self._lock.lock():
            gone = self.intake.revoke(source, ids)
            records = tuple(r for r in self._records if r.source == source or r.id in ids)
            held = [r for r in self._records if r not in records]
            self._records = deque(held, maxlen=_TOLD)
            if source is not None:  # what a diagnosis has heard is kept without its prediction
                self._told = deque((one for one in self._told if one.source != source), _TOLD)
                self.named_by = tuple(one for one in self.named_by if one.source != source)
            self.is_urgent = True
            return gone, records

    def knows(self, source: str) -> bool:
        """Whether a source was ever heard of, as far as that is kept."""
        return source == UNAUTHENTICATED or source in self.sources.names

    def may_know(self, id: int) -> bool:
        """Whether a prediction of this model may have this id."""
        lowest = self.intake.lowest
        return id <= self._first + self._number() and (lowest is None or id > lowest)

    def spend(self, signed: SignedLabel) -> FeedbackSource:
        """Return who has signed; what was signed is used up then.

        Raises
        ------
        FeedbackSourceError
            When the signature does not hold, or was used before.
        """
        with self._lock.lock():
            known, why = self.sources.signer(signed)
            if known is None or known.source is None:
                raise FeedbackSourceError(f"signed: {why}")
            known.counter = signed.counter
            return known.source

    def _released(self, sample: Any, source: object) -> str:
        self._released_ids.append(sample.id)
        return self.intake.release(sample, source)

    def held(self) -> AbstractContextManager[None]:
        """Return a context in which nothing here is changed by another thread."""
        return self._lock.lock()

    def go_on(self) -> None:
        """Make right what rows of the process before say, where some were lost."""
        inputs = self.lesson_inputs.table
        for row in inputs.used:
            if not inputs.rows["has_input"][row]:
                inputs.clear(row)
        table = self.pool.table
        for row in table.used:  # nothing is learned from what has no input, or is suspect
            if not table.rows["has_input"][row] or self.quarantine.holds(table.get(int(row))):
                table.clear(int(row))

    def close(self) -> None:
        """Take no more in; what there is can still be looked at."""
        self._lock.close()


def _row_shape(spec: TensorSpec) -> tuple[int, ...]:
    return spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape


def _embedding_width(extractor: SignalExtractor, taps: Sequence[TensorSpec]) -> int:
    if extractor.tap < 0 or not taps:
        return 0
    return int(np.prod(taps[0].shape, dtype=np.int64))


def _is_regressor(baseline: Baseline) -> bool:
    has_classes = baseline.output_kind is not None or baseline.detections is not None
    return not has_classes and abnormal_above(baseline) is None


def _target_size(baseline: Baseline, outputs: Sequence[TensorSpec]) -> int:
    if not _is_regressor(baseline):
        return 0
    return int(np.prod(outputs[0].shape, dtype=np.int64))


def _space(baseline: Baseline, outputs: Sequence[TensorSpec]) -> LabelSpace:
    if _is_regressor(baseline):
        return LabelSpace(None, _row_shape(outputs[0]))
    if baseline.output_kind is None:
        is_detector = baseline.detections is not None
        return LabelSpace(None) if is_detector else LabelSpace(2, is_normality=True)
    return LabelSpace(max(2, int(np.prod(outputs[0].shape, dtype=np.int64))))


def _flat(rows: Array) -> Array:
    return rows.reshape(len(rows), int(np.prod(rows.shape[1:], dtype=np.int64)))  # also of none


def _probabilities(outputs: Array, spec: TensorSpec, kind: str) -> npt.NDArray[np.float32]:
    values = np.asarray(dequantize(_flat(outputs), spec), np.float32)
    values = np.nan_to_num(values)
    if values.shape[1] == 1:
        if kind == "logits":
            values = np.asarray(1 / (1 + np.exp(-np.clip(values, -80, 80))), np.float32)
        return np.concatenate([1.0 - values, values], axis=1)
    if kind == "logits":
        values = np.asarray(np.exp(values - values.max(axis=1, keepdims=True)), np.float32)
        values /= values.sum(axis=1, keepdims=True)
    return values


def _tells(record: FeedbackRecord) -> bool:
    """Whether a label says something of how often answers are contradicted.

    Where margins are small, or golden and a repair part, answers are wrong more often than
    elsewhere: labels that were asked for since that is so do not.
    """
    is_drawn = record.question is None or record.question.stratum == "any"
    return is_drawn and record.correct is not None and record.predicted >= 0


def _for_diagnosis(record: FeedbackRecord, is_ordinary: bool) -> Feedback:
    label = record.label if isinstance(record.label, int) else None
    return Feedback(
        record.source,
        record.predicted,
        label,
        bool(record.correct),
        record.embedding,
        is_ordinary,
    )
