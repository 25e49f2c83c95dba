"""Carry out the loop's actions, and feed their results back as incidents."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from selfheal_edge import _core
from selfheal_edge.causes import Cause
from selfheal_edge.concurrency.locks import ModelLock
from selfheal_edge.diagnosis.diagnoser import Diagnoser, diagnose_with
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.errors import ForkedProcessError, IntegrityError, ModelClosedError
from selfheal_edge.inference.incident import Incident
from selfheal_edge.inference.serving import Serving
from selfheal_edge.inference.spare import Spare
from selfheal_edge.integrity.generations import NoRoomError
from selfheal_edge.integrity.guarded_image import GuardedImage
from selfheal_edge.integrity.weights import CorruptBlock, Weights
from selfheal_edge.learning.feedback import RecentAnswers
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.questions import Parting
from selfheal_edge.learning.revocation import Revocation
from selfheal_edge.learning.selection import Standing
from selfheal_edge.log import logger
from selfheal_edge.loop import actions as do
from selfheal_edge.loop import incidents as heard
from selfheal_edge.loop.decision import SIGNALS_EVERY, decide, is_trusted, wake_at
from selfheal_edge.loop.dispatcher import Dispatcher, dispatcher_for
from selfheal_edge.loop.examiner import Examiner
from selfheal_edge.loop.incidents import AnyIncident
from selfheal_edge.loop.known_conditions import KnownConditions
from selfheal_edge.loop.label_desk import LabelDesk
from selfheal_edge.loop.learned_repair import MOST_HARM, is_condition
from selfheal_edge.loop.proposer import Harm, Proposer
from selfheal_edge.loop.remembered import LEARNED_ROWS, Frozen, Remembered
from selfheal_edge.loop.repair_executor import RepairExecutor
from selfheal_edge.loop.second_look import SecondLook
from selfheal_edge.loop.state import LoopState, Moment
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.monitoring.monitor import (
    SENSOR_ALARMS,
    Alarm,
    KeptMonitor,
    Monitor,
    PerformanceMonitor,
)
from selfheal_edge.monitoring.performance import Performance
from selfheal_edge.monitoring.regimes import MATCH_SAMPLES, Regime
from selfheal_edge.policy import Heal, Policy
from selfheal_edge.repair import ModelRepairKit
from selfheal_edge.store.journal import EventKind, Journal
from selfheal_edge.tflite.runtimes.protocol import RUNTIME_FAILURES, Instance
from selfheal_edge.tflite.session import Session

if TYPE_CHECKING:  # it loads a database
    from selfheal_edge.loop.kept_generations import KeptGenerations, Late

__all__ = ["LoopExecutor", "ServingMaker"]


_MOST_PUT_OFF: Final = 64
_JUDGED_EVERY: Final = 256
_PUT_OFF_FOR: Final = 256
"""Predictions that alarms wait for where there is no time left to find their cause."""
_TOLD_BY_LABELS: Final = frozenset({Cause.CONCEPT_DRIFT, Cause.POISONING})
_EARLIER: Final = 16
"""Inputs before an alarm's onset, which is an estimate, that are looked at as well."""
_LOOKS_EVERY: Final = 4
_LOOKED_AT: Final = 48
"""Latest inputs that are looked at where nothing has alarmed."""
_MAY_BE_REGIMES: Final = frozenset({Cause.COVARIATE_DRIFT, Cause.LABEL_SHIFT, Cause.UNKNOWN})


class ServingMaker(Protocol):
    """Makes what serves, given where to report."""

    def __call__(self, *, handle: Callable[[Incident], None]) -> Serving:
        """Return it."""
        ...


