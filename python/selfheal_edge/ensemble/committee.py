"""The public face of a committee: models that answer together and outvote a damaged one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, get_args

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
from selfheal_edge.ensemble.desk import Desk, Told, class_losses
from selfheal_edge.ensemble.kept import Kept, open_store
from selfheal_edge.ensemble.members import (
    Member,
    Models,
    check_model,
    check_together,
    make_member,
    name_members,
)
from selfheal_edge.ensemble.questions import Wanted
from selfheal_edge.ensemble.standing import Condition, Standing, stand
from selfheal_edge.errors import ForkedProcessError, ModelClosedError
from selfheal_edge.health import HealthState, Prediction
from selfheal_edge.learning.feedback import FeedbackReceipt, Outcome
from selfheal_edge.learning.labels import LabelSpace
from selfheal_edge.learning.questions import Question
from selfheal_edge.learning.sources import FeedbackSource, SignedLabel
from selfheal_edge.log import logger
from selfheal_edge.model import SelfHealingModel, parts_of
from selfheal_edge.policy import Policy
from selfheal_edge.store.journal import Event, EventKind, Journal
from selfheal_edge.text import quoted
from selfheal_edge.tflite.arrays import Tensors
from selfheal_edge.tflite.runtimes.protocol import Array

if TYPE_CHECKING:
    from selfheal_edge.store.keys import KeyArgument

__all__ = ["Combine", "SelfHealingEnsemble"]

Combine = Literal["mean", "vote", "best"]

_FLOAT32: Final = np.dtype(np.float32)  # one object, so that it is told by identity
_KEPT: Final = 256
_KEPT_BYTES: Final = 1 << 20
_LEARNING_RATE: Final = {True: 1.0, False: 0.5}  # of classes, of values
_RATES: Final = (1 / 2048, 1 / 512, 1 / 128, 1 / 32)
_UNAUTHENTICATED: Final = 0.125
_NO_MEMBERS_OWN: Final = 0.95  # the loss at a probability of 3 %
_REACH: Final = 4.0
_PARTING_MEMORY: Final = 0.05
_PARTING_INTERVAL: Final = 100_000.0
_PROOF_PAUSE: Final = 16
_TRIAL_ROUNDS: Final = 64
_MOST_PAUSE: Final = 256
_FIRST_BITS: Final = 2
_RECENT: Final = 32


@dataclass(slots=True, eq=False)
class _Seat:
    """What is known of one member while it serves."""

    member: Member
    loop: Any
    seen: object = None
    """The state of its loop that was looked at last."""
    healed: tuple[int, int] = (0, 0)
    cause: object = None
    condition: Condition = field(default_factory=Condition)
    cap: float | None = None
    """What it may weigh while something of it is on trial."""
    trial_until: int | None = None
    """The round at which a member that took another's place has proven itself."""
    failure: str = ""
    retry_at: int = 0
    pause: int = 1


