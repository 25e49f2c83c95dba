"""The public face: a model that guards itself."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.diagnoser import Diagnoser
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.errors import (
    ForkedProcessError,
    IntegrityError,
    ModelClosedError,
    SelfHealError,
    StoreError,
)
from selfheal_edge.health import (
    UNTELLING,
    CoverageSummary,
    Health,
    HealthState,
    Prediction,
    Predictions,
)
from selfheal_edge.inference.incident import Incident
from selfheal_edge.integrity.code_watch import CodeDamage, Listener, shared_watch
from selfheal_edge.integrity.protected_share import (
    ProtectedShare,
    code_bytes,
    measure_protected_share,
)
from selfheal_edge.integrity.weights import Heal as SeesDamage
from selfheal_edge.integrity.weights import Weights
from selfheal_edge.learning.feedback import FeedbackReceipt
from selfheal_edge.learning.pool import TrustedPool
from selfheal_edge.learning.quarantine import Quarantine
from selfheal_edge.learning.questions import Question
from selfheal_edge.learning.revocation import Revocation
from selfheal_edge.learning.sources import FeedbackSource
from selfheal_edge.log import logger
from selfheal_edge.loop.assembly import Parts, assemble, correction_of, estimate_now
from selfheal_edge.loop.incidents import (
    CodeDamaged,
    FeedbackCame,
    FeedbackDue,
    KnownAnswersAsked,
    WeightsRejected,
)
from selfheal_edge.loop.state import Why
from selfheal_edge.monitoring.baseline import Baseline
from selfheal_edge.monitoring.estimate import abnormal_above
from selfheal_edge.monitoring.monitor import MEMBERS_PART, Alarm, Monitor, PerformanceMonitor
from selfheal_edge.monitoring.performance import Performance, not_estimable
from selfheal_edge.monitoring.regimes import Regime
from selfheal_edge.policy import Heal, Policy
from selfheal_edge.repair import ModelRepairKit
from selfheal_edge.repair.budget import RepairBudget
from selfheal_edge.store.journal import Event, EventKind, Journal
from selfheal_edge.tflite.arrays import Batch, Tensors, check_out, read_batch
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.flip_check import FlipEffort
from selfheal_edge.tflite.input_table import HEADER_BYTES, threshold_in
from selfheal_edge.tflite.memory.heap import give_back
from selfheal_edge.tflite.runtimes.protocol import RUNTIME_FAILURES, Array, TensorSpec
from selfheal_edge.tflite.runtimes.select import KernelsArgument, RuntimeArgument
from selfheal_edge.tflite.session import ModelSource, Session
from selfheal_edge.tflite.signatures import renamed
from selfheal_edge.weights import ModelWeights

if TYPE_CHECKING:
    from selfheal_edge.loop.keeper import Keeper
    from selfheal_edge.loop.kept_generations import KeptGenerations
    from selfheal_edge.store.inbox import Request
    from selfheal_edge.store.keys import KeyArgument
    from selfheal_edge.store.store import Counter

__all__ = ["SelfHealingModel", "parts_of"]

_MOST_QUESTIONS = 256
_EX_SOFTWARE = 70  # of sysexits.h


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Making:
    """What the user has given beside a file, its baseline and the policy."""

    kit: ModelRepairKit
    monitor: Monitor | None
    diagnoser: Diagnoser | None
    budget: RepairBudget | None
    clock: Callable[[], float] | None
    seed: int | None


class SelfHealingModel:
    """A TFLite model that notices damage, finds its cause, repairs it and proves the repair.

    Calibrate once with `calibrate`, open the model in a ``with`` block, and ask it:

    - `predict(x)` returns the answer alone, as a plain interpreter would, for one sample or a
      batch. It is for callers that act on every answer, or look at `health` now and then.
    - `infer(x)` returns the same answer with its label, its confidence, the alarms that it raised,
      and `trusted`. It is for callers that act differently on an answer in doubt: hold it back, ask
      again, hand over to a person. `trusted` is False from the first suspicion until the damage is
      repaired and the repair is proven, or the alarm is explained and over. It says that nothing
      known speaks against the answer; it does not say that the answer is right.

    Healing needs no call of the user's. `health` says how the model is, `events` what happened and
    why, `weights.scrub()` checks every byte now, `rollback()` goes back to a saved state.

    Which field of `Policy` is for which wish:

    =========================================  ====================================================
    wish                                       fields
    =========================================  ====================================================
    a prediction never waits for a repair      ``mode="background"``, ``hot_spare=True``
    damage is found sooner, or checking is     ``integrity_budget``, ``verify``, ``sweep_seconds``,
    cheaper                                    ``keyed_sweep_seconds``, ``keyed_bytes_per_predict``
    damaged code ends the process, or is       ``on_code_damage``, ``code_budget``
    not looked for
    damage that no checksum sees is bounded    ``known_answers_every``, ``rebuild_after_seconds``
    NaN in an input is served and counted      ``nonfinite="skip"``
    other repairs, or another order of them    ``responses``, ``default_response``
    nothing is changed, only told              ``heal="observe"``
    how much may be learned, and by whom       ``heal``, ``owner``, ``repairs_per_hour``,
                                               ``repair_seconds_per_hour``
    what is written to disk, and how much      ``store_bytes``, ``store_bytes_per_day``,
                                               ``keep_inputs``
    less memory                                ``snapshots``, ``parity_blocks``, ``max_generations``
    a large model file on a slow device        ``probe``
    =========================================  ====================================================

    `close`, or the end of the ``with`` block, waits for inferences and repairs that have begun and
    releases the runtime. What runs or changes the model raises `ModelClosedError` from then on;
    `health`, `events` and the rest that only looks still answer.

    Parameters
    ----------
    model
        The TFLite file, or its bytes.
    baseline
        From `calibrate`, for the same file. It may come from another machine or runtime: the
        first start here records the known answers anew and says so in `events`.
    store
        A file that outlives the process: what happened, what the charts have gathered, saved states
        of the weights, numbers of predictions. It is made where there is none. None: all is in
        memory. `docs/store.md` says what is promised. A store that is damaged or was changed is
        put aside, an event says so, and the file's own weights serve.
    key
        Authenticates the store: at least 16 bytes, the path of a file that holds them,
        ``"env:NAME"`` for a variable with them in hexadecimal, or a callable. None: accidents are
        found, forgery is not.
    counter
        A counter outside that never goes back (`selfheal_edge.store.store.Counter`): with it the
        replay of a whole old store is noticed as well.
    policy
        How often to check, which thread heals, which repairs follow which cause; the defaults suit
        most devices.
    monitor, diagnoser, repair_kit
        Parts of the loop to replace by the user's own. What a monitor raises, the call raises; a
        diagnoser that fails is logged, and ours answers; a strategy that fails is followed by the
        next.
    budget
        What repairs by learning may cost, where several models of a process share it; None: each
        has its own, by `Policy.repairs_per_hour` and `Policy.repair_seconds_per_hour`.
    on_event
        Called with every `Event`, in order and one at a time, in a thread that uses the model, once
        its call has done its work: it may use the model, or close it. What it raises is logged.
    runtime, kernels, num_threads
        As in `calibrate`.
    clock
        Monotonic seconds, for tests; `time.monotonic` by default.
    seed
        Of the predictions' ids, for tests; None draws from the operating system.

    Raises
    ------
    FileNotFoundError, ModelFormatError, RuntimeUnavailableError
        For the model file and the runtime.
    BaselineMismatchError
        When the baseline belongs to another file.
    StoreVersionError
        When a newer release wrote the store; it is untouched.
    StoreError
        When another process writes the store: the message names it.

    Notes
    -----
    Threads: every method may be called from any thread. One inference runs at a time, in the order
    in which the threads came; for inferences side by side, open several models. Processes: an
    object belongs to the process that made it; in a forked child it raises `ForkedProcessError`.

    Cost: before each inference a slice of the weights is checked, and a corrupt block is restored
    before the model runs; after it, signals are measured. `docs/performance.md` has the figures.

    Examples
    --------
    >>> import selfheal_edge as she
    >>> from selfheal_edge.assets import digits_model_path, load_digits
    >>> digits = load_digits()
    >>> baseline = she.calibrate(digits_model_path(), digits.calibration_inputs)
    >>> with she.SelfHealingModel(digits_model_path(), baseline) as model:
    ...     model.predict(digits.heldout_inputs[:3]).shape
    ...     answer = model.infer(digits.heldout_inputs[:1])
    ...     answer.label if answer.trusted else None
    ...     model.health.state.value
    (3, 10)
    7
    'healthy'
    """

    def __init__(
        self,
        model: ModelSource,
        baseline: Baseline,
        *,
        store: str | os.PathLike[str] | None = None,
        key: KeyArgument = None,
        counter: Counter | None = None,
        policy: Policy | None = None,
        monitor: Monitor | None = None,
        diagnoser: Diagnoser | None = None,
        repair_kit: ModelRepairKit | None = None,
        budget: RepairBudget | None = None,
        on_event: Callable[[Event], None] | None = None,
        runtime: RuntimeArgument = "auto",
        kernels: KernelsArgument = "auto",
        num_threads: int = 1,
        clock: Callable[[], float] | None = None,
        seed: int | None = None,
    ) -> None:
        if not isinstance(baseline, Baseline):
            raise TypeError(f"baseline: expected a Baseline, got {type(baseline).__name__}")
        self._policy = Policy() if policy is None else policy
        self._leave_code: weakref.finalize[[Listener], SelfHealingModel] | None = None
        if budget is not None and not isinstance(budget, RepairBudget):
            raise TypeError(f"budget: expected a RepairBudget or None, got {budget!r}")
        kit = ModelRepairKit() if repair_kit is None else repair_kit
        kit.require(self._policy.strategies())
        _require_signed(baseline, self._policy)
        if self._policy.require_signed and store is not None and key is None:
            raise ValueError(
                "key: expected one for the store, since the policy requires a signed model file "
                "(require_signed) and the store may put another in its place; got None"
            )
        baseline.skip_probe()
        self._keeper = (
            None
            if store is None
            else _open_store(store, key, counter, self._policy, _first_id(seed))
        )
        self._how = (runtime, kernels, num_threads)
        self._make = _Making(kit, monitor, diagnoser, budget, clock, seed)
        self._leaves_in: int | None = None
        try:
            try:
                self._open(model, baseline, on_event)
            except Exception as error:
                # A new file that does not even start: the one before serves.
                if self._keeper is None or not self._keeper.takes_back(error):
                    raise
                self._open(model, baseline, on_event)
        except BaseException:
            if self._keeper is not None:
                self._keeper.close()
            raise

    def _open(
        self, model: ModelSource, baseline: Baseline, on_event: Callable[[Event], None] | None
    ) -> None:
        keeper = self._keeper
        records = None if keeper is None else keeper.store
        self._journal = Journal(self._policy.max_events, on_event, self._make.clock, records)
        ended: Callable[[], None] = self._journal.deliver
        if keeper is not None:  # then a model file may be on trial
            ended = partial(_call_ended, weakref.WeakMethod(self._ended), self._journal)
        self._maintenance_lock = self._inference_lock = ModelLock(ended)
        if self._policy.mode == "background":
            self._inference_lock = ModelLock(ended, self._maintenance_lock)
        file: ModelSource | ModelFile = model
        if keeper is not None:
            file, baseline = keeper.choose(model, baseline)
        parts, baseline = self._built(file, baseline, keeper)
        try:
            if keeper is not None:
                keeper.begin(self._journal)
                weakref.finalize(self, keeper.store.abandon).atexit = False
            baseline = self._proven(parts, baseline)
            if keeper is not None:
                keeper.opened(self._journal, parts.weights.active)
        except BaseException:
            parts.close()
            raise
        self._weights = ModelWeights(*_weights_of(parts, keeper))
        self._serve_from(parts, baseline)
        before, trial = (None, None) if keeper is None else (keeper.before, keeper.trial)
        parts.loop.start(before, trial)
        if keeper is not None:
            keeper.follow(parts.loop.freeze, self._serve_requests)
        self._listen_for_code()
        self._opened(parts)

    def _built(
        self, model: ModelSource | ModelFile, baseline: Baseline, keeper: Keeper | None
    ) -> tuple[Parts, Baseline]:
        """Build all that one model file is served by; nothing serves from it yet."""
        baseline.skip_probe()
        session = Session(
            model,
            *self._how,
            baseline.taps,
            baseline.made,
            self._policy.probe,
            inference_lock=self._inference_lock,
            correct=partial(correction_of, baseline, self._policy),
        )
        make = self._make
        try:
            if keeper is not None:
                baseline = keeper.recognise(baseline, session)
            parts = assemble(
                session,
                baseline,
                policy=self._policy,
                journal=self._journal,
                kit=make.kit,
                monitor=make.monitor,
                diagnoser=make.diagnoser,
                budget=make.budget,
                inference_lock=self._inference_lock,
                maintenance_lock=self._maintenance_lock,
                clock=make.clock,
                first_id=_first_id(make.seed),
                second_changed=partial(_call, weakref.WeakMethod(self._look_at_answers)),
                keeper=keeper,
                rejected=partial(_call, weakref.WeakMethod(self._was_rejected)),
                seed=make.seed,
            )
        except BaseException:
            session.close()
            raise
        return parts, baseline

    def _serve_from(self, parts: Parts, baseline: Baseline) -> None:
        """Serve from these parts from now on."""
        self._baseline = baseline
        self._protected_share: ProtectedShare | None = None
        self._session, self._loop, self._serving = parts.session, parts.loop, parts.loop.serving
        self._hot: _core.HotPath | None = self._serving.hot
        self._parts = parts

    def _proven(self, parts: Parts, baseline: Baseline) -> Baseline:
        """Have known answers asked, or recorded on this device, and generations put back."""
        repairs = parts.loop.repairs
        with self._maintenance_lock:
            same_place = baseline.fingerprint == parts.session.fingerprint
            if not (same_place and repairs.known_answers_right()):
                baseline = repairs.commission(baseline, 0, flips=False)
            repairs.put_back()
            repairs.tell_problems(0)
        return baseline

    def _opened(self, parts: Parts) -> None:
        """Keep what was recorded at the start, and let go of what served it alone."""
        if self._keeper is not None and self._keeper.baseline_is_new(self._baseline):
            self._keeper.keep_baseline(self._baseline)
        parts.session.copy.let_go(partial(_golden_source, parts))
        give_back()

    def _was_rejected(self) -> None:
        """Take note that the file on trial did not hold; this thread has a lock."""
        self._leaves_in = threading.get_ident()

    def _ended(self) -> None:
        """Do what waits until this thread has given the locks back."""
        if self._leaves_in == threading.get_ident():
            self._leaves_in = None
            with contextlib.suppress(ModelClosedError):
                self._go_back()
            self._journal.deliver()

    def _go_back(self) -> None:
        """Have the model file before the one that was on trial serve, from its bytes in the store.

        It is built beside the one that serves, proven, and takes its place in one step. Where that
        cannot be, answers stay untrusted, and it serves from the next start on.
        """
        keeper, left = self._keeper, self._parts
        assert keeper is not None, "a trial has a store"
        with self._maintenance_lock:
            if left.loop.state.trust.is_code_damaged:
                return  # nothing that this process builds can be relied on
            try:
                frozen = left.loop.freeze(False)
                keeper.keep_known(frozen.known, frozen.learned)
                file, baseline, keeper = keeper.before_trial(frozen.known)
                parts, baseline = self._built(file, baseline, keeper)
                try:
                    baseline = self._proven(parts, baseline)
                except BaseException:
                    parts.close()
                    raise
            except (*RUNTIME_FAILURES, SelfHealError) as error:
                logger().warning("the model file of before could not be put back", exc_info=True)
                text = f"the model file of before cannot serve now: {error}"
                outcome = f"{text}; it serves from the next start on, answers are untrusted"
                self._journal.add(EventKind.STORE, left.loop.predictions, outcome=outcome)
                return
            with self._inference_lock:
                # What was served meanwhile counts as well.
                known = keeper.went_back(left.loop.freeze(False).known)
                heal = left.loop.state.heal
                keeper.begin(self._journal)
                parts.loop.start(known)
                if heal != parts.loop.state.heal:
                    parts.loop.set_heal(heal)
                keeper.follow(parts.loop.freeze, self._serve_requests)
                self._keeper = keeper
                self._weights.attach(*_weights_of(parts, keeper))
                self._serve_from(parts, baseline)
                left.loop.left()
                keeper.serves_again(self._journal, parts.weights.active)
            if left.proposer is not None:
                left.proposer.stop()
            left.loop.dispatcher.close()
            with self._inference_lock:
                left.loop.labels.close()
                left.close()
            self._opened(parts)

    def predict(self, x: Tensors, out: Array | None = None) -> Array | dict[str, Array]:
        """Return the model's answer alone; `infer` says as well whether it can be trusted.

        Parameters
        ----------
        x
            Exactly the input's shape, or a batch: one more leading axis, or, where the input's
            first axis is 1, that axis. The model's own dtype; or float32 for a quantised model,
            which is quantised (half to even, saturating), and the answer dequantised. A dict by
            tensor name, or by the names of a SignatureDef, for several inputs.
        out
            Where to put the answer of a model with one output: a writable C-contiguous array of
            the answer's shape and dtype.

        Returns
        -------
        numpy.ndarray or dict
            The answer; a dict for several outputs, by the names that the inputs came by.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, what was expected and what came; the model is unharmed.
        ModelClosedError, ForkedProcessError
            After `close`, or in a forked child.
        """
        # What the hot path, which is asked first, did not take. Reading it needs no lock.
        while True:
            parts = self._parts
            batch, names = self._read(x, parts.session)
            if out is not None:
                check_out(parts.session.instance.outputs, batch, out)
            try:
                served = renamed(parts.loop.serving.serve(batch), names)
            except RuntimeError:
                if parts is self._parts:
                    raise
                continue  # it was taken out of service meanwhile
            if out is None or isinstance(served, dict):
                return served
            np.copyto(out, served)
            return out

    def infer(
        self, x: Tensors, context: Mapping[str, float] | None = None
    ) -> Prediction | Predictions:
        """Return the model's answer with what the guard makes of it.

        Parameters
        ----------
        x
            As `predict`.
        context
            What is known beside the inputs, such as ``{"temperature": 61.0}``: at most eight finite
            numbers by name, of all samples of a batch alike. It is kept with the latest 256
            predictions (`context`), as evidence of why an alarm was raised.

        Returns
        -------
        Prediction
            For exactly the input's shape.
        Predictions
            For a batch, also one of a single sample: arrays with one value a sample.

        Raises
        ------
        TypeError, ValueError, ModelClosedError, ForkedProcessError
            As `predict`.

        Notes
        -----
        Costs what `predict` does and half a microsecond; with a context some 30 µs more, and other
        threads wait for the whole batch.
        """
        # What the hot path, which is asked first, did not take.
        while True:
            parts = self._parts
            batch, names = self._read(x, parts.session)
            try:
                found = parts.loop.serving.infer(batch, context)
            except RuntimeError:
                if parts is self._parts:
                    raise
                continue  # it was taken out of service meanwhile
            if not names:
                return found
            return dataclasses.replace(found, output=renamed(found.output, names))

    def _read(self, x: Tensors, session: Session) -> tuple[Batch, Mapping[str, str]]:
        self._inference_lock.check_process()
        self._inference_lock.check_open()
        skip = self._policy.nonfinite == "skip"
        x, names = session.names.inward(x)
        return read_batch(session.instance.inputs, x, skip_nonfinite=skip), names

    @property
    def context(self) -> dict[str, npt.NDArray[np.float64]]:
        """What the latest predictions, at most 256, came with: by name one value for each.

        Oldest first; NaN for a prediction that came without.
        """
        with self._inference_lock:
            return self._serving.context.latest(self._serving.hot.number)

    def _look_at_answers(self, is_on: bool) -> None:
        """Have no answer given by the quick way while suspects are answered otherwise."""
        self._hot = None if is_on else self._serving.hot

    def feedback_source(self, name: str, key: KeyArgument = None) -> FeedbackSource:
        """Make a source of feedback known, and return the capability to speak for it.

        Parameters
        ----------
        name
            1 to 64 printable characters.
        key
            As a store's: at least 16 bytes, the path of a file that holds them, ``"env:NAME"``, or
            a callable. Who has it elsewhere signs labels with a `FeedbackSource` of the same name
            and key. None: the source is unauthenticated, and shares the smallest quota with all
            others that are.

        Raises
        ------
        FeedbackSourceError
            When the name is taken under another key, also before a restart, or there are 32.
        TypeError, ValueError, ModelClosedError, ForkedProcessError
            For the arguments, after `close`, and in a forked child.
        """
        return self._loop.labels.source(name, key)

    def feedback(
        self,
        label: Any = None,
        *,
        correct: Any = None,
        id: Any = None,
        source: FeedbackSource | str | None = None,
    ) -> FeedbackReceipt | tuple[FeedbackReceipt, ...]:
        """Say what is right of an answer, or only whether it was.

        Parameters
        ----------
        label
            The class that is right, or a regressor's target in the answer's shape. Or what
            `FeedbackSource.sign` made elsewhere, one or a list, and nothing else beside it.
        correct
            Whether the answer was right; alone it is feedback too. Of an autoencoder, which takes
            no `label`: whether its input was normal.
        id
            `Prediction.id`, or that of a `Question`; None for the model's latest prediction, which
            with several threads may be another's. A list or an array: many, and as many labels.
        source
            A capability from `feedback_source`. A bare string, or None, is unauthenticated.

        Returns
        -------
        FeedbackReceipt or tuple of FeedbackReceipt
            What became of it: true where it was taken in. Late, repeated and unknown ids, an
            exhausted quota and a signature that does not hold are answers and no errors.

        Raises
        ------
        TypeError, ValueError
            For a label out of range, a target that is no number, and anything else that no answer
            could be meant by. Nothing is done then, of none of many.
        FeedbackSourceError
            For a capability that this model did not make.
        ModelClosedError, ForkedProcessError
            After `close`, and in a forked child.

        Notes
        -----
        An answer can be spoken of as long as it is one of the latest 256, or was asked for
        (`wanted_labels`). Volunteered labels may train a repair, and decide nothing: labels that
        the device asked for do.
        """
        self._inference_lock.check_process()
        labels = self._loop.labels
        with self._inference_lock:
            recent = labels.recent()
        claims, are_many = labels.read(label, correct, id, source, recent)
        receipts, records = labels.take(claims, recent, self._loop.odd_since())
        if records:
            self._tell(FeedbackCame(records))
            if labels.is_due():
                self._tell(FeedbackDue())
        return receipts if are_many else receipts[0]

    def wanted_labels(self, limit: int = 16) -> tuple[Question, ...]:
        """Return the recent inputs whose labels would decide most, to be shown to a person.

        While a repair is on probation: those on which it and golden part. Else those whose answers
        had little margin; and always some that are drawn from all, to compare with. Questions that
        wait for an answer come first, so that asking again returns the same ones.

        Parameters
        ----------
        limit
            At most so many, 1 to 256.

        Returns
        -------
        tuple of Question
            Answers go to `feedback` by `Question.id`. They may come as long as there is room for
            the question (`Policy.questions_bytes`), hours later and after a restart.
        """
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit: expected an integer, got {type(limit).__name__}")
        if not 1 <= limit <= _MOST_QUESTIONS:
            raise ValueError(f"limit: expected 1 to {_MOST_QUESTIONS}, got {limit}")
        self._inference_lock.check_process()
        labels = self._loop.labels
        with self._inference_lock:
            recent = labels.recent()
        return labels.ask(limit, recent, self._loop.parting(recent), self._loop.odd_since())

    def revoke(
        self,
        source: FeedbackSource | str | None = None,
        id: Any = None,
    ) -> Revocation:
        """Unlearn what a source has said, or what was learned from predictions.

        Their samples leave the trusted pool, their labels all that counts them. Repairs that were
        learned from them are taken out of service, saved states with the same weights are dropped,
        and each repair is learned again from what is left of what it was learned from, the same to
        the bit as if the rest had never been there; it begins a probation of its own. Where that
        cannot be (too little is left, or the inputs are not held: `Policy.lesson_bytes`, and after
        a restart `Policy.keep_inputs`) what serves in normal operation serves.

        Parameters
        ----------
        source
            A capability, or a name; ``"unauthenticated"`` for all without a key. Nothing that it
            says counts from now on, until `feedback_source` makes it anew with another key.
        id
            Instead: `Prediction.id`, or many. No label of these counts from now on.

        Returns
        -------
        Revocation
            What became of it: true where there was anything to take back. A source that is not
            known, one that was revoked before, and a prediction from which nothing was learned are
            answers and no errors.

        Raises
        ------
        TypeError, ValueError
            Unless exactly one of them is given; for what is no id.
        ModelClosedError, ForkedProcessError
            After `close`, and in a forked child.

        Notes
        -----
        What revoked samples have pushed out of the pool does not come back. It takes as long as
        learning does. A process that ends in the middle leaves what was before, or nothing that was
        learned from what is revoked.
        """
        if (source is None) == (id is None):
            raise TypeError("source, id: expected exactly one of them")
        with self._maintenance_lock:
            # What is seldom asked for is loaded then.
            from selfheal_edge.loop.revoking import revoke  # noqa: PLC0415

            return revoke(self._loop, source, id)

    @property
    def trusted_pool(self) -> TrustedPool:
        """Labelled samples that a repair may learn from: `list`, `show`."""
        return self._loop.labels.pool

    @property
    def quarantine(self) -> Quarantine:
        """Suspects that nothing is learned from: `list`, `show`, `release`, `confirm`."""
        return self._loop.labels.quarantine

    def hear_parting(self, text: str, since: int) -> None:
        """Hear from a committee that its members part more often than they do in normal operation.

        As an alarm of the monitor's: every byte is checked at once, and the cause is sought.

        Parameters
        ----------
        text
            What happened, in words.
        since
            How many predictions ago it began, about.
        """
        with self._inference_lock:
            onset = max(0, self._parts.monitor.count - since)
            alarm = Alarm(MEMBERS_PART, 1, 0.0, onset, 0.0, 0.0, detail=text)
            self._loop.dispatcher.handle(Incident(self._loop.predictions, alarms=(alarm,)))

    def hear_contradiction(self) -> bool | None:
        """Hear from a committee that something speaks against an answer: ask the known answers.

        Where they are wrong, every byte is checked at once, and what follows from that is done.

        Returns
        -------
        bool or None
            Whether they are right; None where another thread is at work on the weights, so that
            nothing was asked.
        """
        with self._maintenance_lock.attempt() as is_free:
            if not is_free:
                return None
            self._maintenance_lock.check()
            with self._inference_lock:
                are_right = self._loop.repairs.known_answers_right()
            if not are_right:
                self._loop.handle(KnownAnswersAsked(Why.SCHEDULE, are_right=False))
            return are_right

    def _tell(self, about: FeedbackCame | FeedbackDue) -> None:
        """Have the loop hear of something that is no inference."""
        if self._policy.mode == "background":
            self._loop.dispatcher.post(about)
            return
        with self._maintenance_lock:
            self._loop.handle(about)

    def reset_state(self) -> None:
        """Start the state of a recurrent model anew, as at the beginning of a sequence.

        For resource variables the runtime is built anew: 0.3 to 2 ms for a small model.
        """
        keeps_resources = self._session.model.keeps_resources
        with self._maintenance_lock if keeps_resources else self._inference_lock:
            self._session.reset_state(self._serving.exchange)

    def snapshot(self) -> int:
        """Save the weights as they are; return the generation's number.

        Raises
        ------
        IntegrityError
            While a block is corrupt.
        RuntimeError
            When there is no room for another generation.
        """
        with self._maintenance_lock:
            return self._loop.repairs.snapshot(self._loop.predictions)

    def export(self, path: str | os.PathLike[str], generation: int | None = None) -> str | None:
        """Write the model to a TFLite file that any runtime opens, and that answers alike.

        As `weights.export`: with one of `weights.generations`, or as it serves now. Where that
        corrects the input, so does the graph that is written; where no graph can, a small JSON file
        beside it has the correction, and its path is returned.
        """
        return self._weights.export(path, generation)

    def rollback(
        self, to: int | Literal["golden"] = "golden", modules: Collection[str] | None = None
    ) -> None:
        """Put the weights back to a saved state, and rebuild the runtime from them.

        Parameters
        ----------
        to
            ``"golden"``, the state of the file, or a number that `snapshot` returned.
        modules
            Names from `weights.modules`; None for the whole model. To the byte: neighbours that
            share a block with a module stay as they are.

        Raises
        ------
        ValueError
            For an unknown generation or module.
        IntegrityError
            When the saved bytes are themselves damaged, or the model is not proven sound
            afterwards. It is then what it was before; if that cannot be proven either, answers are
            marked untrusted.
        RuntimeError
            When there are no snapshots, or no room for what modules of one generation and the rest
            of another make together: that is a generation of its own.
        """
        with self._maintenance_lock:
            self._loop.repairs.roll_back(to, modules, self._loop.predictions)
            self._loop.rolled_back()

    def update(self, model: ModelSource, baseline: Baseline) -> None:
        """Have a new model file take this one's place, if it proves itself.

        Here and now the file is loaded beside the one that runs, and both must give their known
        answers. Then it is stored: from the next start on it serves, on trial, whichever of the two
        files is given. The old one stays in the store until the trial has ended well
        (`Policy.trial_predictions`), and serves again after one that did not: at once after a
        trouble or a runtime that failed, at the next start after a process that was ended in the
        middle. What was rejected is remembered by its hash (`health.failures`), and not tried
        again. Journal and counters go on; sources of labels are made anew, as after a start.

        Opening a model over a store of another file begins such a trial as well.

        Parameters
        ----------
        model
            The new file: its path, or its bytes.
        baseline
            From `calibrate`, for that file.

        Raises
        ------
        StoreError
            Without a store, and where nothing can be written.
        IntegrityError
            When the file was rejected before, when it does not give the answers that it should, or
            when the policy requires a signed baseline and this one is not.
        FileNotFoundError, ModelFormatError, BaselineMismatchError
            For the file. Nothing has changed then.
        """
        keeper = self._keeper
        if keeper is None:
            raise StoreError("update: expected a model with a store: it keeps the old file")
        _require_signed(baseline, self._policy)
        file = ModelFile.of(model)
        with self._maintenance_lock:
            if reason := keeper.updates.rejected(file.sha256, self._loop.state.failures):
                raise IntegrityError(f"update: {file.sha256[:16]} was rejected here: {reason}")
            try:
                proven = self._loop.repairs.prove_update(
                    file, baseline, self._how, self._policy.probe
                )
            except IntegrityError as error:
                self._loop.note(WeightsRejected("update", file.sha256, str(error)))
                raise
            keeper.updates.stage(file, proven)
            self._journal.add(
                EventKind.TRIAL,
                self._loop.predictions,
                outcome=f"model file {file.sha256[:16]} is stored, for the next start",
            )

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """The operating conditions that are known, that of the references first.

        Each has a name, its share of the calibration, and the prediction at which it was entered
        last; at most eight. Empty for a monitor of the user's own.
        """
        monitor = self._parts.monitor
        with self._inference_lock.lock():
            return monitor.regimes.regimes if isinstance(monitor, PerformanceMonitor) else ()

    def accept(self) -> None:
        """Take what there is now for normal: the trouble ends, and the references follow.

        The charts take over the level since the onset of what has alarmed at once; from the next
        256 predictions the operating condition is learned (`regimes`), in which nothing but a
        sensor's own alarms is heard. It is the user's word against the diagnosis: an attack, or a
        fault of a sensor, that is accepted is normal from then on.

        Raises
        ------
        IntegrityError
            While weights or runtime are damaged: that is never normal.
        """
        with self._maintenance_lock:
            if self._loop.state.is_damaged:
                raise IntegrityError(
                    "accept: expected sound weights and a sound runtime, got a model that is "
                    f"damaged: {self._loop.state.trouble}"
                )
            self._loop.accept()

    @property
    def heal(self) -> Heal:
        """What the loop may change: ``"observe"``, ``"corruption"`` or ``"all"``, as `Policy.heal`.

        To be set while the model runs. With less than before, what was learned serves on until it
        is taken back or its condition is over.
        """
        with self._inference_lock.lock():
            return self._loop.state.heal

    @heal.setter
    def heal(self, heal: Heal) -> None:
        if heal not in get_args(Heal):
            raise ValueError(f"heal: expected one of {get_args(Heal)}, got {heal!r}")
        with self._maintenance_lock:
            self._loop.set_heal(heal)

    def commission(self, *, flips: bool | FlipEffort = True) -> None:
        """Record the known answers on this device, from bytes that are proven to be the file's.

        Runs by itself, without `flips`, at a start on another runtime, kernel choice or machine.
        The state of a recurrent model starts anew.

        Parameters
        ----------
        flips
            Also cross-check the coverage table by changing weights of instances made for it, and
            lower what flips contradict: for a minute at most, or as a `FlipEffort` says.

        Raises
        ------
        IntegrityError
            When the weights are corrupt, or two fresh instances disagree.
        """
        with self._maintenance_lock:
            self._baseline = self._loop.repairs.commission(
                self._baseline, self._loop.predictions, flips=flips
            )

    @property
    def baseline(self) -> Baseline:
        """The baseline, with the known answers as recorded on this device."""
        return self._baseline

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs."""
        return self._session.instance.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs."""
        return self._session.instance.outputs

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What the trouble that goes on is taken for, with its evidence; None where all is well.

        While an alarm waits for enough inputs to be explained, it is still None, and answers are
        untrusted. While a repair of it is on probation it is still told.
        """
        with self._inference_lock.lock():
            return self._loop.state.named_trouble

    @property
    def events(self) -> Sequence[Event]:
        """What happened, oldest first; bounded by `Policy.max_events`."""
        with self._inference_lock.lock():
            return self._journal[:]

    @property
    def weights(self) -> ModelWeights:
        """The guarded bytes: `images`, `regions`, `coverage`, `scrub()`, `export()`."""
        return self._weights

    @property
    def health(self) -> Health:
        """The state at this moment; `performance` is estimated for it, in some 0.3 ms."""
        performance = self._performance()
        with self._inference_lock.lock():
            loop, count = self._loop.state, self._loop.state.count
            trouble = loop.named_trouble
            state = HealthState.HEALTHY if self._loop.is_trusted else HealthState.UNTRUSTED
            before = 0 if self._keeper is None else self._loop.state.before
            return Health(
                state=HealthState.CLOSED if self._inference_lock.closed else state,
                trouble=None if trouble is None else trouble.cause,
                generation=self._parts.weights.active,
                coverage=CoverageSummary.of(self._session.coverage, self._session.choice.reason),
                protected_share=self._count_protected(),
                fingerprint=self._session.fingerprint,
                predictions=before + self._loop.predictions,
                alarms=count.alarms,
                corrupt_blocks=count.corrupt_blocks,
                guard_repairs=count.guards_mended,
                repairs=count.repairs,
                failed_repairs=count.failed,
                detection_latency=self._serving.checks.latency,
                code=shared_watch().coverage if self._policy.code_budget else None,
                sweeps=self._parts.weights.sweeps,
                nonfinite=self._parts.monitor.nonfinite,
                failures=loop.failures,
                store=None if self._keeper is None else self._keeper.state,
                condition=loop.condition,
                on_probation=loop.probation is not None,
                budget=None if self._parts.proposer is None else self._parts.proposer.budget.left,
                threshold=self._threshold(),
                performance=performance,
            )

    def _threshold(self) -> float | None:
        threshold, image = abnormal_above(self._baseline), self._parts.weights.images.get("input")
        if threshold is None or image is None:
            return threshold
        return threshold_in(bytes(image.live[:HEADER_BYTES])) or threshold

    def _performance(self) -> Performance:
        with self._inference_lock.lock():
            trouble = self._loop.state.trouble
            cause = None if trouble is None else trouble.cause
        if cause in UNTELLING:
            return not_estimable(UNTELLING[cause])
        parts = self._parts
        return estimate_now(
            parts.session,
            self._baseline,
            parts.extractor,
            parts.monitor,
            self._inference_lock,
            self._loop.labels,
        )

    def _count_protected(self) -> ProtectedShare:
        known = self._protected_share
        # What was refused may be had by now; once the model is closed, there is nothing to count.
        if known is None or (known.heap is None and not self._inference_lock.closed):
            known = measure_protected_share(self._session)
        if known.code is None:
            known = dataclasses.replace(known, code=code_bytes())
        self._protected_share = known
        return known

    def memory_report(self) -> dict[str, int]:
        """Return the bytes that the guard holds beside the runtime's own, by what for."""
        report = {
            "model file": self._session.copy.held_bytes,
            **{f"{name} image": i.nbytes for name, i in self._parts.weights.images.items()},
            "checksums and snapshots": self._parts.weights.memory_bytes,
            "references, charts and history": self._parts.monitor.memory_bytes,
            "signals": self._parts.extractor.memory_bytes,
            "hot path": self._serving.memory_bytes,
            "known answers": self._baseline.known_answers.nbytes,
            "pool, quarantine and questions": self._loop.labels.memory_bytes,
        }
        if self._parts.proposer is not None:
            learned = self._loop.conditions.memory_bytes + self._parts.proposer.memory_bytes
            if learned:  # once there is something to learn from
                report["conditions, and candidates beside the stream"] = learned
        if kept := self._loop.repairs.standby_bytes:
            report["standby"] = kept
        if self._parts.spare is not None:
            report["hot spare"] = self._parts.spare.memory_bytes
        if self._keeper is not None:
            report["store"] = self._keeper.memory_bytes
        return {**report, "total": sum(report.values())}

    def close(self) -> None:
        """Release everything; calling it again, or in a forked child, does nothing."""
        try:
            self._inference_lock.check_process()
            if self._leave_code is not None and (left := self._leave_code.detach()) is not None:
                shared_watch().leave(*left[2])
            if self._parts.proposer is not None:
                self._parts.proposer.stop()  # what the worker learns may take seconds
            self._loop.dispatcher.close()
            with self._maintenance_lock, self._inference_lock:
                if self._protected_share is None:  # what `health` can still tell afterwards
                    self._protected_share = measure_protected_share(self._session, builds=False)
                self._journal.add(EventKind.CLOSED, self._loop.predictions)
                self._inference_lock.close()
                self._maintenance_lock.close()
                self._loop.labels.close()
                self._parts.close()
            self._close_store()
        except (ModelClosedError, ForkedProcessError):
            return  # what a child holds is its parent's, and goes when the child ends

    def _listen_for_code(self) -> None:
        """Have code swept from now on, until the model is closed or forgotten."""
        if not self._policy.code_budget:
            return
        listener = _code_listener(weakref.WeakMethod(self._code_is_damaged))
        shared_watch().listen(listener, self._policy.code_budget)
        self._leave_code = weakref.finalize(self, shared_watch().forget, listener)
        self._leave_code.atexit = False

    def _code_is_damaged(self, pages: tuple[CodeDamage, ...]) -> None:
        """Trust no answer any more; called by the thread that sweeps code."""
        is_end = self._policy.on_code_damage == "exit"
        try:
            with self._maintenance_lock:
                self._loop.handle(CodeDamaged(pages))
                if is_end and self._keeper is not None:
                    self._keeper.commit()
        except ModelClosedError:
            return  # it gives no answers any more
        except BaseException:  # a callback may end its thread: the process ends all the same
            if not is_end:
                raise
            logger().exception("damaged code could not be told of in full")
        if is_end:
            logger().critical("code is damaged: %s; the process ends", pages[0])
            os._exit(_EX_SOFTWARE)

    def _serve_requests(self, requests: Sequence[Request], refused: Sequence[str]) -> None:
        """Do what other processes have asked for; called by the store's thread."""
        with contextlib.suppress(ModelClosedError), self._maintenance_lock:
            self._loop.repairs.keep_again()
            for reason in refused:
                self._journal.add(EventKind.REQUEST, self._loop.predictions, outcome=reason)
            for request in self._serve_labels(requests):
                if self._loop.repairs.serve(request, self._loop.predictions):
                    self._loop.rolled_back()

    def _serve_labels(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Do what has been asked for of labels; return the other requests."""
        # What reads an inbox loads more than serving needs.
        from selfheal_edge.loop.label_requests import LABEL_KINDS, serve_labels  # noqa: PLC0415

        about_labels = [one for one in requests if one.kind in LABEL_KINDS]
        for request in about_labels:
            done = serve_labels(self, self._loop.labels, request)
            self._journal.add(
                EventKind.REQUEST, self._loop.predictions, evidence=(request.id,), outcome=done
            )
        if about_labels and self._keeper is not None:
            self._keeper.keep_labels()
        return [one for one in requests if one.kind not in LABEL_KINDS]

    def _close_store(self) -> None:
        if self._keeper is not None:
            locks = self._inference_lock, self._maintenance_lock
            self._keeper.close(wait=not any(lock.core.mine for lock in locks))

    def wait_healed(self, seconds: float | None = None) -> bool:
        """Wait until nothing is left to heal in the background; return whether that is so.

        Parameters
        ----------
        seconds
            How long at most; None: as long as it takes. With ``mode="inline"`` it is always so.
        """
        self._inference_lock.check_process()
        return self._loop.dispatcher.wait(seconds)

    def __enter__(self) -> SelfHealingModel:
        with self._inference_lock:
            return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied and pickled: two objects would own one runtime and its memory."""
        raise TypeError("model: expected to stay the one object of its process, got copied")

    def __repr__(self) -> str:
        state: Any = "closed" if self._inference_lock.closed else self._session.fingerprint
        return f"<SelfHealingModel {self._session.model.sha256[:12]}, {state}>"


def _code_listener(method: weakref.WeakMethod[Listener]) -> Listener:
    """Return what tells a model of damaged code, and does not keep it."""

    def tell(pages: tuple[CodeDamage, ...]) -> None:
        if (heard := method()) is not None:
            heard(pages)

    return tell


def _require_signed(baseline: Baseline, policy: Policy) -> None:
    if policy.require_signed and not baseline.signed:
        raise IntegrityError(
            "baseline: expected one that was signed and loaded with its key, as the policy "
            "requires (require_signed): it vouches for the model file; got an unsigned one"
        )


def _open_store(
    path: str | os.PathLike[str],
    key: KeyArgument,
    counter: Counter | None,
    policy: Policy,
    drawn: int,
) -> Keeper:
    """Open the store; a database is loaded by those alone who ask for one."""
    from selfheal_edge.loop.keeper import Keeper  # noqa: PLC0415

    return Keeper.open(path, key, counter, policy, drawn)


def _call(method: weakref.WeakMethod[Callable[..., None]], *given: bool) -> None:
    if (bound := method()) is not None:
        bound(*given)


def _call_ended(method: weakref.WeakMethod[Callable[[], None]], journal: Journal) -> None:
    """Do what must not run in the middle of a call: it does not keep the model."""
    journal.deliver()
    if (ended := method()) is not None:
        ended()


def _first_id(seed: int | None) -> int:
    """Draw where the numbers of predictions begin, far from those of other starts."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") >> 2
    import random  # noqa: PLC0415 — for tests

    return random.Random(seed).getrandbits(62)  # noqa: S311


def _weights_of(
    parts: Parts, keeper: Keeper | None
) -> tuple[Weights, ModelCopy, SeesDamage, KeptGenerations | None]:
    kept = None if keeper is None else keeper.generations
    return parts.weights, parts.session.copy, parts.loop.found, kept


def _golden_source(parts: Parts) -> bytes:
    """Return our copy of the file as the model was opened with it, from what is guarded."""
    has_copies = parts.weights.images["source"].pool is not None
    return parts.weights.sound_bytes("source", 0 if has_copies else None)


def parts_of(model: SelfHealingModel) -> Parts:
    """Return what a model is made of: for the red team and for tests, which reach behind the face.

    No part of it is promised to users, and what is changed there is not guarded.
    """
    return model._parts  # noqa: SLF001 — the one way behind the face


# Python functions around the compiled ones would cost a small model's inference a hundredth.
SelfHealingModel.predict = _core.quick_predict(  # type: ignore[method-assign]
    SelfHealingModel, SelfHealingModel.predict, "_hot"
)
SelfHealingModel.infer = _core.quick_infer(  # type: ignore[method-assign]
    SelfHealingModel, SelfHealingModel.infer, "_hot"
)
