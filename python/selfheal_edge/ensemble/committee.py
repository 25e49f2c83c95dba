"""The public face of a committee: models that answer together and outvote a damaged one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.ensemble.agreement import learn_agreement
from selfheal_edge.ensemble.answers import (
    EnsembleHealth,
    EnsemblePrediction,
    EnsemblePredictions,
    MemberHealth,
)
from selfheal_edge.ensemble.attendance import TRIAL_ROUNDS, Attendance, Seat
from selfheal_edge.ensemble.batches import read_samples, split
from selfheal_edge.ensemble.desk import Desk
from selfheal_edge.ensemble.kept import Kept, open_store
from selfheal_edge.ensemble.labels import EnsembleLabels
from selfheal_edge.ensemble.members import (
    Member,
    Models,
    check_model,
    check_together,
    make_member,
    name_members,
)
from selfheal_edge.errors import ForkedProcessError, ModelClosedError
from selfheal_edge.health import HealthState, Prediction
from selfheal_edge.learning.feedback import FeedbackReceipt
from selfheal_edge.learning.labels import LabelSpace
from selfheal_edge.learning.questions import Question
from selfheal_edge.learning.sources import FeedbackSource, SignedLabel
from selfheal_edge.model import SelfHealingModel
from selfheal_edge.policy import Policy
from selfheal_edge.store.journal import Event, EventKind, Journal
from selfheal_edge.text import quoted
from selfheal_edge.tflite.arrays import Form, Tensors, shape_outputs
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

if TYPE_CHECKING:
    from selfheal_edge.store.keys import KeyArgument

__all__ = ["Combine", "SelfHealingEnsemble"]

Combine = Literal["mean", "vote", "best"]

_KEPT: Final = 256
_KEPT_BYTES: Final = 1 << 20
_LEARNING_RATE: Final = {True: 1.0, False: 0.5}  # of classes, of values
_RATES: Final = (1 / 2048, 1 / 512, 1 / 128, 1 / 32)
_REACH: Final = 4.0
_PARTING_INTERVAL: Final = 100_000.0
_FIRST_BITS: Final = 2
_SWITCHING: Final = 1e-6, 0.5
_ALL_CLOSED: Final = "ensemble: expected an open member, got all closed"


class _Before(NamedTuple):
    """What the process before has left."""

    labels: int = 0
    held: Mapping[int, tuple[float, int]] = MappingProxyType({})
    """Members that may not weigh more than so much, for so many rounds yet."""


class SelfHealingEnsemble:
    """A committee of guarded models that answer together, and outvote the one that is damaged.

    Two or three small models of different files, architectures, quantisations or runtimes see each
    input, one after the other. Their calibrated probabilities are averaged, with weights that
    follow labels: a member that has become worse loses its weight within some ten labels. One whose
    integrity is in doubt sleeps at once, before any label, and comes back when its heal is proven;
    where members part, and where a label speaks against one, known answers are asked.
    So a committee answers well while the damage to one member is not understood yet. The price is
    the members' inferences: an answer costs as many as there are members.

    Parameters
    ----------
    models
        2 to 16 open models with inputs and outputs of equal shapes and the same classes, or the
        same values; a list, or a dict by name. They stay the caller's, who closes them.
    combine
        ``"mean"``: calibrated probabilities by weight. ``"vote"``: each member's weight counts for
        its class. ``"best"``: the member with the largest weight answers.
    policy
        Of which a committee uses `owner`, the quotas of labels, `questions_bytes`, `max_events` and
        the caps of a store.
    store, key
        A file of the committee's own that outlives the process, with weights, sources of labels and
        events; as `SelfHealingModel`.
    floor
        The least weight of a member that is awake, 0 to 1 / (2 members).
    switching_rate
        How often the best member changes, a round: 1e-6 to 0.5. None: it is learned, as a mixture
        of four.
    parting_interval
        Mean number of answers between two false alarms that members part too often; at least 100.
    on_event
        Called with every `Event`, once the call that brought it has done its work.
    clock, seed
        As `SelfHealingModel`, for tests.

    Raises
    ------
    TypeError, ValueError
        For no members or one, one object twice, and models that cannot answer together, with the
        names of both.
    ModelClosedError
        For a closed model.
    StoreError, StoreVersionError
        As `SelfHealingModel`.

    Notes
    -----
    Temperatures were fitted by `calibrate` where it had labels; else they are 1, and `health` says
    so. How often members part was learned from inputs of calibration, asked when the committee is
    made: a few hundred inferences beside the stream.

    Inputs: real numbers (float32) are quantised by each member; raw ones are taken where they mean
    the same to all. A batch is served sample by sample.

    Threads: every method may be called from any thread; one answer at a time. A committee belongs
    to the process that made it.

    Cost: 1 us an answer beside its members', 2 to 4 where their work has emptied the caches. Fixed
    memory, `memory_report`.

    Examples
    --------
    >>> import selfheal_edge as she
    >>> from selfheal_edge.assets import digits_model_path, load_digits
    >>> digits, path = load_digits(), digits_model_path()
    >>> baseline = she.calibrate(path, digits.calibration_inputs, digits.calibration_labels)
    >>> with she.SelfHealingModel(path, baseline, kernels="builtin") as one:
    ...     with she.SelfHealingModel(path, baseline) as other:
    ...         with she.SelfHealingEnsemble({"plain": one, "fast": other}) as committee:
    ...             answer = committee.infer(digits.heldout_inputs[:1])
    ...             answer.label, answer.trusted, committee.weights
    (7, True, {'plain': 0.5, 'fast': 0.5})
    """

    def __init__(
        self,
        models: Models,
        *,
        combine: Combine = "mean",
        policy: Policy | None = None,
        store: str | os.PathLike[str] | None = None,
        key: KeyArgument = None,
        floor: float = 0.01,
        switching_rate: float | None = None,
        parting_interval: float = _PARTING_INTERVAL,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] | None = None,
        seed: int | None = None,
    ) -> None:
        _check(combine, policy, floor, switching_rate, parting_interval, seed)
        for name, given in (("on_event", on_event), ("clock", clock)):
            if given is not None and not callable(given):
                raise TypeError(f"{name}: expected a callable or None, got {type(given).__name__}")
        self._policy = Policy() if policy is None else policy
        members = [make_member(name, model) for name, model in name_members(models).items()]
        takes_raw = check_together(members)
        agreement = learn_agreement(members)
        self._combine: Combine = combine
        self._clock = time.monotonic if clock is None else clock
        # Refuses a forked child, where it may be held.
        self._lock = ModelLock(after=lambda: None, what="ensemble")
        self._kept: Kept | None = None
        rates = _RATES if switching_rate is None else (switching_rate,)
        has_classes = members[0].classes is not None
        self._share = _core.FixedShare(
            len(members), learning_rate=_LEARNING_RATE[has_classes], rates=list(rates), floor=floor
        )
        names = tuple(member.name for member in members)
        self._desk = Desk(names, _space(members[0]), self._policy, self._clock)
        first = _first_id(seed)
        before = _Before()
        if store is not None:
            self._kept = Kept(open_store(store, key, self._policy))
        try:
            if self._kept is not None:
                first = self._kept.take_ids(first)
                before = self._recall(members)
            self._desk.lowest = first if self._desk.lowest is None else self._desk.lowest
            self._core = self._make_core(
                members, first, agreement.spread, is_heard=on_event is not None
            )
            self._core.takes_raw = takes_raw
            records = None if self._kept is None else self._kept.store
            self._journal = Journal(self._policy.max_events, on_event, clock, records)
            self._attendance = Attendance(
                [Seat.of(member) for member in members],
                self._share,
                self._core,
                self._journal,
                agreement,
                float(parting_interval),
            )
            for n, (weight, rounds) in before.held.items():
                self._attendance.hold(n, weight, rounds)
            self._labels = EnsembleLabels(
                self._desk,
                self._share,
                self._core,
                self._attendance,
                self._policy,
                self._clock,
                seed,
                before.labels,
            )
            self._journal.add(EventKind.OPENED, 0, evidence=tuple(map(_told, members)))
            for problem in () if self._kept is None else self._kept.problems:
                self._journal.add(EventKind.STORE, 0, outcome=problem)
            with self._lock:
                self._look()
        except BaseException:
            if self._kept is not None:
                self._kept.store.close()
            raise
        self._journal.deliver()

    # ---------------------------------------------------------------- the start

    def _make_core(
        self, members: Sequence[Member], first: int, spread: float, *, is_heard: bool
    ) -> _core.Committee:
        one = members[0]
        row = 4 * len(members) * one.width
        made = _core.Committee(
            self._share,
            lock=self._lock,
            width=one.width,
            capacity=max(16, min(_KEPT, _KEPT_BYTES // row)),
            combine=self._combine,
            has_classes=one.classes is not None,
            input_shape=list(one.input[0].shape),
            shape=list(one.output.shape),
            answer=Prediction,
            prediction=EnsemblePrediction,
            names=tuple(member.name for member in members),
            first_id=first,
            heard=is_heard,
        )
        if one.classes is None:
            made.set_reach(_reach(members, spread))
        return made

    def _recall(self, members: Sequence[Member]) -> _Before:
        """Go on with the weights of the process before, of members by name."""
        assert self._kept is not None
        facts, share = self._kept.recall()
        if share is None:
            return _Before()
        problems, fresh = self._kept.problems, self._share
        try:
            self._desk.go_on_with(facts["desk"])
        except (ValueError, LookupError, TypeError) as error:
            problems.append(f"sources of labels begin anew: {error}")
        digests = dict(zip(facts["names"], facts["models"], strict=True))
        was_at = {name: n for n, name in enumerate(digests)}
        places = [was_at.get(member.name, -1) for member in members]
        labels = int(facts.get("labels", 0))
        is_same_share = (
            list(share.rates) == list(fresh.rates)
            and share.floor == fresh.floor
            and share.learning_rate == fresh.learning_rate
        )
        if not is_same_share or max(places) < 0:
            problems.append("other members or rates than before: weights begin anew")
            return _Before(labels)
        if gone := sorted(digests.keys() - {member.name for member in members}):
            problems.append(f"members that are gone: {', '.join(map(quoted, gone))}")
        if places != list(range(len(digests))):
            share = share.seated(places)
        self._share = share
        held = {}
        for n, (member, place) in enumerate(zip(members, places, strict=True)):
            if place < 0:
                problems.append(f"{member.name} is new: it begins at an even share")
            elif digests[member.name] != member.sha256:
                # Another file in the same place: as if it had been replaced here.
                weight = share.past[n] if share.asleep[n] else float(share.weights[n])
                held[n] = weight, TRIAL_ROUNDS
            elif share.caps[n] < 1.0:
                held[n] = share.caps[n], int(facts.get("trials", {}).get(str(place), 0))
        return _Before(labels, held)

    # ---------------------------------------------------------------- answers

    def predict(self, x: Tensors) -> Array:
        """Return the committee's answer alone.

        Parameters
        ----------
        x
            As `SelfHealingModel.predict`: one sample, or a batch, of which no sample is answered
            where one is refused. Raw numbers where they mean the same to all members, else
            float32; names of inputs are those of the first member.

        Returns
        -------
        numpy.ndarray
            float32: calibrated probabilities, or values, in the shape of a member's output.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, what was expected and what came.
        ModelClosedError, ForkedProcessError
            After `close`, when all members are closed, or in a forked child.
        """
        found: Array = self.infer(x).output
        return found

    def infer(self, x: Tensors) -> EnsemblePrediction | EnsemblePredictions:
        """Return the committee's answer, with each member's vote and weight.

        Parameters
        ----------
        x
            As `predict`.

        Returns
        -------
        EnsemblePrediction
            For exactly the input's shape.
        EnsemblePredictions
            For a batch.

        Raises
        ------
        TypeError, ValueError, ModelClosedError, ForkedProcessError
            As `predict`.
        """
        # What the core, which is asked first, did not take.
        self._lock.check()
        members = [seat.member for seat in self._attendance.seats]
        if not self._core.takes_raw:
            for given in x.values() if isinstance(x, Mapping) else (x,):
                if getattr(given, "dtype", np.float32) != np.float32:
                    raise self._refuse_raw(given.dtype)
        x, form = read_samples(x, members)
        if form == "single":
            found: EnsemblePrediction = self._core.answer(self, x)
            return found
        return self._answers(split(x, form), form)

    def _refuse_raw(self, dtype: np.dtype[Any]) -> TypeError:
        first, *others = [seat.member for seat in self._attendance.seats]
        other = next(o for o in others if not check_together([first, o]))
        told = [f"{quoted(one.name)} ({_levels(one.input)})" for one in (first, other)]
        return TypeError(
            f"x: expected float32, since raw numbers do not mean the same to {told[0]} and "
            f"{told[1]}, got {dtype}"
        )

    def _answers(self, samples: Sequence[Tensors], form: Form) -> EnsemblePredictions:
        found = tuple(self._core.answer(self, sample) for sample in samples)
        spec = self._attendance.seats[0].member.output
        outputs = [[one.output] for one in found]
        joined = shape_outputs([spec], outputs, form, real=False)
        assert isinstance(joined, np.ndarray)
        return EnsemblePredictions(found, joined)

    def _attend(self, x: Tensors, answers: list[Any], error: Exception | None) -> list[Any]:
        """Return the answers to combine, where the core met what is out of the ordinary.

        The core calls this with the lock: a member has raised, gives no answer, answers again, or
        is in another state than before.
        """
        if error is not None:
            self._go_on(x, answers, error)
        if all(answer is None for answer in answers):
            answers = self._ask_the_silent(x)
        self._attendance.heard_again(answers)
        if self._core.has_changed:
            for moved in self._look():
                answers[moved] = None  # of a file that serves no longer
            if all(answer is None for answer in answers):
                answers = self._ask(x)
        return answers

    def _follow(self) -> None:
        """Do what follows from an answer: the core calls this with the lock."""
        attendance = self._attendance
        if self._core.take_alarm():
            attendance.tell_of_parting()
            self._look()
        if self._core.take_parting():
            attendance.doubt_one()
            self._look_if_changed()
        if attendance.returning and attendance.prove_those_that_return():
            self._keep()

    def _deliver(self) -> None:
        self._journal.deliver()

    def _ask(self, x: Tensors) -> list[Any]:
        """Ask each member in turn; None stands for one that gives no answer."""
        answers: list[Any] = []
        error = self._core.ask(x, answers)
        if error is not None:
            self._go_on(x, answers, error)
        return answers

    def _go_on(self, x: Tensors, answers: list[Any], error: Exception) -> None:
        """Have the other members answer, where one has failed.

        An input that is wrong is refused by all of them; what one refuses and another takes is the
        fault of the one.
        """
        failed: dict[int, Exception] = {}
        found: Exception | None = error
        while found is not None:
            # A policy may refuse what is no number where another counts it.
            if isinstance(found, ForkedProcessError) or _is_of_a_number(x, found):
                raise found
            failed[len(answers)] = error = found
            answers.append(None)
            found = self._core.ask(x, answers)
        is_silent = all(answer is None for answer in answers)
        first = next(iter(failed.values()))
        if is_silent and all(isinstance(one, (TypeError, ValueError)) for one in failed.values()):
            raise first
        for n, why in failed.items():
            self._attendance.silence(n, why)
        if is_silent:
            self._look()
            if all(seat.is_closed for seat in self._attendance.seats):
                raise ModelClosedError(_ALL_CLOSED)
            raise error

    def _ask_the_silent(self, x: Tensors) -> list[Any]:
        """Ask those that have failed at once, where no other member is left."""
        self._attendance.hear_the_silent()
        answers = self._ask(x)
        if all(answer is None for answer in answers):
            self._look()
            raise ModelClosedError(_ALL_CLOSED)
        return answers

    def _look(self) -> list[int]:
        """Look at how the members are; return which of them serve another file than before.

        The caller has the lock.
        """
        moved = [n for n, seat in enumerate(self._attendance.seats) if seat.has_moved]
        for n in moved:
            self._seat_again(n)
        self._keep(at_once=self._attendance.look() or bool(moved))
        return moved

    def _seat_again(self, n: int) -> None:
        """Take a member for what it is now: a model file on trial was rejected, another serves."""
        name, model = self.names[n], self._attendance.seats[n].member.model
        before = self._attendance.seats[n].member.sha256
        self._labels.forget(model)
        try:
            member = make_member(name, model)
            weight = self._seat(n, member)
        except (TypeError, ValueError, RuntimeError) as error:
            self._attendance.retire(n, error)
            outcome = f"{name} serves another model file, which cannot answer with the others"
            self._journal.add(
                EventKind.REPLACED, self._core.number, evidence=(str(error),), outcome=outcome
            )
            return
        self._journal.add(
            EventKind.REPLACED,
            self._core.number,
            evidence=(f"{before[:16]} by {member.sha256[:16]}",),
            outcome=f"{name} serves the model file of before, with at most {weight:.1%}",
        )

    def _seat(self, n: int, member: Member) -> float:
        """Give a place to a member; return what it may weigh. Where that raises, all is as it was.

        Raises
        ------
        ValueError
            Where it cannot answer together with the others, or knows a source by another key.
        """
        members = [seat.member for seat in self._attendance.seats]
        members[n] = member
        takes_raw = check_together(members)
        agreement = learn_agreement(members)
        self._labels.introduce(member.model)
        weight = self._attendance.seat_another(n, member, agreement)
        self._core.takes_raw = takes_raw
        return weight

    # ---------------------------------------------------------------- labels

    def feedback_source(self, name: str, key: KeyArgument = None) -> FeedbackSource:
        """Make a source of labels known to the committee and to its members.

        Parameters
        ----------
        name, key
            As `SelfHealingModel.feedback_source`.

        Raises
        ------
        FeedbackSourceError, TypeError, ValueError
            Likewise, also where a member knows the name under another key.
        """
        with self._lock:
            return self._labels.source(name, key)

    def feedback(
        self,
        label: Any = None,
        *,
        correct: Any = None,
        id: Any = None,
        source: FeedbackSource | SignedLabel | str | None = None,
    ) -> FeedbackReceipt | tuple[FeedbackReceipt, ...]:
        """Say what is right of an answer: weights follow, and the members hear of it.

        Parameters
        ----------
        label, correct, id, source
            As `SelfHealingModel.feedback`, with ids of the committee's answers and sources that
            `feedback_source` of the committee made.

        Returns
        -------
        FeedbackReceipt or tuple of FeedbackReceipt
            What became of it. Late, repeated and unknown ids, an exhausted quota and a signature
            that does not hold are answers and no errors.

        Raises
        ------
        TypeError, ValueError, FeedbackSourceError, ModelClosedError, ForkedProcessError
            Likewise.

        Notes
        -----
        A label of a source with a key moves the odds between two members by at most e, one without
        by at most e^(1/8). One that no member thinks possible (a probability below 3 %) moves none.
        Weights follow the labels of `Policy.owner` all the way. Those of others, which may be
        false, they follow by 4 points, and further where a fifth of false labels is no reason.
        """
        with self._lock:
            receipts = self._labels.feedback(label, correct, id, source)
            self._keep()
        self._journal.deliver()
        return receipts

    def wanted_labels(self, limit: int = 16) -> tuple[Question, ...]:
        """Return the recent inputs whose labels would decide most: those on which members part.

        Parameters
        ----------
        limit
            At most so many, 1 to 256.

        Returns
        -------
        tuple of Question
            Answers go to `feedback` by `Question.id`. An eighth is drawn from all inputs, to
            compare with. Questions that wait for an answer come first.
        """
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit: expected an integer, got {type(limit).__name__}")
        if not 1 <= limit <= _KEPT:
            raise ValueError(f"limit: expected 1 to {_KEPT}, got {limit}")
        with self._lock:
            return self._labels.wanted(limit)

    def kept(self, id: int) -> npt.NDArray[np.float32] | None:
        """Return what each member gave to one of the latest answers.

        Returns
        -------
        numpy.ndarray or None
            Calibrated probabilities, or values, float32 of shape (members, classes), NaN for a
            member that gave none; None for an answer that is no longer kept.
        """
        with self._lock.lock():
            return self._core.kept(id)

    # ---------------------------------------------------------------- members

    def replace(self, name: str, model: SelfHealingModel) -> SelfHealingModel:
        """Put another model into a member's place, while the committee serves.

        It begins with its predecessor's weight, and weighs no more until 64 labels have come.

        Parameters
        ----------
        name
            The member.
        model
            An open model that can answer together with the others.

        Returns
        -------
        SelfHealingModel
            The predecessor, which the caller may close.

        Raises
        ------
        ValueError, TypeError, ModelClosedError
            For a name that no member has, and as for the committee; nothing has changed then.
        """
        with self._lock:
            if name not in self.names:
                raise ValueError(f"name: expected one of {self.names}, got {name!r}")
            n = self.names.index(name)
            check_model(name, model)
            members = [seat.member for seat in self._attendance.seats]
            for other in members:
                if other.model is model:
                    raise ValueError(
                        f"model: expected another object than that of {quoted(other.name)}"
                    )
            old, member = members[n], make_member(name, model)
            weight = self._seat(n, member)
            self._journal.add(
                EventKind.REPLACED,
                self._core.number,
                evidence=(f"{old.sha256[:16]} by {member.sha256[:16]}",),
                outcome=f"{name} is another model, with at most {weight:.1%}",
            )
            self._look()
            self._keep(at_once=True)
        self._journal.deliver()
        return old.model

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in order."""
        return tuple(seat.member.name for seat in self._attendance.seats)

    @property
    def models(self) -> dict[str, SelfHealingModel]:
        """The members by name."""
        return {seat.member.name: seat.member.model for seat in self._attendance.seats}

    @property
    def weights(self) -> dict[str, float]:
        """What each member's answers count for: they sum to one, and a sleeper has none."""
        with self._lock.lock():
            self._look_if_changed()
            return dict(zip(self.names, self._share.weights.tolist(), strict=True))

    def _look_if_changed(self) -> None:
        if not self._lock.closed and self._core.has_changed:
            self._look()

    @property
    def health(self) -> EnsembleHealth:
        """How the committee is at this moment, and what an answer costs."""
        with self._lock.lock():
            self._look_if_changed()
            attendance, share, number = self._attendance, self._share, self._core.number
            weights, returning, caps = share.weights.tolist(), share.returning, share.caps
            members = {
                seat.member.name: MemberHealth(
                    weights[n],
                    share.asleep[n],
                    attendance.reason(n),
                    returning[n],
                    caps[n],
                    seat.member.temperature,
                    seat.member.is_calibrated,
                )
                for n, seat in enumerate(attendance.seats)
            }
            state = HealthState.HEALTHY
            if attendance.standing.on_call is not None:
                state = HealthState.UNTRUSTED
            if self._lock.closed:
                state = HealthState.CLOSED
            awake = [not asleep for asleep in attendance.standing.asleep]
            return EnsembleHealth(
                state,
                members,
                number,
                self._labels.count,
                len(members) + (attendance.extra_inferences / number if number else 0.0),
                self._core.partings,
                attendance.agreement.share(awake),
                self._core.is_watched,
                float(share.rates @ share.rate_weights),
            )

    @property
    def events(self) -> Sequence[Event]:
        """What happened to the committee, oldest first; its members have events of their own."""
        with self._lock.lock():
            return self._journal[:]

    def memory_report(self) -> dict[str, int]:
        """Return the bytes that the committee holds beside its members, by what for."""
        report = {
            "weights and latest answers": self._core.memory_bytes(),
            "answers to calibration inputs": self._attendance.agreement.labels.nbytes,
            "questions": self._labels.memory_bytes,
        }
        return {**report, "total": sum(report.values())}

    # ---------------------------------------------------------------- the end

    def _keep(self, *, at_once: bool = False) -> None:
        if self._kept is None:
            return
        facts = {
            "desk": self._desk.to_plain(),
            "labels": self._labels.count,
            "trials": self._attendance.trials_left(),
        }
        digests = [seat.member.sha256 for seat in self._attendance.seats]
        self._kept.put(self._share, self.names, digests, facts, at_once=at_once)

    def close(self) -> None:
        """Keep what is known and let go; the members stay open. Calling it again does nothing."""
        with self._lock.lock():
            if self._lock.closed:
                return
            self._journal.add(EventKind.CLOSED, self._core.number)
            self._keep()
            self._lock.close()
        if self._kept is not None:
            self._kept.store.close()
        self._journal.deliver()

    def __enter__(self) -> SelfHealingEnsemble:
        self._lock.check()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied and pickled, as its members do."""
        raise TypeError("ensemble: expected to stay the one object of its process, got copied")

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {weight:.0%}" for name, weight in self.weights.items())
        return f"<SelfHealingEnsemble {told}>"


def _check(
    combine: object,
    policy: object,
    floor: object,
    switching_rate: object,
    parting_interval: object,
    seed: object,
) -> None:
    if combine not in get_args(Combine):
        raise ValueError(f"combine: expected one of {get_args(Combine)}, got {combine!r}")
    if policy is not None and not isinstance(policy, Policy):
        raise TypeError(f"policy: expected a Policy or None, got {type(policy).__name__}")
    _number("floor", floor, 0.0, 1.0)  # the core knows how many members there are
    if switching_rate is not None:
        _number("switching_rate", switching_rate, *_SWITCHING)
    _number("parting_interval", parting_interval, 100.0, sys.float_info.max)
    if seed is not None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"seed: expected an integer or None, got {type(seed).__name__}")
        if seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {seed}")


def _number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not least <= value <= most:
        until = f" to {most:g}" if most < sys.float_info.max else " or more, and finite"
        raise ValueError(f"{name}: expected {least:g}{until}, got {value}")


def _is_of_a_number(x: Tensors, error: Exception) -> bool:
    """Whether an input was refused, and has a number that is none or infinite."""
    if not isinstance(error, ValueError):
        return False
    parts = x.values() if isinstance(x, Mapping) else (x,)
    reals = [one for one in map(np.asarray, parts) if one.dtype.kind == "f"]
    return not all(np.isfinite(one).all() for one in reals)


def _levels(inputs: Sequence[TensorSpec]) -> str:
    return "; ".join(
        f"{spec.dtype.name}, scale {spec.scale:g}, zero {spec.zero_point}"
        if spec.quantized
        else spec.dtype.name
        for spec in inputs
    )


def _told(member: Member) -> str:
    how = f"temperature {member.temperature:.2f}"
    if member.classes is not None and not member.is_calibrated:
        how = "temperature 1, since calibration had no labels"
    return f"{member.name}: {member.model.baseline.fingerprint.runtime}, {how}"


def _reach(members: Sequence[Member], spread: float) -> float:
    errors = [member.model.baseline.error for member in members]
    known = [error.mean for error in errors if error is not None and error.mean > 0]
    return _REACH * max(known) if known else spread


def _space(member: Member) -> LabelSpace:
    if member.classes is not None:
        return LabelSpace(member.classes)
    shape = member.output.shape
    return LabelSpace(None, shape[1:] if shape[:1] == (1,) else shape)


def _first_id(seed: int | None) -> int:
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") >> _FIRST_BITS
    return int(np.random.default_rng(seed).integers(1 << 60))


SelfHealingEnsemble.predict = _core.committee_predict(  # type: ignore[method-assign]
    SelfHealingEnsemble, SelfHealingEnsemble.predict, "_core"
)
SelfHealingEnsemble.infer = _core.committee_infer(  # type: ignore[method-assign]
    SelfHealingEnsemble, SelfHealingEnsemble.infer, "_core"
)