class SelfHealingEnsemble:
    """A committee of guarded models that answer together, and outvote the one that is damaged.

    Two or three small models of different files, architectures, quantisations or runtimes see each
    input, one after the other. Their calibrated probabilities are averaged, with weights that
    follow labels: a member that has become worse loses its weight within some ten labels. One whose
    integrity is in doubt sleeps at once, before any label, and comes back when its heal is proven.
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

    Cost: less than 2 us an answer beside its members'. Fixed memory, `memory_report`.

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
        _check(combine, policy, parting_interval)
        self._policy = Policy() if policy is None else policy
        members = [make_member(name, model) for name, model in name_members(models).items()]
        self._takes_raw = check_together(members)
        self._agreement = learn_agreement(members)
        self._interval = float(parting_interval)
        self._combine: Combine = combine
        self._clock = time.monotonic if clock is None else clock
        self._shape = members[0].input[0].shape
        self._is_heard = on_event is not None
        self._lock = ModelLock(after=lambda: None)  # refuses a forked child, where it may be held
        self._is_closed = False
        self._kept: Kept | None = None
        self._seats = [_Seat(member, parts_of(member.model).loop) for member in members]
        self._secrets: dict[str, KeyArgument] = {}
        rates = _RATES if switching_rate is None else (switching_rate,)
        has_classes = members[0].classes is not None
        self._share = _core.FixedShare(
            len(members), learning_rate=_LEARNING_RATE[has_classes], rates=list(rates), floor=floor
        )
        self._desk = Desk(self.names, _space(members[0]), self._policy, self._clock)
        first = _first_id(seed)
        facts: dict[str, Any] = {}
        if store is not None:
            self._kept = Kept(open_store(store, key, self._policy))
        try:
            if self._kept is not None:
                first = self._kept.take_ids(first)
                facts = self._recall(rates, floor)
            self._desk.lowest = first if self._desk.lowest is None else self._desk.lowest
            self._core = self._make_core(members, first)
            records = None if self._kept is None else self._kept.store
            self._journal = Journal(self._policy.max_events, on_event, clock, records)
            self._wanted = Wanted(members[0].model, self._policy, self._clock, seed)
            self._labels = int(facts.get("labels", 0))
            self._labelled_at = 0
            self._extra = 0
            self._standing = Standing((False,) * len(members), ("",) * len(members))
            self._infers: list[Callable[[Any], Any]] = [m.model.infer for m in members]
            self._settled: tuple[bool, ...] = ()
            self._journal.add(EventKind.OPENED, 0, evidence=tuple(self._told(m) for m in members))
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

    def _make_core(self, members: Sequence[Member], first: int) -> _core.Committee:
        one = members[0]
        row = 4 * len(members) * one.width
        made = _core.Committee(
            self._share,
            width=one.width,
            capacity=max(16, min(_KEPT, _KEPT_BYTES // row)),
            combine=self._combine,
            has_classes=one.classes is not None,
            shape=list(one.output.shape),
            answer=Prediction,
            prediction=EnsemblePrediction,
            names=tuple(member.name for member in members),
            first_id=first,
        )
        for n, member in enumerate(members):
            _set_reader(made, n, member)
        if one.classes is None:
            made.set_reach(self._reach(members))
        return made

    def _reach(self, members: Sequence[Member]) -> float:
        errors = [member.model.baseline.error for member in members]
        known = [error.mean for error in errors if error is not None and error.mean > 0]
        return _REACH * max(known) if known else self._agreement.spread

    def _recall(self, rates: Sequence[float], floor: float) -> dict[str, Any]:
        """Go on with the weights of the process before; return its facts."""
        assert self._kept is not None
        facts, share = self._kept.recall()
        if share is None:
            return {}
        try:
            self._desk.go_on_with(facts["desk"])
        except (ValueError, LookupError, TypeError) as error:
            self._kept.problems.append(f"sources of labels begin anew: {error}")
        before = dict(zip(facts["names"], facts["models"], strict=True))
        was_at = {name: n for n, name in enumerate(before)}
        places = [was_at.get(name, -1) for name in self.names]
        is_same_share = (
            list(share.rates) == list(rates)
            and share.floor == floor
            and share.learning_rate == self._share.learning_rate
        )
        if not is_same_share or max(places) < 0:
            self._kept.problems.append("other members or rates than before: weights begin anew")
            return facts
        if gone := sorted(before.keys() - set(self.names)):
            self._kept.problems.append(f"members that are gone: {', '.join(map(quoted, gone))}")
        self._share = share if places == list(range(len(before))) else share.seated(places)
        for n, (seat, place) in enumerate(zip(self._seats, places, strict=True)):
            if place < 0:
                self._kept.problems.append(f"{seat.member.name} is new: it begins at an even share")
            elif before[seat.member.name] != seat.member.sha256:
                # Another file in the same place: as if it had been replaced here.
                share = self._share
                self._hold(n, seat, max(share.weights[n], share.past[n] if share.asleep[n] else 0))
            elif self._share.caps[n] < 1.0:
                seat.cap = self._share.caps[n]
                left = int(facts.get("trials", {}).get(str(place), 0))
                seat.trial_until = self._share.rounds + left
        return facts

    def _told(self, member: Member) -> str:
        how = f"temperature {member.temperature:.2f}"
        if member.classes is not None and not member.is_calibrated:
            how = "temperature 1, since calibration had no labels"
        return f"{member.name}: {member.model.baseline.fingerprint.runtime}, {how}"

    # ---------------------------------------------------------------- answers

    def predict(self, x: Tensors) -> Array:
        """Return the committee's answer alone.

        Parameters
        ----------
        x
            As `SelfHealingModel.predict`: one sample, or a batch. Raw numbers where they mean the
            same to all members, else float32; several inputs, by name, one sample at a time.

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
        if isinstance(x, np.ndarray):
            is_float = (
                x.dtype is _FLOAT32 or x.dtype == _FLOAT32
            )  # one that came by pickle is another
            if not self._takes_raw and not is_float:
                raise self._refuse_raw(x.dtype)
            if x.shape == self._shape:
                return self._answer(x)
            spec = self._seats[0].member.input[0]
            if x.shape[1:] == spec.shape:
                return self._answers([x[n] for n in range(len(x))])
            if spec.shape[:1] == (1,) and x.shape[1:] == spec.shape[1:]:
                return self._answers([x[n : n + 1] for n in range(len(x))])
        elif not self._takes_raw and isinstance(x, Mapping):
            for given in x.values():
                if getattr(given, "dtype", _FLOAT32) != _FLOAT32:
                    raise self._refuse_raw(given.dtype)
        return self._answer(x)

    def _refuse_raw(self, dtype: np.dtype[Any]) -> TypeError:
        first, *others = [seat.member for seat in self._seats]
        other = next(o for o in others if not check_together([first, o]))
        told = [
            f"{quoted(one.name)} ({spec.dtype.name}, scale {spec.scale:g}, zero {spec.zero_point})"
            for one in (first, other)
            for spec in one.input[:1]
        ]
        return TypeError(
            f"x: expected float32, since raw numbers do not mean the same to {told[0]} and "
            f"{told[1]}, got {dtype}"
        )

    def _answers(self, samples: Sequence[Array]) -> EnsemblePredictions:
        found = tuple(self._answer(sample) for sample in samples)
        shape = self._seats[0].member.output.shape
        if shape[:1] == (1,) and samples and samples[0].shape[:1] == (1,):
            shape = shape[1:]
        output = np.empty((len(found), *shape), np.float32)
        for n, one in enumerate(found):
            output[n] = one.output.reshape(shape)
        return EnsemblePredictions(found, output)

    def _answer(self, x: Tensors) -> EnsemblePrediction:
        with self._lock:
            if self._is_closed:
                raise ModelClosedError("ensemble: expected an open ensemble, got a closed one")
            answers: list[Any] = []
            try:
                for infer in self._infers:
                    answers.append(infer(x))
            except ForkedProcessError:
                raise
            except Exception as error:
                self._go_on(x, answers, error)
            if answers[0] is None and not any(answer is not None for answer in answers):
                answers = self._ask_the_silent(x)
            for seat in self._seats:
                if seat.loop.state is not seat.seen:
                    self._look()
                    break
            found: EnsemblePrediction = self._core.combine(answers)
            if found.parted and self._core.take_alarm():
                self._part()
            if self._standing.on_call is not None and found.trusted:
                found = replace(found, trusted=False)
            if self._settled:
                self._prove_those_that_return()
        if self._is_heard:
            self._journal.deliver()
        return found

    def _go_on(self, x: Tensors, answers: list[Any], error: Exception) -> None:
        """Have the other members answer, where one has failed.

        An input that is wrong is refused by all of them; what one refuses and another takes is the
        fault of the one.
        """
        failed: dict[int, Exception] = {}
        while True:
            if _is_of_a_number(x, error):
                raise error  # a policy may refuse what is no number where another counts it
            failed[len(answers)] = error
            answers.append(None)
            try:
                while len(answers) < len(self._infers):
                    answers.append(self._infers[len(answers)](x))
                break
            except ForkedProcessError:
                raise
            except Exception as other:
                error = other
        is_silent = all(answer is None for answer in answers)
        first = next(iter(failed.values()))
        if is_silent and all(isinstance(one, (TypeError, ValueError)) for one in failed.values()):
            raise first
        for n, why in failed.items():
            seat = self._seats[n]
            seat.failure = f"it gives no answer: {why}"
            seat.retry_at = self._core.number + seat.pause
            seat.pause = min(2 * seat.pause, _MOST_PAUSE)
            self._infers[n] = self._silent(seat)
            seat.seen = None
        if is_silent:
            self._look()
            self._check_any_open()
            raise error

    def _check_any_open(self) -> None:
        if all(parts_of(seat.member.model).inference_lock.closed for seat in self._seats):
            raise ModelClosedError("ensemble: expected an open member, got all closed")

    def _ask_the_silent(self, x: Tensors) -> list[Any]:
        """Ask those that have failed at once, where no other member is left."""
        for seat in self._seats:
            seat.retry_at = 0
        answers: list[Any] = []
        try:
            for infer in self._infers:
                answers.append(infer(x))
        except ForkedProcessError:
            raise
        except Exception as error:
            self._go_on(x, answers, error)
        if all(answer is None for answer in answers):
            self._look()
            raise ModelClosedError("ensemble: expected an open member, got all closed")
        return answers

    def _silent(self, seat: _Seat) -> Callable[[Any], Any]:
        """Return what stands for a member that has failed, until it is tried again."""

        def answer(x: Any) -> Any:
            if self._core.number < seat.retry_at:
                return None
            if parts_of(seat.member.model).inference_lock.closed:
                seat.retry_at = self._core.number + _MOST_PAUSE
                return None
            found = seat.member.model.infer(x)
            seat.failure, seat.pause, seat.seen = "", 1, None
            self._infers[self._seats.index(seat)] = seat.member.model.infer
            return found

        return answer

    # ---------------------------------------------------------------- who sleeps

    def _look(self) -> None:
        """Look at how the members are, and say who sleeps; the caller has the lock."""
        before = self._standing
        for seat in self._seats:
            state = seat.loop.state
            if state is seat.seen:
                continue
            self._look_at(seat, state)
        standing = stand([seat.condition for seat in self._seats])
        self._standing = standing
        if standing.asleep != self._share.asleep:
            was = self._share.asleep
            self._share.set_asleep(list(standing.asleep))
            for seat, slept, sleeps, reason in zip(
                self._seats, was, standing.asleep, standing.reasons, strict=True
            ):
                if slept != sleeps:
                    self._tell_sleep(seat, reason, is_asleep=sleeps)
        if standing.on_call is not None and before.on_call != standing.on_call:
            name = self._seats[standing.on_call].member.name
            self._journal.add(
                EventKind.ALARM,
                self._core.number,
                outcome=f"all members should sleep: {name} serves, untrusted",
            )
        self._watch()
        self._settle()
        self._keep(at_once=before.asleep != standing.asleep)

    def _look_at(self, seat: _Seat, state: Any) -> None:
        n = self._seats.index(seat)
        trouble = state.trouble
        first = seat.seen is None and seat.healed == (0, 0)
        on_trial = state.probation is not None or state.trial is not None
        seat.condition = Condition(
            None if trouble is None else trouble.cause,
            seat.loop.is_trusted,
            bool(state.pending),
            on_trial,
            seat.failure,
        )
        healed = state.count.repairs, state.recovered_at
        if not first and healed != seat.healed and not seat.condition.cause:
            self._share.restore(n)
        seat.healed = healed
        seat.seen = state
        if on_trial:
            share = self._share
            if seat.cap is None:
                self._hold(n, seat, share.past[n] if share.asleep[n] else float(share.weights[n]))
            seat.trial_until = None  # it lasts as long as the trial, whatever labels come
        elif not on_trial and seat.cap is not None and seat.trial_until is None:
            self._release(n, seat)

    def _hold(self, n: int, seat: _Seat, weight: float) -> None:
        """Let a member weigh no more than this, while something of it is on trial."""
        seat.cap = min(1.0, max(weight, self._share.floor, 1e-6))
        seat.trial_until = self._share.rounds + _TRIAL_ROUNDS
        self._share.set_cap(n, seat.cap)

    def _release(self, n: int, seat: _Seat) -> None:
        seat.cap = seat.trial_until = None
        self._share.set_cap(n, 1.0)

    def _tell_sleep(self, seat: _Seat, reason: str, *, is_asleep: bool) -> None:
        self._journal.add(
            EventKind.ASLEEP if is_asleep else EventKind.AWAKE,
            self._core.number,
            cause=seat.condition.cause,
            evidence=(reason,) if reason else (),
            outcome=f"{seat.member.name} {'sleeps' if is_asleep else 'is awake, at the floor'}",
        )

    def _watch(self) -> None:
        """Count partings of those that are awake against how often they usually part."""
        awake = tuple(not asleep for asleep in self._standing.asleep)
        if awake == getattr(self, "_watched", None):
            return
        self._watched = awake
        share = self._agreement.largest_share(awake)
        if share is None or not self._core.watch(share, _PARTING_MEMORY, self._interval):
            self._core.watch_nothing()

    def _settle(self) -> None:
        returning = self._share.returning
        self._settled = tuple(returning) if any(returning) else ()

    def _prove_those_that_return(self) -> None:
        """Ask a member that returns its known answers now and then, where no labels come."""
        number = self._core.number
        if number - self._labelled_at < _PROOF_PAUSE:
            return
        self._labelled_at = number
        for n, returns in enumerate(self._settled):
            if not returns:
                continue
            parts = parts_of(self._seats[n].member.model)
            try:
                with parts.maintenance_lock, parts.inference_lock:
                    is_right = parts.loop.repairs.known_answers_right()
            except (ModelClosedError, RuntimeError):
                continue
            self._extra += len(parts.loop.repairs.known.inputs)
            if is_right:
                self._share.prove(n)
            else:
                losses = np.zeros(len(self._seats))
                losses[n] = 1.0
                self._share.update(losses)
        self._settle()
        self._keep()

    def _part(self) -> None:
        """Tell the members that are awake that they part too often."""
        usual = self._agreement.share(self._watched)
        assert usual is not None
        text = f"members part on more inputs than the {usual:.1%} of calibration"
        self._journal.add(EventKind.ALARM, self._core.number, outcome=text)
        for seat, asleep in zip(self._seats, self._standing.asleep, strict=True):
            if asleep or seat.failure:
                continue
            try:
                seat.member.model.hear_parting(text, _RECENT)
            except (ModelClosedError, RuntimeError):
                logger().warning("%s could not be told", seat.member.name, exc_info=True)
        self._look()

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
            self._check_open()
            models = [seat.member.model for seat in self._seats]
            open_ones = [one for one in models if not parts_of(one).inference_lock.closed]
            for one in open_ones:
                parts_of(one).loop.labels.sources.check(name, key)
            made = self._desk.sources.add(name, key)
            for one in open_ones:
                one.feedback_source(name, key)
            self._secrets[name] = key
            return made

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
        """
        with self._lock:
            self._check_open()
            latest = self._core.first_id + self._core.number if self._core.number else -1
            claims, are_many = self._desk.read(label, correct, id, source, latest)  # type: ignore[arg-type]
            receipts = tuple(self._take(claim) for claim in claims)
            self._keep()
        self._journal.deliver()
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

    def _take(self, claim: Any) -> FeedbackReceipt:
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
                return class_losses(1.0 - asked.probabilities, verdict)
            return self._core.losses(told.id, verdict, wrong=True)
        if asked is not None and isinstance(told.label, int):
            return class_losses(asked.probabilities, told.label)
        return self._core.losses(told.id, told.label)

    def _learn(self, told: Told, losses: npt.NDArray[np.float64] | None) -> str:
        """Have a label move the weights; return what became of it in words."""
        if losses is None:
            return "it says nothing of the members"
        awake = np.array([not asleep for asleep in self._share.asleep])
        known = losses[awake & np.isfinite(losses)]
        if self._seats[0].member.classes is not None and (
            not len(known) or known.min() > _NO_MEMBERS_OWN
        ):
            return "no member thinks it possible, so that it moves no weight"
        is_trusted = told.is_authenticated or told.name == self._policy.owner
        self._share.update(losses, 1.0 if is_trusted else _UNAUTHENTICATED)
        self._labels += 1
        self._labelled_at = self._core.number
        for n, seat in enumerate(self._seats):
            if seat.trial_until is not None and self._share.rounds >= seat.trial_until:
                self._release(n, seat)
        self._settle()
        return "weights follow it" if is_trusted else "weights follow it a little: it has no key"

    def _forward(self, told: Told, ids: Sequence[int], verdict: int) -> None:
        """Give a label to the members' own feedback, each of its own answer."""
        labels = self._core.labels(told.id)
        for seat, id, label in zip(self._seats, ids, labels, strict=True):
            if id < 0:
                continue
            said: dict[str, Any] = {"label": told.label}
            if told.label is None:
                if label != verdict:
                    continue  # what it named may be right or wrong
                said = {"correct": False}
            model = seat.member.model
            try:
                source: FeedbackSource | str | None = None
                if told.source is not None:
                    source = model.feedback_source(told.name, self._secrets.get(told.name))
                model.feedback(**said, id=id, source=source)
            except (ModelClosedError, ValueError, RuntimeError):
                logger().warning("%s did not take a label", seat.member.name, exc_info=True)

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
            self._check_open()
            models = [seat.member.model for seat in self._seats]
            return self._wanted.ask(limit, self._core, self._desk.answered, models, self._share)

    def kept(self, id: int) -> npt.NDArray[np.float32] | None:
        """Return what each member gave to one of the latest answers.

        Returns
        -------
        numpy.ndarray or None
            Calibrated probabilities, or values, float32 of shape (members, classes), NaN for a
            member that gave none; None for an answer that is no longer kept.
        """
        with self._lock:
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
            self._check_open()
            if name not in self.names:
                raise ValueError(f"name: expected one of {self.names}, got {name!r}")
            n = self.names.index(name)
            check_model(name, model)
            members = [seat.member for seat in self._seats]
            for other in members:
                if other.model is model:
                    raise ValueError(
                        f"model: expected another object than that of {quoted(other.name)}"
                    )
            members[n] = make_member(name, model)
            takes_raw = check_together(members)
            agreement = learn_agreement(members)
            for known, key in self._secrets.items():
                model.feedback_source(known, key)  # may be refused: nothing has changed yet
            old = self._seats[n]
            seat = _Seat(members[n], parts_of(model).loop)
            share = self._share
            weight = share.past[n] if share.asleep[n] else float(share.weights[n])
            if old.cap is not None:
                weight = min(weight, old.cap)
            self._seats[n] = seat
            self._infers[n] = model.infer
            self._takes_raw, self._agreement = takes_raw, agreement
            _set_reader(self._core, n, seat.member)
            self._hold(n, seat, weight)
            self._watched = ()
            self._journal.add(
                EventKind.REPLACED,
                self._core.number,
                evidence=(f"{old.member.sha256[:16]} by {seat.member.sha256[:16]}",),
                outcome=f"{name} is another model, with at most {weight:.1%}",
            )
            self._look()
            self._keep(at_once=True)
        self._journal.deliver()
        return old.member.model

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in order."""
        return tuple(seat.member.name for seat in self._seats)

    @property
    def models(self) -> dict[str, SelfHealingModel]:
        """The members by name."""
        return {seat.member.name: seat.member.model for seat in self._seats}

    @property
    def weights(self) -> dict[str, float]:
        """What each member's answers count for: they sum to one, and a sleeper has none."""
        with self._lock:
            if not self._is_closed:
                self._look_if_changed()
            return dict(zip(self.names, self._share.weights.tolist(), strict=True))

    def _look_if_changed(self) -> None:
        if any(seat.loop.state is not seat.seen for seat in self._seats):
            self._look()

    @property
    def health(self) -> EnsembleHealth:
        """How the committee is at this moment, and what an answer costs."""
        with self._lock:
            if not self._is_closed:
                self._look_if_changed()
            share, number = self._share, self._core.number
            weights, returning, caps = share.weights.tolist(), share.returning, share.caps
            members = {}
            for n, seat in enumerate(self._seats):
                reason = self._standing.reasons[n]
                if not reason and seat.cap is not None:
                    reason = (
                        "it is on trial" if seat.trial_until else "a repair or file is on trial"
                    )
                elif not reason and returning[n]:
                    reason = "it returns to the share that it had"
                members[seat.member.name] = MemberHealth(
                    weights[n],
                    share.asleep[n],
                    reason,
                    returning[n],
                    caps[n],
                    seat.member.temperature,
                    seat.member.is_calibrated,
                )
            state = HealthState.HEALTHY
            if self._standing.on_call is not None:
                state = HealthState.UNTRUSTED
            if self._is_closed:
                state = HealthState.CLOSED
            awake = [not asleep for asleep in self._standing.asleep]
            return EnsembleHealth(
                state,
                members,
                number,
                self._labels,
                len(self._seats) + (self._extra / number if number else 0.0),
                self._core.partings,
                self._agreement.share(awake),
                self._core.is_watched,
                float(share.rates @ share.rate_weights),
            )

    @property
    def events(self) -> Sequence[Event]:
        """What happened to the committee, oldest first; its members have events of their own."""
        with self._lock:
            return self._journal[:]

    def memory_report(self) -> dict[str, int]:
        """Return the bytes that the committee holds beside its members, by what for."""
        report = {
            "weights and latest answers": self._core.memory_bytes(),
            "answers to calibration inputs": self._agreement.labels.nbytes,
            "questions": self._wanted.memory_bytes,
        }
        return {**report, "total": sum(report.values())}

    # ---------------------------------------------------------------- the end

    def _keep(self, *, at_once: bool = False) -> None:
        if self._kept is None:
            return
        left = {
            str(n): max(0, seat.trial_until - self._share.rounds)
            for n, seat in enumerate(self._seats)
            if seat.trial_until is not None
        }
        facts = {"desk": self._desk.to_plain(), "labels": self._labels, "trials": left}
        digests = [seat.member.sha256 for seat in self._seats]
        self._kept.put(self._share, self.names, digests, facts, at_once=at_once)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ModelClosedError("ensemble: expected an open ensemble, got a closed one")

    def close(self) -> None:
        """Keep what is known and let go; the members stay open. Calling it again does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._journal.add(EventKind.CLOSED, self._core.number)
            self._keep()
            self._is_closed = True
        if self._kept is not None:
            self._kept.store.close()
        self._journal.deliver()

    def __enter__(self) -> SelfHealingEnsemble:
        with self._lock:
            self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied and pickled, as its members do."""
        raise TypeError("ensemble: expected to stay the one object of its process, got copied")

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {weight:.0%}" for name, weight in self.weights.items())
        return f"<SelfHealingEnsemble {told}>"


