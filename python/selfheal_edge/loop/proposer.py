"""Have strategies learn a repair, within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.errors import BudgetExhaustedError, ForkedProcessError, ModelClosedError
from selfheal_edge.learning.bench import Bench, BenchAnswers
from selfheal_edge.learning.contents import leaders, nearest_others, reach_among
from selfheal_edge.learning.errors import error_of, saved, units_of, worth
from selfheal_edge.learning.head import Head, find_head
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.material import LEAST_WINDOW, Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.questions import Parting
from selfheal_edge.learning.reference import LearningReference
from selfheal_edge.learning.selection import Proposal, Standing, keeps_its_place
from selfheal_edge.log import logger
from selfheal_edge.loop.incidents import Proposed
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.estimate import abnormal_above
from selfheal_edge.repair.budget import RepairBudget
from selfheal_edge.repair.certificate import Certificate, certify
from selfheal_edge.repair.proposing import propose
from selfheal_edge.repair.protocol import LearningStrategy
from selfheal_edge.tflite.session import Session

__all__ = ["Harm", "Proposer"]

Samples = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]
_SEEDS: Final = 1 << 62
_LEAST_LABELS: Final = 8
"""For a cause that is not known, where no known input can be carried into the condition."""


_NOTHING_ASKED: Final[Mapping[int, Samples]] = MappingProxyType({})
_SURE: Final = 1.28
"""Standard errors that are added to a loss on held inputs: 90 % sure, and it is tried often."""


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What is to be learned from, and for what."""

    names: tuple[str, ...]
    cause: Cause
    kind: str
    mix_moved: bool
    seed: int
    ids: Ids
    """Of the inputs."""
    window: Samples
    labelled: Labelled | None


class Harm(NamedTuple):
    """What a repair costs in normal operation, in accuracy from 0 to 1."""

    expected: float
    most: float
    """90 % sure: held inputs are few, and where the repair serves all of them that is all there
    is to go by."""
    text: str
    """What it is made of."""