class LoopExecutor:
    """One model's loop: holds its state, and carries out what `decide` returns.

    The state is read by every thread and replaced under the inference lock; all else is done by
    one thread at a time, which has the maintenance lock.

    Parameters
    ----------
    session, weights, guard
        What runs, its bytes, and what makes guarded images of them.
    monitor, diagnoser, kit, policy, known, journal
        The parts of the loop, what shall be done, and where it is written down.
    inference_lock, maintenance_lock
        The same object where the call that notices damage heals it.
    spare
        Serves while the model is being healed.
    serve
        Makes what serves; it reports here.
    kept
        Keeps generations beyond the process, if anything does.
    core_may_heal
        Whether the core's sweep may repair what it finds, where the loop may repair at all.
    end_trial
        Has a new model file take the old one's place, with its generations that are not stored
        yet, or forgets it; waits for no medium.
    keep, commit
        Have a store write what the loop knows, and what was learned, with what is written next;
        have that written now.
    examiner
        Collects what a diagnosis is made from.
    conditions
        Those that repairs were learned for.
    proposer
        Has strategies learn; None: nothing is learned.
    performance
        Estimates how well the model does; called without a lock.
    labels
        Takes feedback in.
    second_look
        Gives other answers to suspects while an attack lasts; None: they are marked alone.
    """

    # The state is a slot, where a committee's core looks at it in each answer.
    __slots__ = ("__dict__", "__weakref__", "state")

    state: LoopState
    """What the loop knows; another object after every change."""

    def __init__(
        self,
        *,
        session: Session,
        weights: Weights,
        guard: Callable[[Instance], Mapping[str, GuardedImage]],
        monitor: Monitor,
        diagnoser: Diagnoser,
        kit: ModelRepairKit,
        policy: Policy,
        known: KnownAnswers,
        journal: Journal,
        inference_lock: ModelLock,
        maintenance_lock: ModelLock,
        spare: Spare | None,
        serve: ServingMaker,
        kept: KeptGenerations | None = None,
        core_may_heal: bool = True,
        end_trial: Callable[[bool, Sequence[Late]], None] = lambda _has_held, _late: None,
        keep: Callable[[Remembered, Mapping[str, bytes]], None] = lambda _known, _rows: None,
        commit: Callable[[], None] = lambda: None,
        examiner: Examiner,
        conditions: KnownConditions,
        proposer: Proposer | None = None,
        performance: Callable[[], Performance | None] = lambda: None,
        labels: LabelDesk,
        second_look: SecondLook | None = None,
    ) -> None:
        self._session = session
        self._weights = weights
        self._monitor = monitor
        self._diagnoser = diagnoser
        self._strategies = kit.strategies
        self._core_may_heal = core_may_heal
        self._journal = journal
        self._inference_lock = inference_lock
        self._spare = spare
        self._end_trial = end_trial
        self._keep = keep
        self._commit = commit
        self.examiner = examiner
        """Collects what a diagnosis is made from."""
        self.conditions = conditions
        """Those that repairs were learned for."""
        self._proposer = proposer
        self._kept = kept
        self._patches: dict[int, Patch] = {}  # by generation, of this process
        self._aside: Remembered | None = None
        self._lost = ""  # why conditions of the process before are not known
        self._performance = performance
        self.labels = labels
        """Takes feedback in, and asks for labels."""
        self._second_look = second_look
        self._judged_trouble: Diagnosis | None = None
        self._is_put_off = False
        self._accepted: tuple[int, Regime] | None = None  # the sample, and what was seen before
        self._compared_at = self._judged_at = 0  # predictions, as the monitor counts them
        self._watch: _core.ConditionWatch | None = None
        self._watched_since = 0
        self.state = LoopState.first(policy, has_spare=spare is not None, learners=kit.learning)
        self._second = 0.0
        self._is_busy = False
        self._later: deque[AnyIncident] = deque(maxlen=_MOST_PUT_OFF)
        self.dispatcher: Dispatcher = dispatcher_for(self, inference_lock, maintenance_lock)
        """Has incidents handled: by the calling thread, or by a worker."""
        self.serving = serve(handle=self.dispatcher.handle)
        """Serves the inferences, and reports here."""
        labels.follow(self.serving)
        self.repairs = RepairExecutor(
            session=session,
            weights=weights,
            guard=guard,
            known=known,
            journal=journal,
            serving=self.serving,
            inference_lock=inference_lock,
            mark_untrusted=self._mark_untrusted,
            kept=kept,
            rejected=self._weights_rejected,
            keeps_standby=policy.standby,
        )
        """What strategies see, and what the user asks for."""

    @property
    def predictions(self) -> int:
        """Predictions so far."""
        return self.serving.hot.number

    @property
    def is_trusted(self) -> bool:
        """Whether answers may be relied on: the model's own, or those of a proven spare."""
        is_right = is_trusted(self.state) or self.serving.on_spare
        return is_right and not self.state.trust.is_code_damaged

    def start(self, before: Remembered | None = None, trial: str | None = None) -> None:
        """Begin to count what is done every so often; go on with what was known before.

        Parameters
        ----------
        before
            What the process before knew.
        trial
            The model file's SHA-256 where it is on trial.
        """
        self.handle(heard.Started())
        if before is not None and trial is not None:
            self._aside, before = before, before.without_learned()
        generations = self.repairs.learned
        if before is None and generations:
            before = Remembered()  # its row was lost; what was learned is there
        if before is not None:
            self._forget_without_repair(before)
            self._patches.update(self.repairs.going_on)
            conditions, problem = self.conditions.names, self._lost
            self.handle(heard.Restarted(before, conditions, generations, problem))
        self._end_revocations()
        if trial is not None:
            self.handle(heard.TrialBegan(trial))

    def left(self) -> None:
        """Have those who follow its state look once more: it serves no longer."""
        with self._inference_lock.lock():
            self.state = replace(self.state)

    def freeze(self, whole: bool) -> Frozen:
        """Return monitor and loop as they are now, for a store; predictions wait for a copy.

        Parameters
        ----------
        whole
            With the history of scores, which changes all the time and is small loss.
        """
        monitor = self._monitor
        with self._inference_lock.lock():
            known = self._remembered()
            if isinstance(monitor, PerformanceMonitor):
                copy = monitor.core.copy()
                state = partial(copy.state, history=whole)
                return Frozen(known, state, monitor.regimes, self._learned_rows())
            if isinstance(monitor, KeptMonitor):
                blob = monitor.state()
                return Frozen(known, lambda: blob, None, self._learned_rows())
        return Frozen(known, None, None, self._learned_rows())

    def _remembered(self) -> Remembered:
        known = Remembered.of(self.state, self.state.before + self.predictions)
        if self._aside is not None:  # of the model file that may come back
            known = known.with_learned(self._aside)
        return known

    def _learned_rows(self) -> dict[str, bytes]:
        if self._proposer is None:
            return {}
        rows = self.conditions.to_bytes(), self._proposer.budget.to_bytes()
        return dict(zip(LEARNED_ROWS, rows, strict=True))

    def go_on_with(self, rows: Mapping[str, bytes]) -> None:
        """Know the conditions of the process before, with no more budget than it had left.

        Parameters
        ----------
        rows
            As in `Frozen.learned`. Conditions that cannot be read are lost, with their repairs; a
            budget that cannot be read has nothing left.
        """
        conditions, budget = (rows.get(name) for name in LEARNED_ROWS)
        if conditions is not None:
            try:
                self.conditions.go_on_with(conditions)
            except IntegrityError as error:
                logger().warning("conditions begin anew", exc_info=True)
                self._lost = str(error)
        if budget is not None and self._proposer is not None:
            try:
                self._proposer.budget.go_on_with(budget)
            except IntegrityError:
                logger().warning("the budget of repairs begins empty", exc_info=True)
                self._proposer.budget.use_up()

    def _forget_without_repair(self, before: Remembered) -> None:
        """Forget conditions that no repair is known of: they would pass for normal ones."""
        known = {repair.condition for repair in before.learned}
        known.update(name for _, name in before.leaving if name is not None)
        for name in self.conditions.names - known:
            self.conditions.forget(name)
        monitor = self._monitor
        if isinstance(monitor, PerformanceMonitor):
            with self._inference_lock:
                held = {regime.name for regime in monitor.regimes.regimes} - known
                for name in filter(is_condition, held):
                    monitor.forget(name)

    def found(self, blocks: tuple[CorruptBlock, ...]) -> None:
        """Handle what a sweep found beside the inferences."""
        self.handle(heard.DamageFound(blocks))

    def accept(self) -> None:
        """Take what there is for normal, as the user says; to be learned from what follows."""
        monitor = self._monitor
        if isinstance(monitor, PerformanceMonitor):
            with self._inference_lock:
                count, since = monitor.count, self._wrong_since()
                seen = monitor.seen(count - MATCH_SAMPLES if since is None else since)
                self._accepted = None if seen is None else (count, seen)
                monitor.accept()
        self.handle(heard.Accepted())

    def set_heal(self, heal: Heal) -> None:
        """Change what the loop may do from now on; called under the maintenance lock."""
        self.handle(heard.HealSet(heal))
        with self._inference_lock:
            self.serving.hot.heals = self._core_may_heal and heal != "observe"

    def rolled_back(self) -> None:
        """Take note that the user has rolled back, and that the result was proven."""
        self.handle(heard.RolledBack())

    def handle_next(self) -> None:
        """Have the next inference handled, whatever it reports; called under the inference lock."""
        hot = self.serving.hot
        hot.due_number, hot.due_seconds, hot.watched = None, math.inf, True

    def note(self, incident: AnyIncident) -> LoopState:
        """Take note of an incident that needs no action; return the next state."""
        with self._inference_lock:
            self._follow(incident)
            return self.state

    def handle(self, incident: AnyIncident) -> None:
        """Handle an incident: decide, and carry the actions out.

        Nothing that predictions depend on is held for longer than one inference takes. What comes
        up meanwhile in the same thread, since a strategy or a diagnoser predicts, waits for the
        end: or damage that is being healed would be found, and healed, without end.

        Raises
        ------
        Exception
            The runtime's own, when it failed and no damage explains that.
        """
        if self._is_busy:
            self._put_off(incident)
            return
        try:
            self._is_busy = True
            self._handle(incident)
            while self._later:
                self._handle(self._later.popleft())
        finally:
            self._is_busy = False

    def _put_off(self, incident: AnyIncident) -> None:
        if isinstance(incident, Incident):
            if incident.error is not None:
                raise incident.error
            # What is still corrupt is what is being healed, or is found again.
            damage = _but_live(incident.damage)
            if damage or incident.alarms:
                self._later.append(replace(incident, damage=damage, again=None))
        elif isinstance(incident, heard.DamageFound):
            if blocks := _but_live(incident.blocks):
                self._later.append(heard.DamageFound(blocks))
        else:
            self._later.append(incident)

    def _handle(self, about: AnyIncident) -> None:
        self._second = self.serving.clock()  # the user's, read once an incident
        try:
            self._follow(about, heard.Ended(), about=about)
        except BaseException:
            self._follow(heard.Interrupted(), heard.Ended(), about=about)
            raise
        finally:
            hot = self.serving.hot
            if self._kept is not None and self._kept.problems:
                self.repairs.tell_problems(hot.number)
            # Made before the lock is taken: a new one solves equations for some milliseconds.
            watch = self.conditions.watch(self.state.condition) if self.state.learned else None
            with self._inference_lock:
                if self.state.now.on_spare != self.serving.on_spare:
                    now = replace(self.state.now, on_spare=self.serving.on_spare)
                    self.state = replace(self.state, now=now)
                wake = wake_at(self.state)
                hot.due_number, hot.due_seconds, hot.awaits_calm, hot.passages_from = wake
                hot.watched = False
                self._watch_conditions(watch)
            if self.state.trouble is not self._judged_trouble:
                self._judged_trouble = self.state.trouble
                lock = self._inference_lock
                self.labels.trouble_changed(self._judged_trouble, self.odd_since(), lock)
                self._answer_suspects(self._judged_trouble)

    def _watch_conditions(self, watch: _core.ConditionWatch | None) -> None:
        """Have each input looked at, where it may have come to a condition that is known."""
        since = self.state.recovered_at
        if watch is not self._watch:
            self.serving.hot.watch(watch)
        elif since == self._watched_since:
            return
        self._watch, self._watched_since = watch, since
        if watch is not None:
            watch.reset()

    def _answer_suspects(self, trouble: Diagnosis | None) -> None:
        """Have suspects answered as the policy says while an attack lasts."""
        second, serving = self._second_look, self.serving
        is_attack = trouble is not None and trouble.cause is Cause.ADVERSARIAL_INPUT
        if second is None or is_attack == (serving.second is not None):
            return
        if not is_attack:
            serving.answer_with(None)
            return
        outcome = f"not applied: {second.refused}" if second.refused else str(second)
        self._journal.add(
            EventKind.REPAIR,
            self.state.now.prediction,
            cause=Cause.ADVERSARIAL_INPUT,
            strategy=second.how,
            outcome=outcome,
        )
        if not second.refused:
            serving.answer_with(second.give)

    def _follow(  # noqa: PLR0912, PLR0915 — a case each
        self, *incidents: AnyIncident, about: AnyIncident | None = None
    ) -> None:
        """Decide what follows from each incident, and do it: this is the loop.

        What an action has found out is an incident as well, and is decided on before the next
        action is carried out.

        Parameters
        ----------
        incidents
            One after the other: what follows from one is done before the next.
        about
            What all this is about; None for what is to be noted while the stream goes on.
        """
        if about is not None:
            with self._inference_lock:
                number, sample = self.serving.hot.number, self._monitor.count
                alarms = about.alarms if isinstance(about, Incident) else ()
                is_familiar = bool(alarms) and self._is_familiar(alarms)
                is_damage_alone = (
                    isinstance(about, Incident)
                    and bool(about.damage)
                    and not (self.state.learned or self.state.leaving)
                )
                now = Moment(
                    number,
                    self._second,
                    sample,
                    self.serving.on_spare,
                    is_familiar,
                    self.state.home if is_damage_alone else self._weights.active,
                    self._watch is not None and self._watch.to is not None,
                )
                # All of it in one go: each prediction in a trouble does this.
                moved = object.__new__(LoopState)
                moved.__dict__.update(self.state.__dict__, now=now)
                self.state = moved
        left: list[do.Action | AnyIncident] = list(reversed(incidents))
        while left:
            match left.pop():
                case do.CheckWeights(why):
                    corrupt = self._weights.check(heal=self.serving.hot.heals)
                    left.append(heard.WeightsChecked(why, corrupt))
                case do.AskKnownAnswers(why):
                    are_right = self.repairs.known_answers_right()
                    left.append(heard.KnownAnswersAsked(why, are_right))
                case do.NameCause(symptoms):
                    if symptoms.alarms and not self.examiner.has_time():
                        left += reversed(self._diagnosis_put_off(symptoms))
                        continue
                    with self.examiner.timed() if symptoms.alarms else nullcontext():
                        familiar = self._recognise(symptoms) if symptoms.alarms else None
                        if familiar is not None:
                            left.append(familiar)
                            continue
                        if symptoms.alarms:
                            symptoms = self._examined(symptoms)
                        diagnosis = diagnose_with(self._diagnoser, symptoms)
                    self._is_put_off = False
                    left.append(heard.CauseNamed(diagnosis))
                case do.AskFeedback() if self.examiner.has_time():
                    with self.examiner.timed():
                        examined = self._examined(Symptoms(), asks=False)
                        diagnosis = diagnose_with(self._diagnoser, examined)
                    if diagnosis.cause in _TOLD_BY_LABELS:
                        self.labels.named()
                        left.append(heard.FeedbackNamed(diagnosis))
                case do.AskFeedback():
                    pass  # what labels say is looked at with the next ones
                case do.TryStrategy(name, case):
                    left.append(self.repairs.attempts.attempt(self._strategies[name], case))
                    with self._inference_lock:  # that may have taken long
                        now = replace(self.state.now, prediction=self.serving.hot.number)
                        self.state = replace(self.state, now=now)
                case do.Propose(names, diagnosis, since, after):
                    ago = self._monitor.count - since
                    left.append(self._propose(names, diagnosis, ago, after))
                case do.Adopt(names, patch, condition, since, lesson):
                    left.append(self._adopt(names, patch, condition, since, lesson))
                case do.LearnAgain() as again:
                    left.append(self._learn_again(again))
                case do.SwitchTo(generation, condition):
                    left.append(self._switch_to(generation, condition))
                case do.Keep():
                    self._keep_now()
                case do.Certify(condition, generation):
                    left.append(self._certify(condition, generation))
                case do.Confirm(generation):
                    self._queue_state()  # in one commit with the generation
                    self.repairs.confirm(generation)
                case do.Forget(generation, condition):
                    if self._forget(generation, condition):
                        left.append(heard.Forgotten(generation))
                case do.LookAtInputs():
                    if (passed := self._look_at_inputs()) is not None:
                        left.append(passed)
                case do.RebuildRuntime():
                    left.append(self._rebuild())
                case do.RenewGolden(guards, is_needed):
                    renewed = is_needed and self._renew_golden()
                    held = self._weights.generations
                    left.append(heard.GoldenRenewed(guards, renewed, held))
                case do.FailOver():
                    left.append(self._fail_over())
                case do.FailBack():
                    with self._inference_lock:
                        self.serving.attach(self._session.instance)
                case do.ReadSignals():
                    left.append(self._read_signals())
                case do.LearnRegime(since, name, adds):
                    with self._inference_lock:
                        is_other = self._is_other(since)
                        learned = None if is_other else self._learn(since, name, adds)
                        left.append(heard.RegimeLearned(learned, is_other))
                case do.ResetMonitor():
                    with self._inference_lock:
                        self._monitor.reset()
                        left.append(heard.MonitorReset(self._monitor.count))
                case do.Record(kind, cause, evidence, strategy, outcome, details):
                    self._journal.add(
                        kind,
                        self.state.now.prediction,
                        cause=cause,
                        evidence=evidence,
                        strategy=strategy,
                        outcome=outcome,
                        details=details,
                    )
                case do.AnswerAgain():
                    # A recurrent model's state would go on twice.
                    if isinstance(about, Incident) and about.again and not self._session.stateful:
                        about.again()
                case do.RaiseError():
                    assert isinstance(about, Incident)
                    assert about.error is not None
                    raise about.error
                case do.EndTrial(has_held):
                    self._aside = None if has_held else self._aside
                    self._end_trial(has_held, self.repairs.late() if has_held else ())
                case do.Proceed(step):
                    left.append(heard.NextStep(step))
                case incident:
                    with self._inference_lock:
                        self.state, actions = decide(self.state, incident)
                        self.serving.trusted.value = is_trusted(self.state)
                    left += reversed(actions)

    def _propose(
        self, names: tuple[str, ...], diagnosis: Diagnosis, ago: int, after: int | None
    ) -> AnyIncident:
        if self._proposer is None:
            text = "a model of several inputs, or with resource variables, learns nothing"
            return heard.Proposed(names, None, text, is_refused=True)
        reason = self.repairs.no_room() or self.conditions.cannot_learn()
        if reason:  # before it is paid for
            return heard.Proposed(names, None, reason, is_refused=True)
        # Should it take the process down, the next one has that much less to spend.
        lesson = None if after is None else self.repairs.lessons.get(after)
        also = () if lesson is None else lesson.ids.tolist()
        serving, standing = self.state.in_service, None
        if serving is not None and serving.generation == after:
            patch = self._patches.get(after)
            standing = None if patch is None or lesson is None else Standing(patch, lesson.ids)
        return self._proposer.propose(names, diagnosis, ago, self._keep_now, also, standing)

    def _certify(self, condition: str, generation: int) -> heard.Certified:
        lesson, patch = self.repairs.lessons.get(generation), self._patches.get(generation)
        certificate = None
        if lesson is not None and patch is not None and self._proposer is not None:
            inputs = lesson.inputs
            if inputs is None:
                inputs = self.labels.lesson_inputs.find(lesson.window)
            if inputs is not None:
                labelled = self.labels.labelled_of(lesson)
                certificate = self._proposer.certify(lesson, inputs, labelled, patch)
        return heard.Certified(condition, generation, certificate)

    def _adopt(
        self,
        names: tuple[str, ...],
        patch: Patch,
        condition: str,
        since: int,
        lesson: Lesson | None,
    ) -> AnyIncident:
        """Have what was learned serve; its condition is known by the inputs that it was made of."""
        ago, before = self._monitor.count - since, self.conditions.known(condition)
        if not self.conditions.learn(condition, ago):
            text = "its condition cannot be told from others: too few inputs are held"
            return heard.Adopted(names, None, text)
        try:
            adopted = self._adopt_for(names, patch, condition, lesson)
        except BaseException:
            self.conditions.put_back(condition, before)
            raise
        if adopted.generation is None:
            # A condition that no repair belongs to would be taken for normal.
            self.conditions.put_back(condition, before)
        else:
            self._patches[adopted.generation] = patch
        return adopted

    def _learn_again(self, again: do.LearnAgain) -> heard.LearnedAgain:
        """Learn a repair anew from what is left of its lesson, and have it proven.

        Where its condition does not last, what serves goes on: predictions wait meanwhile.
        """
        told = again.condition, again.diagnosis
        lesson, proposer, condition = again.lesson, self._proposer, again.condition
        if lesson is None or lesson.inputs is None or proposer is None:
            why = "what it was learned from is not known" if lesson is None else ""
            why = why or "the inputs that it was learned from are not held any more"
            return heard.LearnedAgain(*told, None, why, again.generation)
        reason = self.repairs.no_room() or self.conditions.cannot_learn()
        labelled = self.labels.labelled_of(lesson)
        found = None if reason else proposer.learn_again(lesson, lesson.inputs, labelled)
        if found is None or found.patch is None:
            why = reason if found is None else found.text
            return heard.LearnedAgain(*told, None, why, again.generation)
        if not self.conditions.learn_from(condition, lesson.inputs):
            why = "its condition cannot be told from others: too few inputs are left"
            return heard.LearnedAgain(*told, None, why, again.generation)
        monitor, before = self._monitor, self._weights.active
        if isinstance(monitor, PerformanceMonitor):
            with self._inference_lock:  # what it looked like while the other one served
                monitor.forget(condition)
        with nullcontext() if again.serves else self._inference_lock:
            made = self._adopt_for(found.names, found.patch, condition, found.lesson)
            if made.generation is not None and not again.serves:
                self.repairs.switch_to(before)
        if made.generation is not None:
            self._patches[made.generation] = found.patch
        return heard.LearnedAgain(
            *told,
            made.generation,
            found.text if made.generation is not None else made.text,
            again.generation,
            again.serves,
            made.harm,
        )

    def revoke(self, what: str, source: str | None, ids: Collection[int]) -> Revocation:
        """Unlearn what a source has said, or what was learned from predictions.

        Called under the maintenance lock.

        Parameters
        ----------
        what
            The same for the journal.
        source, ids
            One of them.
        """
        tainted = self._tainted(source, ids)
        samples, records = self.labels.revoke(source, ids)
        before = set(self._weights.generations)
        found = Revocation(source, tuple(ids), what, samples, len(records), tuple(sorted(tainted)))
        self.handle(
            heard.Revoked(
                what,
                source,
                source is not None and self.labels.sources.is_keyed(source),
                tainted,
                records,
                {k: v for k, v in found.to_dict().items() if k not in ("learned_again", "text")},
            )
        )
        self.labels.lesson_inputs.keep_only(self._needed())
        again = set(self._weights.generations) - before
        return replace(found, learned_again=tuple(sorted(again)))

    def _tainted(
        self, source: str | None, ids: Collection[int]
    ) -> dict[int, tuple[str, Lesson | None]]:
        """Return the generations that were learned from this, with what is left of each lesson."""
        tainted: dict[int, tuple[str, Lesson | None]] = {}
        for generation, lesson in self.repairs.lessons.items():
            if lesson is None:
                tainted[generation] = "what it was learned from is not known", None
            elif lesson.holds(source, ids):
                rest = lesson.without(source, ids)
                inputs = self.labels.lesson_inputs.find(rest.window)
                gone = len(lesson.ids) - len(rest.ids)
                why = (
                    f"learned from {gone} label(s) and {len(lesson.window) - len(rest.window)} "
                    f"input(s) that are revoked, of {len(lesson.ids)} and {len(lesson.window)}"
                )
                tainted[generation] = why, replace(rest, inputs=inputs)
        return tainted

    def _end_revocations(self) -> None:
        """Take out of service what the process before had revoked, had it not ended meanwhile."""
        for name in self.labels.sources.revoked:
            if any(x is not None and x.holds(name, ()) for x in self.repairs.lessons.values()):
                self.revoke(f"source {name!r}, as it was before the start", name, ())
        ids = self.labels.intake.revoked
        if any(x is not None and x.holds(None, ids) for x in self.repairs.lessons.values()):
            self.revoke("predictions, as they were before the start", None, ids)

    def _needed(self) -> set[int]:
        lessons = self.repairs.lessons.values()
        return {id for lesson in lessons if lesson is not None for id in lesson.window.tolist()}

    def _adopt_for(
        self, names: tuple[str, ...], patch: Patch, condition: str, lesson: Lesson | None
    ) -> heard.Adopted:
        try:
            others = sum(r.harm for r in self.state.learned if r.condition != condition)
            harm = self._harm(patch, condition)
            if max(harm.expected + others, harm.most) > MOST_HARM:
                kept = f", and the repairs that are kept cost {others:.1%}" if others else ""
                text = (
                    f"it would cost {harm.expected:.1%} of accuracy in normal operation, "
                    f"{harm.most:.1%} at most ({harm.text}){kept}: more than {MOST_HARM:.0%} in all"
                )
                return heard.Adopted(names, None, text)
            generation = self.repairs.adopt_patch(
                patch, on_trial=True, is_learned=True, lesson=lesson
            )
            if lesson is not None:
                self.labels.lesson_inputs.hold(lesson, self._needed())
        except (ModelClosedError, ForkedProcessError):
            raise
        except NoRoomError as error:
            return heard.Adopted(names, None, str(error))
        except RUNTIME_FAILURES as error:
            logger().warning("what was learned cannot serve", exc_info=True)
            return heard.Adopted(names, None, f"{type(error).__name__}: {error}")
        return heard.Adopted(names, generation, patch.text, harm.expected)

    def _harm(self, patch: Patch, condition: str) -> Harm:
        proposer = self._proposer
        assert proposer is not None, "it has made the patch"
        known = self.conditions
        mistaken = partial(known.mistaken, condition, rng=proposer.rng)
        return proposer.harm(patch, mistaken)

    def _switch_to(self, generation: int, condition: str) -> AnyIncident:
        try:
            self.repairs.switch_to(generation)
        except (ModelClosedError, ForkedProcessError):
            raise
        except RUNTIME_FAILURES as error:
            logger().warning("generation %d cannot serve", generation, exc_info=True)
            text = f"{type(error).__name__}: {error}"
            is_held = generation in self._weights.generations
            return heard.Switched(condition, False, text, is_held=is_held)
        monitor, is_learned = self._monitor, True
        if isinstance(monitor, PerformanceMonitor):
            with self._inference_lock:
                is_learned = monitor.enter(condition)
        text = f"generation {generation} serves"
        return heard.Switched(condition, True, text, is_learned)

    def _keep_now(self) -> None:
        """Have what the loop knows written, and wait for it."""
        self._queue_state()
        self._commit()

    def _queue_state(self) -> None:
        """Have what the loop knows written with whatever is written next."""
        with self._inference_lock:
            known = self._remembered()
        self._keep(known, self._learned_rows())

    def _forget(self, generation: int, condition: str | None) -> bool:
        """Drop what was learned; return whether it is gone: what serves cannot be dropped."""
        if self._weights.active == generation:
            return False
        self.repairs.drop(generation)
        self._patches.pop(generation, None)
        if condition is None:
            return True
        self.conditions.forget(condition)
        monitor = self._monitor
        if isinstance(monitor, PerformanceMonitor):
            with self._inference_lock:  # what it looked like while that repair served
                monitor.forget(condition)
        return True

    def parting(self, recent: RecentAnswers) -> Parting | None:
        """Return what golden and the repair on probation answer to the latest inputs.

        Of those since its condition began; None where no repair of this process is on probation.
        Takes two inferences an input, beside the stream.
        """
        with self._inference_lock.lock():
            repair, ago = self.state.probation, self._monitor.count - self.state.since
        patch = None if repair is None else self._patches.get(repair.generation)
        if repair is None or patch is None or self._proposer is None:
            return None
        count = max(0, min(ago, recent.with_input))
        inputs = recent.inputs[0][len(recent.inputs[0]) - count :]
        lesson = self.repairs.lessons.get(repair.generation)
        asked = self.labels.questions.judging(repair.generations)
        learned = None if lesson is None else lesson.contents
        return self._proposer.parting(inputs, patch, repair.generation, learned, asked)

    def _examined(self, symptoms: Symptoms, *, asks: bool = True) -> Symptoms:
        with self._inference_lock:
            context = self.serving.context.latest(self.serving.hot.number)
        told = self.labels.told
        found = replace(symptoms, context=context, feedback=told)
        return self.examiner.examine(found, asks=asks)

    def _diagnosis_put_off(self, symptoms: Symptoms) -> tuple[do.Action | AnyIncident, ...]:
        """Return that alarms wait; the journal is told once, until a diagnosis is made again."""
        later = heard.RegimeUnclear(symptoms.alarms, _PUT_OFF_FOR)
        if self._is_put_off:
            return (later,)
        self._is_put_off = True
        outcome = "put off: diagnoses of alarms have used up their share of CPU time"
        return do.Record(EventKind.DIAGNOSIS, outcome=outcome), later

    def _wrong_since(self) -> int | None:
        """Return the sample from which on something was wrong, None where that is not known."""
        onsets = [alarm.onset for alarm in self.state.pending]
        trouble = self.state.trouble
        if trouble is not None and trouble.since is not None:
            onsets.append(trouble.since)
        return min(onsets, default=None)

    def odd_since(self) -> int | None:
        """Return the prediction from which on inputs were not as always; None where they are."""
        state = self.state
        # Of the monitor's samples; where it began anew they are fewer than predictions.
        behind = state.now.prediction - state.now.sample
        if state.is_calm:  # a repair answers inputs of its condition
            return state.since + behind if state.condition else None
        onsets = [alarm.onset for alarm in state.pending]
        if state.trouble is not None and state.trouble.since is not None:
            onsets.append(state.trouble.since)
        return min(onsets) + behind if onsets else 0

    def _mark_untrusted(self) -> None:
        self.note(heard.MarkedUntrusted())

    def _weights_rejected(self, digest: str, reason: str) -> None:
        self.note(heard.WeightsRejected("generation", digest, reason))

    def _is_familiar(self, alarms: tuple[Alarm, ...]) -> bool:
        """Whether alarms are those of an operating condition that is known, as far as it shows."""
        monitor = self._monitor
        if not isinstance(monitor, PerformanceMonitor) or _is_of_sensor(alarms):
            return False
        return monitor.resembles(min(alarm.onset for alarm in alarms))

    def _recognise(self, symptoms: Symptoms) -> AnyIncident | None:
        """Return whether a known operating condition explains alarms; the charts then follow it."""
        monitor = self._monitor
        alarms = symptoms.alarms
        if not isinstance(monitor, PerformanceMonitor) or _is_of_sensor(alarms):
            return None
        if symptoms.known_answers_right is False or self.state.is_damaged:
            return None
        onset = min(alarm.onset for alarm in alarms)
        if (passed := self._passed(alarms, onset)) is not None:
            return passed
        with self._inference_lock:
            known = monitor.recognise(onset)
            if known is not None and (found := self._regime(monitor, known.name)) is not None:
                return found
            wait = onset + MATCH_SAMPLES - monitor.count
            if wait > 0 and monitor.resembles(onset):
                return heard.RegimeUnclear(alarms, wait)
        return None

    def _look_at_inputs(self) -> AnyIncident | None:
        try:
            self.repairs.look_at_standby()
        except (ModelClosedError, ForkedProcessError):
            raise
        except RUNTIME_FAILURES:  # the switch builds it then, or says why not
            logger().warning("what is kept built could not be looked at", exc_info=True)
            self.repairs.forget_standby()
        state = self.state
        with self._inference_lock:
            ago = min(_LOOKED_AT, self._monitor.count - state.recovered_at)
            name = self.conditions.come_to(state.condition, ago)
        return None if name is None else heard.ConditionKnown(name)

    def _passed(self, alarms: tuple[Alarm, ...], onset: int) -> AnyIncident | None:
        """Return whether inputs have come to a condition that a repair was learned for, or back."""
        state = self.state
        if not state.learned or state.now.prediction < state.looked_at:
            return None
        count = self._monitor.count
        ago = count - max(onset - _EARLIER, self.state.recovered_at)
        name, is_open = self.conditions.passage(self.state.condition, ago)
        if name is not None:
            return heard.ConditionKnown(name)
        if is_open and count - onset < MATCH_SAMPLES:
            return heard.RegimeUnclear(alarms, _LOOKS_EVERY)
        return None

    def _read_signals(self) -> AnyIncident:
        monitor, trouble = self._monitor, self.state.trouble
        with self._inference_lock:
            if monitor.settled():
                return heard.SignalsRead(True)
            if (
                isinstance(monitor, PerformanceMonitor)
                and trouble is not None
                and trouble.cause in _MAY_BE_REGIMES
                and self._is_time_to_recognise(monitor.count)
                and (known := monitor.recognise(monitor.count - MATCH_SAMPLES)) is not None
                and (found := self._regime(monitor, known.name)) is not None
            ):
                return found
        return self._judge_drift() or heard.SignalsRead(False)

    def _is_time_to_recognise(self, count: int) -> bool:
        """Whether so many predictions came since signals were compared with regimes."""
        if 0 <= count - self._compared_at < SIGNALS_EVERY:
            return False
        self._compared_at = count
        return True

    def _regime(self, monitor: PerformanceMonitor, name: str) -> AnyIncident | None:
        """Return that a regime was recognised, and what serves there; None where that may not be.

        In one that calibration was told of it is what serves in normal operation: a repair that
        goes on there would be taught by normal inputs, and judged by them.
        """
        state = self.state
        learned = {repair.condition for repair in state.learned}
        if name in learned and name != state.condition:
            if state.now.prediction < state.looked_at:  # passages are held off
                monitor.enter(state.condition)
                return None
            return heard.ConditionKnown(name)
        if state.condition and self.conditions.is_calibrated(name):
            return heard.ConditionKnown("")
        return heard.RegimeKnown(name)

    def _judge_drift(self) -> heard.FoundHarmless | None:
        """Return whether a drift that is named, and steady, is found to do no harm."""
        monitor, trouble = self._monitor, self.state.trouble
        if trouble is None or trouble.cause is not Cause.COVARIATE_DRIFT:
            return None
        if not isinstance(monitor, PerformanceMonitor):
            return None
        if 0 <= monitor.count - self._judged_at < _JUDGED_EVERY:
            return None
        self._judged_at = monitor.count
        with self._inference_lock:
            is_steady = monitor.is_steady()
            since = monitor.count - _JUDGED_EVERY
        performance = self._performance() if is_steady else None
        if performance is None or not performance.is_as_expected:
            return None
        return heard.FoundHarmless(since, str(performance))

    def _is_other(self, since: int) -> bool:
        """Whether what came since the user accepted is another condition than what was seen then.

        An attacker who owns the inputs that follow would have them learned as normal.
        """
        monitor, accepted = self._monitor, self._accepted
        if accepted is None or not isinstance(monitor, PerformanceMonitor):
            return False
        at, seen = accepted
        if at != since or monitor.is_like(seen, since):
            return False
        current = monitor.regimes.current
        monitor.enter(monitor.regimes.regime.name if current else "")  # not what was accepted
        return True

    def _learn(self, since: int, name: str | None, adds: bool) -> str | None:
        if not isinstance(self._monitor, PerformanceMonitor):
            return None
        learned = self._monitor.learn(since, name, adds=adds)
        return None if learned is None else learned.name

    def _fail_over(self) -> AnyIncident:
        if self._spare is None or not self._spare.verify(self.repairs.golden_known):
            return heard.FailedOver(False)
        with self._inference_lock:
            self.serving.attach(self._spare.instance, spare=True)
        return heard.FailedOver(True)

    def _rebuild(self) -> AnyIncident:
        try:
            self.repairs.rebuild(keep_state=True)
        except (ModelClosedError, ForkedProcessError):
            raise
        except IntegrityError:
            return heard.RuntimeRebuilt(False)
        except RUNTIME_FAILURES as error:  # there is no memory, no descriptor …
            logger().warning("the runtime could not be rebuilt now", exc_info=True)
            return heard.RuntimeRebuilt(True, f"{type(error).__name__}: {error}")
        return heard.RuntimeRebuilt(True)

    def _renew_golden(self) -> bool:
        try:
            return self.repairs.renew_golden() > 0
        except RUNTIME_FAILURES:  # the file's bytes are damaged too, or nothing can be built now
            logger().warning("golden could not be renewed", exc_info=True)
            return False


def _is_of_sensor(alarms: tuple[Alarm, ...]) -> bool:
    """Whether an alarm needs no chart: no operating condition explains it."""
    return any(a.signal in SENSOR_ALARMS or a.signal == "output_frozen" for a in alarms)


def _but_live(blocks: tuple[CorruptBlock, ...]) -> tuple[CorruptBlock, ...]:
    return tuple(block for block in blocks if block.healed or block.part != "live")
