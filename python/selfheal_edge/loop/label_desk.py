"""Where labels come in and questions go out: joins what learns to the model that serves."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.feedback import Feedback
from selfheal_edge.inference.serving import Serving
from selfheal_edge.learning.admission import ClassPlaces
from selfheal_edge.learning.feedback import (
    Claim,
    FeedbackIntake,
    FeedbackReceipt,
    FeedbackRecord,
    RecentAnswers,
)
from selfheal_edge.learning.labels import LabelSpace
from selfheal_edge.learning.pool import TrustedPool
from selfheal_edge.learning.quarantine import Quarantine
from selfheal_edge.learning.questions import Askable, Question, Questions
from selfheal_edge.learning.samples import SampleShape
from selfheal_edge.learning.sources import FeedbackSource, SignedLabel, SourceTable
from selfheal_edge.monitoring.baseline import Baseline
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
_MOST_IDS: Final = 65_536
_MOST_ID: Final = 1 << 63


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
        self._clock = clock
        self._first = first_id
        self._lock = ModelLock(lambda: None)
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
        self._told: deque[Feedback] = deque(maxlen=_TOLD)
        self._records: deque[FeedbackRecord] = deque(maxlen=_TOLD)

    @property
    def memory_bytes(self) -> int:
        """Bytes of pool, quarantine and questions, used or not."""
        parts = self.pool, self.quarantine, self.questions
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

    def recent(self, serving: Serving) -> RecentAnswers:
        """Copy the latest predictions; to be called under the inference lock."""
        number = serving.hot.number  # the last row is this one's
        serving.note_generation()
        kept = self._extractor.recent()
        n = len(kept)
        numbers = np.arange(number - n + 1, number + 1, dtype=np.int64)
        generations = np.array([serving.generations.of(int(k)) for k in numbers], np.int64)
        instance = self._session.instance
        probabilities = None
        if kept.outputs is not None and self._baseline.output_kind is not None:
            probabilities = _probabilities(
                kept.outputs, instance.outputs[0], self._baseline.output_kind
            )
        embeddings = None
        if kept.embeddings is not None and instance.taps:
            real = dequantize(kept.embeddings.reshape(n, -1), instance.taps[0])
            embeddings = np.asarray(real, np.float32)
        is_whole = len(kept.inputs) == len(instance.inputs)
        return RecentAnswers(
            self._first + numbers,
            kept.labels,
            generations,
            kept.inputs if is_whole else (),
            probabilities,
            embeddings,
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
        if isinstance(label, SignedLabel):
            if correct is not None or id is not None or source is not None:
                raise TypeError("label: expected a signed label alone, got other arguments too")
            return (self._signed(label),), False
        if _is_signed_list(label):
            return tuple(self._signed(one) for one in label), True
        if label is None and correct is None:
            raise TypeError("label, correct: expected at least one of them, got neither")
        if _is_many(id):
            ids = _read_ids(id)
            labels: Sequence[Any] = [None] * len(ids)
            if label is not None:
                labels = self.space.read_many(label, len(ids))
            right = _read_correct(correct, len(ids))
            return tuple(
                Claim(one, said, is_right, source)
                for one, said, is_right in zip(ids, labels, right, strict=True)
            ), True
        if id is None and not len(recent.ids):
            raise ValueError("id: expected a prediction before the first feedback, got none")
        one = int(recent.ids[-1]) if id is None else _read_id(id)
        said = None if label is None else self.space.read(label)
        return (Claim(one, said, _read_correct(correct, 1)[0], source),), False

    def _signed(self, signed: SignedLabel) -> Claim:
        said = None if signed.label is None else self.space.read(signed.label)
        if said is None and signed.correct is None:
            raise ValueError("signed label: expected a label, or right or wrong, got neither")
        return Claim(signed.id, said, signed.correct, None, signed)

    def take(
        self, claims: Sequence[Claim], recent: RecentAnswers
    ) -> tuple[tuple[FeedbackReceipt, ...], tuple[FeedbackRecord, ...]]:
        """Take feedback in; return what became of each, and what was accepted."""
        receipts, records = self.intake.take(claims, recent)
        with self._lock.lock():
            self._records.extend(records)
            self._told.extend(_for_diagnosis(record) for record in records if _is_told(record))
        return receipts, records

    @property
    def told(self) -> tuple[Feedback, ...]:
        """The latest labels, at most 256, as a diagnosis reads them; oldest first."""
        with self._lock.lock():
            return tuple(self._told)

    def labelled(self, oldest: int) -> LabelledAnswers | None:
        """Return the asked labels of predictions from `oldest` on: these say how many are right.

        What was volunteered says nothing of that; nor does what is asked where golden and a
        candidate part, or where margins are small, without the rest.
        """
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

    def ask(self, limit: int, recent: RecentAnswers) -> tuple[Question, ...]:
        """Return at most `limit` questions."""
        m = recent.with_input
        if not m:
            return ()
        found = Askable(
            recent.ids[-m:],
            tuple(part[-m:] for part in recent.inputs),
            None if recent.probabilities is None else recent.probabilities[-m:],
            None if recent.embeddings is None else recent.embeddings[-m:],
            recent.predicted[-m:],
            recent.generations[-m:],
        )
        with self._lock.lock():
            suspects = self.quarantine.table.rows["id"]
            taken = self.intake.answered | set(suspects[suspects >= 0].tolist())
        return self.questions.ask(limit, found, taken)

    def _released(self, sample: Any, source: object) -> str:
        return self.intake.release(sample, source)

    # ---------------------------------------------------------------- at rest

    def rows(self, keep_inputs: float | None) -> dict[str, bytes]:
        """Return what is to be kept beyond the process, by name.

        Parameters
        ----------
        keep_inputs
            Seconds for which inputs may lie in a store; None: not at all.
        """
        with self._lock.lock():
            now = self._clock()
            oldest = 0.0 if keep_inputs is None else keep_inputs
            facts = self.intake.to_plain()
            facts["confirmed"] = self.quarantine.confirmed.tobytes().hex()
            facts["confirmations"] = self.quarantine.confirmations
            return {
                "facts": json.dumps(facts, sort_keys=True).encode(),
                "pool": self.pool.table.to_bytes(now, oldest=oldest),
                "quarantine": self.quarantine.table.to_bytes(now, oldest=oldest),
                "questions": self.questions.table.to_bytes(now, oldest=oldest),
            }

    def go_on_with(self, rows: Mapping[str, bytes]) -> list[str]:
        """Go on with what `rows` returned in the process before; return what could not be read."""
        problems: list[str] = []
        now = self._clock()
        with self._lock.lock():
            if "facts" in rows:
                try:
                    self._recall(json.loads(rows["facts"]))
                except (ValueError, LookupError, TypeError) as error:
                    problems.append(f"feedback begins anew: {error}")
            tables = {
                "pool": self.pool.table,
                "quarantine": self.quarantine.table,
                "questions": self.questions.table,
            }
            for name, table in tables.items():
                if name not in rows:
                    continue
                try:
                    table.go_on_with(rows[name], now)
                except (RuntimeError, ValueError) as error:
                    problems.append(f"the {name} begins anew: {error}")
            for row in self.pool.table.used:  # nothing can be learned from what has no input
                if not self.pool.table.rows["has_input"][row]:
                    self.pool.table.clear(int(row))
        return problems

    def _recall(self, facts: Mapping[str, Any]) -> None:
        digests = np.frombuffer(bytes.fromhex(facts["confirmed"]), np.uint8)
        confirmations = int(facts["confirmations"])
        if digests.size != self.quarantine.confirmed.size or confirmations < 0:
            raise ValueError("expected the digests of confirmed inputs")
        self.intake.go_on_with(facts)
        lowest = self.intake.lowest
        self.intake.lowest = self._first if lowest is None else min(lowest, self._first)
        self.quarantine.confirmed[:] = digests.reshape(self.quarantine.confirmed.shape)
        self.quarantine.confirmations = confirmations

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
    return baseline.output_kind is None and baseline.detections is None


def _target_size(baseline: Baseline, outputs: Sequence[TensorSpec]) -> int:
    if not _is_regressor(baseline):
        return 0
    return int(np.prod(outputs[0].shape, dtype=np.int64))


def _space(baseline: Baseline, outputs: Sequence[TensorSpec]) -> LabelSpace:
    if _is_regressor(baseline):
        return LabelSpace(None, _row_shape(outputs[0]))
    if baseline.output_kind is None:
        return LabelSpace(None)
    return LabelSpace(max(2, int(np.prod(outputs[0].shape, dtype=np.int64))))


def _probabilities(outputs: Array, spec: TensorSpec, kind: str) -> npt.NDArray[np.float32]:
    values = np.asarray(dequantize(outputs.reshape(len(outputs), -1), spec), np.float32)
    values = np.nan_to_num(values)
    if values.shape[1] == 1:
        if kind == "logits":
            values = np.asarray(1 / (1 + np.exp(-np.clip(values, -80, 80))), np.float32)
        return np.concatenate([1.0 - values, values], axis=1)
    if kind == "logits":
        values = np.asarray(np.exp(values - values.max(axis=1, keepdims=True)), np.float32)
        values /= values.sum(axis=1, keepdims=True)
    return values


def _is_many(id: Any) -> bool:
    return isinstance(id, (list, tuple)) or (isinstance(id, np.ndarray) and id.ndim > 0)


def _is_signed_list(label: Any) -> bool:
    is_list = isinstance(label, (list, tuple)) and bool(label)
    return is_list and all(isinstance(one, SignedLabel) for one in label)


def _read_id(id: Any, argument: str = "id") -> int:
    if isinstance(id, np.ndarray) and id.ndim == 0:
        id = id[()]
    if isinstance(id, (bool, np.bool_)) or not isinstance(id, (int, np.integer)):
        raise TypeError(f"{argument}: expected a prediction's id, got {type(id).__name__}")
    if not 0 <= int(id) < _MOST_ID:
        raise ValueError(f"{argument}: expected a prediction's id, got {int(id)}")
    return int(id)


def _read_ids(ids: Any) -> list[int]:
    if isinstance(ids, np.ndarray) and (ids.ndim != 1 or ids.dtype.kind not in "iu"):
        raise TypeError(
            f"id: expected a vector of integers, got {ids.dtype} of shape {list(ids.shape)}"
        )
    if len(ids) > _MOST_IDS:
        raise ValueError(f"id: expected at most {_MOST_IDS} at once, got {len(ids)}")
    return [_read_id(one, f"id[{n}]") for n, one in enumerate(ids)]


def _read_correct(correct: Any, count: int) -> list[bool | None]:
    if correct is None or isinstance(correct, (bool, np.bool_)):
        one = None if correct is None else bool(correct)
        return [one] * count
    fits = _is_many(correct) and len(correct) == count
    if fits and all(isinstance(one, (bool, np.bool_)) for one in correct):
        return [bool(one) for one in correct]
    got = f"{len(correct)} of them" if _is_many(correct) else type(correct).__name__
    raise TypeError(f"correct: expected a bool, or one for each of {count} ids, got {got}")


def _is_told(record: FeedbackRecord) -> bool:
    return record.correct is not None and record.predicted >= 0


def _for_diagnosis(record: FeedbackRecord) -> Feedback:
    label = record.label if isinstance(record.label, int) else None
    return Feedback(record.source, record.predicted, label, bool(record.correct), record.embedding)
