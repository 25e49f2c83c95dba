"""What one model keeps in its store, and finds there at the next start."""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from selfheal_edge.errors import BaselineFormatError, IntegrityError, StoreError
from selfheal_edge.learning.kept_rows import NAMES
from selfheal_edge.log import logger
from selfheal_edge.loop.kept_generations import KeptGenerations, Late
from selfheal_edge.loop.kept_labels import KeptLabels
from selfheal_edge.loop.prediction_ids import PredictionIds
from selfheal_edge.loop.remembered import BUDGET_ROW, LEARNED_ROWS, Frozen, Remembered
from selfheal_edge.loop.updates import CLOSED, CUT_SHORT, Chosen, Updates
from selfheal_edge.monitoring.baseline import Baseline, KnownAnswers
from selfheal_edge.monitoring.monitor import KeptMonitor, Monitor, PerformanceMonitor
from selfheal_edge.monitoring.regimes import RegimeTable
from selfheal_edge.policy import Policy
from selfheal_edge.store.changes import Row
from selfheal_edge.store.failures import Failure, with_failure
from selfheal_edge.store.journal import EventKind, Journal
from selfheal_edge.store.kept_state import KeptState
from selfheal_edge.store.keys import KeyArgument, read_key
from selfheal_edge.store.status import StoreState
from selfheal_edge.store.store import Counter, Store
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.session import ModelSource, Session

if TYPE_CHECKING:
    from selfheal_edge.store.inbox import Inbox, Request

__all__ = ["Keeper"]

_MODEL: Final = "model"
_STATE: Final = "state"
_MONITOR: Final = "monitor"
_LOOP: Final = "loop"
_REGIMES: Final = "regimes"
_BASELINE: Final = "baseline"
_SERVES: Final = "serves"
_TAKEN_IN: Final = ("inbox", "taken in")
_NOT_CLOSED: Final = (
    "the process before ended without close: its events of the latest seconds, and what the charts "
    "gathered since the latest commit, are lost"
)