class Proposer:
    """Asks strategies for a patch, and takes the best of what they make (`repair.proposing`).

    Parameters
    ----------
    session, baseline
        What serves, and what calibration learned of it.
    strategies
        Those that learn, by name.
    inputs_since
        Returns ids and copies of the latest raw inputs, at most so many.
    labelled_since
        Returns what may be learned from, of so many latest predictions, and of those besides.
    budget
        What it may cost.
    owner
        The source of labels whose word needs no second one; None: there is none such.
    seed
        Of what is drawn, for tests; None draws from the operating system.
    """

    def __init__(
        self,
        *,
        session: Session,
        baseline: Baseline,
        strategies: Mapping[str, LearningStrategy],
        inputs_since: Callable[[int], tuple[Ids, Samples]],
        labelled_since: Callable[[int, Collection[int]], Labelled | None],
        budget: RepairBudget,
        owner: str | None = None,
        seed: int | None = None,
    ) -> None:
        self._session = session
        self._baseline = baseline
        self.strategies: Final = strategies
        """Those that learn, by name."""
        self._inputs_since = inputs_since
        self._labelled_since = labelled_since
        self.budget = budget
        """What is left of it."""
        self._owner = owner
        self._seed = seed
        self._bench: Bench | None = None
        self._asked: dict[int, npt.NDArray[np.float32]] = {}

    @cached_property
    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self._seed)

    @cached_property
    def _reference(self) -> LearningReference | None:
        try:
            return LearningReference.from_arrays(self._baseline.profile)
        except (ValueError, LookupError, TypeError):
            logger().warning("what calibration kept for learning cannot be read", exc_info=True)
            return None

    @cached_property
    def _head(self) -> Head | str:
        reference = self._reference
        has_targets = reference is not None and reference.targets is not None
        is_regression = has_targets or self._threshold is not None
        return find_head(self._session.copy.model, is_regression=is_regression)

    @cached_property
    def _threshold(self) -> float | None:
        return abnormal_above(self._baseline)

    def _answering(self) -> Bench:
        """Return what asks golden and candidates beside the stream; made when first needed."""
        if self._bench is None:
            has_embedding = self._baseline.embedding is not None
            kind, threshold = self._baseline.output_kind, self._threshold
            self._bench = Bench(self._session, kind, has_embedding, threshold)
        return self._bench

    def propose(
        self,
        names: tuple[str, ...],
        diagnosis: Diagnosis,
        ago: int,
        paid: Callable[[], None] = lambda: None,
        also: Collection[int] = (),
        standing: Standing | None = None,
    ) -> Proposed:
        """Have strategies learn.

        Parameters
        ----------
        names
            Of the strategies, in order.
        diagnosis
            What it is for.
        ago
            Predictions since the condition began.
        paid
            Called once the budget has paid for it, before anything is learned.
        also
            Earlier predictions whose labels count as well.
        standing
            What serves for this condition: nothing worse takes its place.

        Returns
        -------
        Proposed
            Without a patch where nothing helps, the budget is spent, or a strategy broke down.
        """
        if self._reference is None:
            text = "calibration has kept nothing that a repair compares with"
            return Proposed(names, None, text, is_refused=True)
        ids, window = _finite(*self._inputs_since(ago))
        if len(window) < LEAST_WINDOW:
            text = f"{len(window)} of at least {LEAST_WINDOW} inputs of the condition are held"
            return Proposed(names, None, text)
        labelled = self._labelled_since(ago, also)
        count = 0 if labelled is None else len(labelled)
        if diagnosis.cause is Cause.UNKNOWN and count < _LEAST_LABELS:
            if not self._reference.can_be_carried:
                text = f"nothing says what helps: {count} of at least {_LEAST_LABELS} labels"
                return Proposed(names, None, text, is_refused=True)
            labelled = None
        try:
            self.budget.begin()
        except BudgetExhaustedError as error:
            return Proposed(names, None, str(error))
        paid()
        return self._learned(
            lambda: _Task(
                names,
                diagnosis.cause,
                diagnosis.kind,
                _mix_moved(diagnosis),
                int(self._rng.integers(_SEEDS)),
                ids,
                window,
                labelled,
            ),
            names,
            standing,
        )

    def learn_again(self, lesson: Lesson, window: Samples, labelled: Labelled | None) -> Proposed:
        """Have the same strategies learn from a lesson once more, in the same way.

        Parameters
        ----------
        lesson
            What is left of it.
        window
            Its inputs.
        labelled
            Its labelled samples that the pool still has, with the ages of then.

        Returns
        -------
        Proposed
            As `propose`; the budget pays for the time, and refuses nothing.
        """
        names = lesson.names
        missing = sorted(set(names) - set(self.strategies))
        if not names or missing or self._reference is None:
            return Proposed(names, None, f"it cannot be learned again: no strategies {missing}")
        if len(window) < LEAST_WINDOW:
            text = f"{len(window)} of at least {LEAST_WINDOW} inputs of the condition are left"
            return Proposed(names, None, text)
        head = names, lesson.cause, lesson.kind, lesson.mix_moved, lesson.seed
        return self._learned(lambda: _Task(*head, lesson.window, window, labelled), names)

    def _learned(
        self, task: Callable[[], _Task], names: tuple[str, ...], standing: Standing | None = None
    ) -> Proposed:
        started = time.thread_time()
        try:
            return self._propose(task(), standing)
        except (ModelClosedError, ForkedProcessError):
            raise
        except Exception as error:
            logger().warning("%s failed", "+".join(names), exc_info=error)
            return Proposed(names, None, f"{type(error).__name__}: {error}")
        finally:
            self.budget.spend(time.thread_time() - started)

    def _propose(self, task: _Task, standing: Standing | None) -> Proposed:
        names, head = task.names, self._head
        material, stay, chosen = self._chosen(task)
        told = material.labelled
        lesson = Lesson(
            names,
            task.cause,
            task.kind,
            task.mix_moved,
            task.seed,
            task.ids[stay],
            told.ids,
            told.sources,
            np.ones(len(told)) if told.ages is None else told.ages,
            material.window,
            material.golden_on(told.inputs).embeddings if len(told) else None,
        )
        evidence = chosen.evidence
        if not isinstance(head, Head):
            evidence = (f"the head is left alone: {head}", *evidence)
        if chosen.patch is None:
            text = "nothing is better than golden" if chosen.details else "; ".join(evidence)
            return Proposed(names, None, text, evidence, chosen.details)
        if standing is not None and (why := keeps_its_place(material, standing, chosen)):
            text = "nothing is better than what serves"
            return Proposed(names, None, text, (*evidence, why), chosen.details)
        labels = f", {len(told)} labels" if len(told) else ""
        text = (
            f"{chosen.patch.text}; {_gain(material, chosen.gain)} expected, from "
            f"{len(material.window)} inputs{labels}"
        )
        return Proposed(chosen.names, chosen.patch, text, evidence, chosen.details, lesson=lesson)

    def _chosen(self, task: _Task) -> tuple[Material, npt.NDArray[np.bool_], Proposal]:
        """Return what strategies learn from, which inputs of the window are in it, and the best."""
        reference, head = self._reference, self._head
        assert reference is not None, "it was asked for"
        material = Material(
            reference=reference,
            head=head if isinstance(head, Head) else None,
            bench=self._answering(),
            window=task.window,
            labelled=_nothing(task.window, reference) if task.labelled is None else task.labelled,
            mix_moved=task.mix_moved,
            cause=task.cause,
            kind=task.kind,
            rng=np.random.default_rng(task.seed),
        )
        material, stay = _answerable(material)
        strategies = [self.strategies[name] for name in task.names]
        return material, stay, propose(material, strategies, self._owner)

    def certify(
        self, lesson: Lesson, window: Samples, labelled: Labelled | None, patch: Patch
    ) -> Certificate | None:
        """Return how many labels cannot change what a repair answers; the budget pays for the time.

        It is chosen once more, as it was, and its strategies learn from parts of its labels.

        Parameters
        ----------
        lesson, window, labelled
            As for `learn_again`.
        patch
            The repair.

        Returns
        -------
        Certificate or None
            None where no label has taught it, or where it does not come out as it was: some of what
            it was learned from is not held any more.
        """
        if set(lesson.names) - set(self.strategies) or self._reference is None or not lesson.names:
            return None
        started = time.thread_time()
        head = lesson.names, lesson.cause, lesson.kind, lesson.mix_moved, lesson.seed
        try:
            material, _, chosen = self._chosen(_Task(*head, lesson.window, window, labelled))
            if chosen.patch is None or not chosen.patch.says_as(patch):
                return None
            heard = material if chosen.sources is None else material.of_sources(chosen.sources)
            return certify(heard, [self.strategies[name] for name in chosen.names], patch)
        except (ModelClosedError, ForkedProcessError):
            raise
        except Exception:
            logger().warning("a repair cannot be certified", exc_info=True)
            return None
        finally:
            self.budget.spend(time.thread_time() - started)

    def harm(self, patch: Patch, mistaken: Callable[[Samples], float]) -> Harm:
        """Return what a repair costs in normal operation, where it may serve by mistake alone.

        Parameters
        ----------
        patch
            The repair.
        mistaken
            Returns the share of normal inputs that it would answer.

        Returns
        -------
        Harm
            By those of golden's held inputs that no head learns.
        """
        reference = self._reference
        if reference is None:
            return Harm(1.0, 1.0, "there are no held inputs")
        judges = ~reference.may_be_learned
        lost = self._lost(reference, judges, patch)
        share, loss = mistaken(reference.inputs), float(lost.mean())
        most = loss + _SURE * float(np.sqrt(np.square(lost).sum())) / len(lost)
        text = (
            f"{loss:+.1%} of {len(lost)} normal inputs, {most:+.1%} at most, {share:.1%} of "
            "which it gets"
        )
        return Harm(max(0.0, loss) * share, max(0.0, most) * share, text)

    def _lost(
        self, reference: LearningReference, judges: npt.NDArray[np.bool_], patch: Patch
    ) -> npt.NDArray[np.float64]:
        """Return what a repair loses on each of some held inputs, in accuracy: shape (n,)."""
        bench, inputs, targets = self._answering(), reference.inputs[judges], reference.targets
        golden, changed = bench.answers(inputs), bench.answers(inputs, patch)
        if golden.errors is not None and changed.errors is not None:
            # Its answer is numbers, and its input what they should be: as of a regressor.
            usual = max(float(golden.errors.mean()), 1e-30)
            return -saved(golden.errors / usual, changed.errors / usual)
        if targets is None or golden.values is None or changed.values is None:
            labels = reference.labels[judges]
            right = (golden.labels == labels).astype(np.float64)
            return np.asarray(right - (changed.labels == labels))
        before = error_of(golden.values, targets[judges], self._units)
        after = error_of(changed.values, targets[judges], self._units)
        return -saved(before, after)

    @cached_property
    def _units(self) -> npt.NDArray[np.float64]:
        assert self._reference is not None, "it was asked for"
        targets = self._reference.targets
        values = self._answering().answers(self._reference.inputs).values
        assert values is not None, "it has no classes"
        assert targets is not None, "it is a regressor"
        return units_of(values, targets)

    @property
    def rng(self) -> np.random.Generator:
        """What is drawn from."""
        return self._rng

    @cached_property
    def _nearest(self) -> npt.NDArray[np.float64]:
        assert self._reference is not None, "a patch was made"
        embeddings = self._answering().answers(self._reference.inputs).embeddings
        assert embeddings is not None, "others have some"
        return nearest_others(embeddings)

    def parting(
        self,
        inputs: Samples,
        patch: Patch,
        generation: int,
        learned: npt.NDArray[np.float32] | None = None,
        asked: Mapping[int, Samples] = _NOTHING_ASKED,
    ) -> Parting:
        """Return what golden and a patch answer, and which inputs may judge the patch.

        Parameters
        ----------
        inputs
            Raw ones, shape (n, ...), as they came one after the other.
        patch, generation
            The candidate.
        learned
            Golden's embeddings of the labelled samples that it has learned, shape (k, dimensions).
        asked
            Inputs that it is judged by already, by `Prediction.id`.
        """
        bench = self._answering()
        # What serves has a state of before; a recurrent model's comes close within some inputs.
        golden, candidate = (bench.answers(inputs, one, is_stream=True) for one in (None, patch))
        said = Parting(golden.labels, candidate.labels, generation)
        if self._reference is not None and self._reference.targets is not None:
            assert golden.values is not None
            assert candidate.values is not None
            said = Parting(golden.values, candidate.values, generation, None, self._units)
        may_judge = None
        if golden.embeddings is not None and len(inputs):
            known = [self._embedded(number, one) for number, one in asked.items()]
            self._asked = {number: self._asked[number] for number in asked}
            rows = [*known, *(() if learned is None else learned)]
            parts = np.flatnonzero(said.parts)
            may_judge = np.zeros(len(inputs), bool)
            reach = reach_among(self._nearest, len(rows) + len(parts))
            found = leaders(golden.embeddings[parts], reach, np.array(rows) if rows else None)
            may_judge[parts] = found == np.arange(len(parts))
        return said._replace(may_judge=may_judge)

    def _embedded(self, number: int, one: Samples) -> npt.NDArray[np.float32]:
        """Return golden's embedding of one input that was asked for; looked up the second time."""
        found = self._asked.get(number)
        if found is None:
            embeddings = self._answering().answers(one[None]).embeddings
            assert embeddings is not None, "others have some"
            found = self._asked[number] = embeddings[0]
        return found

    @property
    def memory_bytes(self) -> int:
        """Bytes of the instances beside the stream."""
        return 0 if self._bench is None else self._bench.memory_bytes

    def stop(self) -> None:
        """Have a proposal that is being learned end soon, unfinished: the model closes."""
        if self._bench is not None:
            self._bench.stop()

    def close(self) -> None:
        """Release them."""
        if self._bench is not None:
            self._bench.close()