def _check(combine: object, policy: object, parting_interval: float) -> None:
    if combine not in get_args(Combine):
        raise ValueError(f"combine: expected one of {get_args(Combine)}, got {combine!r}")
    if policy is not None and not isinstance(policy, Policy):
        raise TypeError(f"policy: expected a Policy or None, got {type(policy).__name__}")
    if not 100.0 <= parting_interval < float("inf"):
        raise ValueError(f"parting_interval: expected at least 100, got {parting_interval}")


def _is_of_a_number(x: Tensors, error: Exception) -> bool:
    """Whether an input was refused, and has a number that is none or infinite."""
    if not isinstance(error, ValueError):
        return False
    parts = x.values() if isinstance(x, Mapping) else (x,)
    reals = [one for one in map(np.asarray, parts) if one.dtype.kind == "f"]
    return not all(np.isfinite(one).all() for one in reals)


def _space(member: Member) -> LabelSpace:
    if member.classes is not None:
        return LabelSpace(member.classes)
    shape = member.output.shape
    return LabelSpace(None, shape[1:] if shape[:1] == (1,) else shape)


def _set_reader(core: _core.Committee, n: int, member: Member) -> None:
    spec = member.output
    core.set_reader(
        n,
        scores=member.scores,
        dtype=spec.dtype,
        scale=spec.scale if spec.quantized else 1.0,
        zero_point=spec.zero_point if spec.quantized else 0,
        temperature=member.temperature,
    )


def _first_id(seed: int | None) -> int:
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") >> _FIRST_BITS
    return int(np.random.default_rng(seed).integers(1 << 60))