class Keeper:
    """What one model keeps in a store: read at the start, written by the store's own thread.

    `open` opens the store; a model file that is put back has a keeper of its own over the same one.

    Parameters
    ----------
    store, inbox, ids
        Those of the process.
    problems
        What there is to say of the store, for the journal.
    was_cut_short
        Whether the process before ended without close.
    chosen, before
        What serves, and what was known before it does; None: `choose` says it.
    probation_restarts
        As `Policy` says.
    """

    def __init__(
        self,
        store: Store,
        inbox: Callable[[], Inbox],
        ids: PredictionIds,
        problems: Iterable[str],
        *,
        was_cut_short: bool = False,
        chosen: Chosen | None = None,
        before: Remembered | None = None,
        probation_restarts: int = 0,
    ) -> None:
        self.store = store
        self._inbox = inbox
        self.ids = ids
        """Where predictions' begin."""
        self.updates = Updates(store)
        """What the store knows of model files."""
        self._problems = list(problems)
        self._was_cut_short = was_cut_short
        self._chosen = chosen
        self.before = before
        """What the process before knew; None at the first start."""
        self.generations: KeptGenerations | None = None
        """The generations in the store; known once the model is."""
        self._monitor_rows: KeptState | None = None
        self._labels: KeptLabels | None = None
        self._baseline: Baseline | None = None
        self._known: KnownAnswers | None = None
        self._told: dict[str, str] = {}
        self._learned: dict[str, bytes] = {}
        self._interrupted: tuple[str, ...] = ()
        self._goes_on = False
        self._is_rejected = False
        self._probation_restarts = probation_restarts

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        key: KeyArgument,
        counter: Counter | None,
        policy: Policy,
        drawn: int,
    ) -> Keeper:
        """Open the store, and have its thread begin.

        Parameters
        ----------
        path, key, counter
            As `SelfHealingModel` says.
        policy
            Has the caps.
        drawn
            As `PredictionIds` says.

        Raises
        ------
        StoreVersionError
            When a newer release wrote the store; it is untouched.
        StoreError
            When another process has it open: the message names it.
        TypeError, ValueError, OSError
            For the key.
        """
        secret = read_key(key)

        @cache
        def inbox() -> Inbox:  # loaded by the store's thread, once the start is over
            from selfheal_edge.store.inbox import Inbox  # noqa: PLC0415
            from selfheal_edge.store.taken_in import TakenIn  # noqa: PLC0415

            try:
                taken_in = TakenIn(store.get(*_TAKEN_IN))
            except IntegrityError as error:
                logger().warning("requests of before now are refused: %s", error)
                taken_in = TakenIn.until_now()
            return Inbox(path, secret, taken_in)

        store = Store(
            path,
            secret,
            max_bytes=policy.store_bytes,
            bytes_per_day=policy.store_bytes_per_day,
            counter=counter,
        )
        problems = store.told_of_start
        row = _read(store, PredictionIds.ROW, problems)
        was_cut_short = row is not None and _read(store, CLOSED, problems) != b"1"
        store.start()
        ids = PredictionIds(store, row, drawn)
        ids.begin()
        return cls(
            store,
            inbox,
            ids,
            problems,
            was_cut_short=was_cut_short,
            probation_restarts=policy.probation_restarts,
        )

    # ---------------------------------------------------------------- the start

    def choose(self, model: ModelSource, baseline: Baseline) -> tuple[ModelFile, Baseline]:
        """Return what is to serve: the user's file, or another one of the store's.

        Parameters
        ----------
        model, baseline
            The user's. A file that the store is not of is tried, if it did not fail before.

        Raises
        ------
        FileNotFoundError, ModelFormatError
            For the model file.
        BaselineMismatchError
            When the baseline belongs to another file.
        """
        self._recall()
        before = Remembered() if self.before is None else self.before
        file = ModelFile.of(model)
        baseline.check_model(file.sha256)
        was_on_trial = ""
        try:
            was_on_trial = self.updates.on_trial
            chosen = self.updates.choose(
                file,
                baseline,
                before.failures,
                before.predictions,
                was_cut_short=self._was_cut_short,
            )
        except (IntegrityError, StoreError) as error:
            self._problems.append(f"the model file {file.sha256[:16]} serves: {error}")
            chosen = Chosen(file, baseline, begins_anew=True, failures=before.failures)
        self._chosen = chosen
        self._problems += chosen.told
        has_ended = bool(was_on_trial) and not chosen.on_trial
        if chosen.failures != before.failures or chosen.on_trial or has_ended:
            before = replace(before, failures=chosen.failures)
            if not chosen.goes_on:  # what goes wrong with another file says nothing of this one
                before = before.without_charts(is_same_calibration=not chosen.begins_anew)
            self.before = before
            self.store.put(_STATE, _LOOP, self.before.to_bytes())
        return chosen.model, chosen.baseline

    def recognise(self, baseline: Baseline, session: Session) -> Baseline:
        """Compare model and baseline with those that the store is of.

        Parameters
        ----------
        baseline
            As `choose` returned it.
        session
            The model, and where it runs.

        Returns
        -------
        Baseline
            The same, with the known answers that were recorded on this device, if they were.
        """
        fingerprint = str(session.fingerprint)
        self._told = {
            "sha256": session.model.sha256,
            "fingerprint": fingerprint,
            "baseline": baseline.digest,
        }
        if self._chosen is not None and self._chosen.on_trial:
            self._goes_on = self._chosen.goes_on
            self.generations = KeptGenerations(self.store, session.copy, fingerprint, writes=False)
            return baseline
        if self._chosen is not None and self._chosen.begins_anew:
            self._begin_anew()
        held = self._held()
        self._goes_on = held.get("baseline") == self._told["baseline"]
        if held and not self._goes_on:
            self._problems.append("another baseline than before: the charts begin anew")
        if held != self._told:
            self.store.put(_MODEL, _SERVES, json.dumps(self._told, sort_keys=True).encode())
        self.generations = KeptGenerations(self.store, session.copy, fingerprint)
        self._forget_interrupted(self.generations)
        return self._commissioned(baseline, fingerprint)

    def _begin_anew(self) -> None:
        """Make the store one of the user's model: rows of another are of no use, and no harm."""
        try:
            self._confirm()
        except (StoreError, IntegrityError) as error:
            self._problems.append(str(error))

    def _held(self) -> dict[str, str]:
        try:
            return self.updates.held
        except (StoreError, IntegrityError) as error:
            self._problems.append(str(error))
            return {}

    @property
    def trial(self) -> str | None:
        """The model file's SHA-256 while it is on trial."""
        chosen = self._chosen
        return chosen.model.sha256 if chosen is not None and chosen.on_trial else None

    def takes_back(self, error: Exception) -> bool:
        """Forget a model file on trial that could not even be opened; return whether there is one.

        What `choose` returns next is the one before.
        """
        sha256 = self.trial
        if sha256 is None:
            return False
        before = Remembered() if self.before is None else self.before
        reason = f"{type(error).__name__}: {error}"
        failed = Failure("update", sha256, reason, prediction=before.predictions)
        before = replace(before, failures=with_failure(before.failures, failed))
        self.store.put(_STATE, _LOOP, before.to_bytes())
        self.updates.reject()
        return True

    def before_trial(self, known: Remembered) -> tuple[ModelFile, Baseline, Keeper]:
        """Return the model file before the one on trial, which was rejected, to serve at once.

        Parameters
        ----------
        known
            What the loop knows, with why it was rejected.

        Returns
        -------
        ModelFile, Baseline
            The file and its baseline, of the store.
        Keeper
            What keeps it, over the same store. This one, of the file that still serves, is as it
            was.

        Raises
        ------
        StoreError, IntegrityError
            When the store does not have it any more, or it cannot be read.
        """
        self.updates.reject()
        chosen = self.updates.before_trial(known.failures)
        # What is served meanwhile by the file that leaves has ids of its own.
        self.ids.skip(known.predictions - (0 if self.before is None else self.before.predictions))
        other = Keeper(
            self.store,
            self._inbox,
            self.ids,
            chosen.told,
            chosen=chosen,
            before=known,
            probation_restarts=self._probation_restarts,
        )
        return chosen.model, chosen.baseline, other

    def went_back(self, known: Remembered) -> Remembered:
        """Forget what the file that leaves gave of its own; return what the loop goes on with."""
        self.before = known.without_charts(is_same_calibration=True)
        self.store.forget_jobs()
        self.store.put_all([self._loop_row(self.before)])
        return self.before

    def end_trial(self, has_held: bool, late: Sequence[Late]) -> None:
        """Have the file on trial take the old one's place, or forget it; returns at once.

        `late`: its generations, which are stored once the store is its own.
        """
        self._is_rejected = not has_held
        self.store.soon(partial(self._confirm, late) if has_held else self.updates.reject)
        self.store.soon(self.store.do_each_minute)

    def _confirm(self, late: Sequence[Late] = ()) -> None:
        """Make the store one of the model that was on trial; its charts are collected anew."""
        assert self._chosen is not None
        model, baseline = self._chosen.model, self._baseline or self._chosen.baseline
        names = [name for name in self.store.items(_STATE) if name not in (_LOOP, BUDGET_ROW)]
        rows = [Row(_STATE, name, None) for name in names]
        self.updates.confirm(model, baseline, self._told, rows)
        self._chosen = Chosen(model, baseline)
        if self._monitor_rows is not None:
            self._monitor_rows = self._monitor_rows.renamed(_MONITOR)
        if self.generations is not None:  # what it has learned meanwhile is stored next
            self.generations.begin_writing(late)

    def _forget_interrupted(self, generations: KeptGenerations) -> None:
        """Remember what the end of the process has interrupted as what did not hold.

        Where the policy has a probation go on, that is counted and safe before anything serves.
        """
        before = Remembered() if self.before is None else self.before
        counted, numbers = before.going_on(self._probation_restarts)
        if numbers:
            self.store.put(_STATE, _LOOP, counted.to_bytes())
            try:
                self.store.commit()
            except (StoreError, IntegrityError) as error:
                self._problems.append(f"no probation goes on: {error}")
            else:
                self.before = before = counted
                generations.go_on(numbers, before.in_service)
        self._interrupted = generations.interrupted
        failures = before.failures
        for digest in self._interrupted:
            failed = Failure("generation", digest, CUT_SHORT, prediction=before.predictions)
            failures = with_failure(failures, failed)
        if self._interrupted:
            self.before = replace(before, failures=failures)
            self.store.put(_STATE, _LOOP, self.before.to_bytes())
            generations.forget_interrupted()  # in one commit with the row

    def _recall(self) -> None:
        row = self._read(_STATE, _LOOP)
        if row is None:
            return
        try:
            self.before = Remembered.from_bytes(row)
        except IntegrityError as error:
            self._problems.append(str(error))

    def _commissioned(self, baseline: Baseline, fingerprint: str) -> Baseline:
        row = self._read(_BASELINE, _SERVES)
        if row is None or not self._goes_on:
            return baseline
        try:
            known, where = Baseline.known_answers_in(row, what="the store's baseline")
        except BaselineFormatError as error:
            self._problems.append(str(error))
            return baseline
        if str(where) != fingerprint:
            return baseline
        self._known = known
        return baseline.with_known_answers(known, where)

    def monitor(self, baseline: Baseline, given: Monitor | None) -> Monitor:
        """Return what watches: going on where it was, if the store has its state.

        Parameters
        ----------
        baseline
            As `recognise` returned it.
        given
            The user's own monitor, or None for ours.
        """
        is_same = self._goes_on
        found = self._found() if is_same else None
        monitor = self._resumed(baseline, given, found)
        self._goes_on = monitor is not None
        if monitor is None:
            monitor = PerformanceMonitor(baseline) if given is None else given
        if found is not None and self._goes_on:
            self._monitor_rows = found[0]
            self._recall_regimes(monitor)
        elif isinstance(monitor, (PerformanceMonitor, KeptMonitor)):
            self._monitor_rows = KeptState(self._monitor_name, monitor.state())
        if self.before is not None and not self._goes_on:
            # During a trial, what was learned is that of the file which may come back.
            is_same = is_same or self.trial is not None
            self.before = self.before.without_charts(is_same_calibration=is_same)
        return monitor

    def _recall_regimes(self, monitor: Monitor) -> None:
        """Have a monitor that goes on know what it knew."""
        row = self._read(_STATE, _REGIMES) if self.trial is None else None
        if row is None or not isinstance(monitor, PerformanceMonitor):
            return
        try:
            monitor.go_on_with(RegimeTable.from_bytes(row))
        except (IntegrityError, ValueError) as error:
            self._problems.append(f"regimes begin anew: {error}")

    @property
    def _monitor_name(self) -> str:
        # A model on trial leaves the rows of the one that may come back alone.
        return _MONITOR if self.trial is None else f"trial.{_MONITOR}"

    def _found(self) -> tuple[KeptState, bytes] | None:
        try:
            return KeptState.found(self._monitor_name, self.store.items(_STATE))
        except (StoreError, IntegrityError) as error:
            self._problems.append(f"the charts begin anew: {error}")
            return None

    def _resumed(
        self, baseline: Baseline, given: Monitor | None, found: tuple[KeptState, bytes] | None
    ) -> Monitor | None:
        """Return the monitor in the state that was found, or None where that cannot be."""
        if found is None:
            return None
        try:
            if given is None:
                return PerformanceMonitor.from_state(baseline, found[1])
            if isinstance(given, KeptMonitor):
                given.restore(found[1])
                return given
        except Exception as error:  # the user's own may raise anything
            self._problems.append(f"the charts begin anew: {type(error).__name__}: {error}")
        return None

    def recall_labels(self, labels: KeptLabels) -> None:
        """Have what takes labels in go on, and keep it; a model on trial begins anew."""
        self._labels = labels
        if self.trial is None:
            rows = {name: row for name in NAMES if (row := self._read(_STATE, name)) is not None}
            self._problems += labels.go_on_with(rows)

    def keep_labels(self) -> None:
        """Have all rows of labels written that have changed; returns at once."""
        self._put_labels(is_last=True)

    def begin(self, journal: Journal) -> None:
        """Write to the journal what there is to say of the store."""
        journal.predictions_before = 0 if self.before is None else self.before.predictions
        for problem in self._problems:
            journal.add(EventKind.STORE, 0, outcome=problem)
        for digest in self._interrupted:
            journal.add(EventKind.REVERTED, 0, outcome=f"{digest[:16]}: {CUT_SHORT}")

    def follow(
        self,
        freeze: Callable[[bool], Frozen],
        serve: Callable[[Sequence[Request], Sequence[str]], None],
    ) -> None:
        """Keep states from now on: once the loop knows what the process before knew.

        Parameters
        ----------
        freeze
            A method that returns what is to be kept, called once a minute and at the end, in the
            store's thread; its object is not kept alive.
        serve
            A method that does what other processes have asked for, given their requests and why
            others were refused; likewise, every few seconds.
        """
        self.store.each_time(partial(self._look_into_inbox, weakref.WeakMethod(serve)))
        self.store.each_minute(partial(self._keep_states, weakref.WeakMethod(freeze)))

    def opened(self, journal: Journal, generation: int) -> None:
        """Write to the journal that a start has ended, and how."""
        self.store.soon(self.store.start_is_over)
        evidence = (_NOT_CLOSED,) if self._was_cut_short else ()
        journal.add(EventKind.OPENED, 0, evidence=evidence, outcome=self._begun(generation))
        if self.generations is not None:
            self.store.soon(self.generations.keep_golden)

    def serves_again(self, journal: Journal, generation: int) -> None:
        """Write to the journal that the model file before one on trial serves again, and how."""
        name = f"model file {self._told['sha256'][:16]} serves again"
        journal.add(EventKind.REVERTED, 0, outcome=f"{name}, {self._begun(generation)}")

    def _begun(self, generation: int) -> str:
        how = "the charts go on" if self._goes_on else "the charts begin anew"
        return f"generation {generation}; {'a new store' if self.before is None else how}"

    def _read(self, area: str, name: str) -> bytes | None:
        return _read(self.store, (area, name), self._problems)

    # ---------------------------------------------------------------- while it serves

    def baseline_is_new(self, baseline: Baseline) -> bool:
        """Whether the store has another one, or none."""
        return baseline.known_answers is not self._known

    def keep_baseline(self, baseline: Baseline) -> None:
        """Keep a baseline with the known answers as recorded here."""
        self._baseline = baseline
        if self.trial is not None:
            return
        self.store.put(_BASELINE, _SERVES, baseline.to_bytes())

    def _keep_states(self, method: weakref.WeakMethod[Callable[[bool], Frozen]]) -> None:
        """Have the rows of all states written as they are at one moment."""
        is_last = self.store.is_closing
        freeze = method()
        if freeze is None:
            return
        frozen = freeze(is_last)
        del freeze  # what follows takes a while, and the model need not wait for it
        self._put_labels(is_last=is_last)
        rows = self._learned_rows(frozen.learned)
        if frozen.regimes is not None and self.trial is None:
            rows.append(Row(_STATE, _REGIMES, frozen.regimes.to_bytes()))
        # Rows lie in the order in which they came first: those that change each minute together.
        if self._monitor_rows is not None and frozen.monitor is not None:
            kept = self._monitor_rows.rows(frozen.monitor(), whole=is_last)
            rows += [Row(_STATE, name, row) for name, row in kept.items()]
        rows.append(self._loop_row(frozen.known))
        self.store.put_all(rows)

    def _loop_row(self, known: Remembered) -> Row:
        if self._is_rejected:  # the next start is one of the file before
            known = known.without_charts(is_same_calibration=True)
        return Row(_STATE, _LOOP, known.to_bytes())

    def _learned_rows(self, learned: Mapping[str, bytes]) -> list[Row]:
        """Return the rows of what was learned that have changed: they are large, and seldom do."""
        new = {name: row for name, row in learned.items() if self._learned.get(name) != row}
        if self.trial is not None:  # the conditions of the file that may come back stay
            new = {name: row for name, row in new.items() if name == BUDGET_ROW}
        self._learned.update(new)
        return [Row(_STATE, name, row) for name, row in new.items()]

    def keep_known(self, known: Remembered, learned: Mapping[str, bytes]) -> None:
        """Have what the loop knows, and what was learned, written with what is written next."""
        self._put_labels()
        self.store.put_all([self._loop_row(known), *self._learned_rows(learned)])

    def _put_labels(self, *, is_last: bool = False) -> None:
        if self._labels is not None and self.trial is None:
            self._labels.put(_STATE, self.store.put_all, is_last=is_last)

    def commit(self) -> None:
        """Write what waits, now; where that cannot be, as soon as there is room."""
        with contextlib.suppress(StoreError, IntegrityError):
            self.store.commit()

    def learned(self) -> dict[str, bytes]:
        """Return the rows of what was learned, as the process before has kept them.

        Of a model on trial the budget alone: a new file buys none.
        """
        names = LEARNED_ROWS if self.trial is None else (BUDGET_ROW,)
        found = ((name, self._read(_STATE, name)) for name in names)
        self._learned = {name: row for name, row in found if row is not None}
        return dict(self._learned)

    def _look_into_inbox(
        self, method: weakref.WeakMethod[Callable[[Sequence[Request], Sequence[str]], None]]
    ) -> None:
        requests, refused = self._inbox().take(self._remember_requests)
        serve = method()
        generations = self.generations
        is_due = generations is not None and generations.is_due and self.state.status == "ok"
        if serve is not None and (requests or refused or is_due):
            serve(requests, refused)

    def _remember_requests(self, row: bytes) -> None:
        self.store.put(*_TAKEN_IN, row)
        self.commit()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the states that differences are taken from."""
        return 0 if self._monitor_rows is None else self._monitor_rows.memory_bytes

    @property
    def state(self) -> StoreState:
        """What there is to say of the store."""
        return self.store.state

    def close(self, *, wait: bool = True) -> None:
        """Write the last states and let go.

        Parameters
        ----------
        wait
            False where the calling thread has a lock of the model, which the store's thread needs:
            that one does it, once it can.
        """
        # After the job that reserves ids, which may still wait for the medium and say the opposite.
        self.store.soon(partial(self.store.put, *CLOSED, b"1"))
        if wait:
            self.store.close()
        else:
            self.store.abandon()


def _read(store: Store, place: tuple[str, str], problems: list[str]) -> bytes | None:
    """Return a row; None where there is none, or where it cannot be read, which is a problem."""
    try:
        return store.get(*place)
    except (StoreError, IntegrityError) as error:
        problems.append(str(error))
        return None