def _finite(ids: Ids, rows: Samples) -> tuple[Ids, Samples]:
    """Return the samples without those that hold NaN or infinity."""
    if rows.dtype.kind != "f":
        return ids, rows
    stay = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    return ids[stay], rows[stay]


def _answerable(material: Material) -> tuple[Material, npt.NDArray[np.bool_]]:
    """Return it without the samples that the model makes no numbers of, and which inputs stay.

    An input that is finite may be so large that a float model's embedding is not.
    """
    window, labelled = material.window, material.labelled
    if window.dtype.kind != "f":
        return material, np.ones(len(window), bool)
    of_window = _is_number(material.golden_on(window))
    of_labelled = _is_number(material.golden_on(labelled.inputs))
    if of_window.all() and of_labelled.all():
        return material, of_window
    left = replace(
        material, window=window[of_window], labelled=labelled.only(of_labelled), _answers={}
    )
    return left, of_window


def _is_number(answers: BenchAnswers) -> npt.NDArray[np.bool_]:
    """Return of which of n answers all is finite: shape (n,)."""
    values = answers.scores if answers.values is None else answers.values
    found = np.isfinite(values).all(axis=1)
    if answers.embeddings is not None:
        found &= np.isfinite(answers.embeddings).all(axis=1)
    return np.asarray(found)


def _nothing(like: Samples, reference: LearningReference) -> Labelled:
    none: npt.NDArray[Any] = np.empty(0, np.int64)
    labels = none if reference.targets is None else reference.targets[:0]
    return Labelled(like[:0], labels, np.empty(0, np.float32), (), none)


def _gain(material: Material, gain: float) -> str:
    is_regression = material.reference.targets is not None
    return f"error less by {worth(gain)}" if is_regression else f"{gain:+.1%} accuracy"


def _mix_moved(diagnosis: Diagnosis) -> bool:
    """Whether the mix of classes may have moved, as far as the diagnosis tells."""
    return diagnosis.cause is Cause.LABEL_SHIFT or any(
        other.cause is Cause.LABEL_SHIFT and other.confidence > 0
        for other in diagnosis.alternatives
    )
