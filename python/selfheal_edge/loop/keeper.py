"""What one model keeps in its store, and finds there at the next start."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from selfheal_edge.errors import BaselineFormatError, IntegrityError, StoreError
from selfheal_edge.loop.kept_generations import KeptGenerations
from selfheal_edge.loop.remembered import Frozen, Remembered
from selfheal_edge.monitoring.baseline import Baseline, KnownAnswers
from selfheal_edge.monitoring.monitor import KeptMonitor, Monitor, PerformanceMonitor
from selfheal_edge.policy import Policy
from selfheal_edge.store.database import Changes, Row
from selfheal_edge.store.failures import Failure, with_failure
from selfheal_edge.store.inbox import Inbox, Request
from selfheal_edge.store.journal import EventKind, Journal
from selfheal_edge.store.kept_state import KeptState
from selfheal_edge.store.keys import KeyArgument, read_key
from selfheal_edge.store.status import StoreState
from selfheal_edge.store.store import Counter, Store
from selfheal_edge.tflite.session import Session

__all__ = ["Keeper"]

_MODEL: Final = "model"
_STATE: Final = "state"
_MONITOR: Final = "monitor"
_LOOP: Final = "loop"
_IDS: Final = "ids"
_NEXT: Final = "next"
_BASELINE: Final = "baseline"
_SERVES: Final = "serves"
# A start has so many ids to give, and a store lasts a million starts.
_IDS_A_START: Final = 1 << 42
_MOST_ID: Final = 1 << 63
_LONGEST_WAIT: Final = 0.5
_CUT_SHORT: Final = "the process ended during its trial"


class Keeper:
    """One model's store: read at the start, written by the store's own thread.

    Parameters
    ----------
    path, key, counter
        As `SelfHealingModel` says.
    policy
        Has the caps.
    drawn
        A number below 2^62, where the ids of a new store's predictions begin, and those of a start
        at which nothing can be written.

    Raises
    ------
    StoreVersionError
        When a newer release wrote the store; it is untouched.
    StoreError
        When another process has it open: the message names it.
    TypeError, ValueError, OSError
        For the key.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: KeyArgument,
        counter: Counter | None,
        policy: Policy,
        drawn: int,
    ) -> None:
        secret = read_key(key)
        self._inbox = Inbox(path, secret)
        self.store = Store(
            path,
            secret,
            max_bytes=policy.store_bytes,
            bytes_per_day=policy.store_bytes_per_day,
            counter=counter,
        )
        self._problems: list[str] = []
        if self.store.problem_found is not None:
            self._problems.append(f"put aside, and begun anew: {self.store.problem_found}")
        self._monitor_rows: KeptState | None = None
        row = self._read(_IDS, _NEXT)
        self._drawn = drawn
        self._first = drawn if row is None else int.from_bytes(row, "little")
        if self._first >= _MOST_ID - 2 * _IDS_A_START:
            self._first = drawn
        self._is_reserved = False
        self._reserved = threading.Event()
        self.store.soon(self._reserve)
        self.store.start()
        self._known: KnownAnswers | None = None
        self._interrupted: tuple[str, ...] = ()
        self.generations: KeptGenerations | None = None
        """The generations in the store; known once the model is."""
        self._goes_on = False
        self.before: Remembered | None = None
        """What the process before knew; None at the first start."""

    # ---------------------------------------------------------------- the start

    def recognise(self, baseline: Baseline, session: Session) -> Baseline:
        """Compare model and baseline with those that the store is of.

        Parameters
        ----------
        baseline
            The user's.
        session
            The model, and where it runs.

        Returns
        -------
        Baseline
            The user's, with the known answers that were recorded on this device, if they were.

        Raises
        ------
        StoreError
            When the store is of another model.
        """
        fingerprint = str(session.fingerprint)
        told = {
            "sha256": session.model.sha256,
            "fingerprint": fingerprint,
            "baseline": baseline.digest,
        }
        found = self._read(_MODEL, _SERVES)
        held = {} if found is None else json.loads(found)
        if held and held["sha256"] != told["sha256"]:
            raise StoreError(
                f"store: expected that of the model {told['sha256'][:16]}, got that of "
                f"{held['sha256'][:16]}: `update` is the way to a new model file"
            )
        self._goes_on = held.get("baseline") == told["baseline"]
        if held and not self._goes_on:
            self._problems.append("another baseline than before: the charts begin anew")
        if held != told:
            self.store.put(_MODEL, _SERVES, json.dumps(told, sort_keys=True).encode())
        self._recall()
        self.generations = KeptGenerations(self.store, session.copy, fingerprint)
        self._forget_interrupted(self.generations)
        return self._commissioned(baseline, fingerprint)

    def _forget_interrupted(self, generations: KeptGenerations) -> None:
        """Remember what the end of the process has interrupted as what did not hold."""
        before = self.before or Remembered()
        self._interrupted = generations.interrupted()
        failures = before.failures
        for digest in self._interrupted:
            failed = Failure("generation", digest, _CUT_SHORT, prediction=before.predictions)
            failures = with_failure(failures, failed)
        if self._interrupted:
            self.before = replace(before, failures=failures)

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
            held = Baseline.from_bytes(row, what="the store's baseline")
        except BaselineFormatError as error:
            self._problems.append(str(error))
            return baseline
        if str(held.fingerprint) != fingerprint:
            return baseline
        self._known = held.known_answers
        return baseline.with_known_answers(held.known_answers, held.fingerprint)

    def monitor(self, baseline: Baseline, given: Monitor | None) -> Monitor:
        """Return what watches: going on where it was, if the store has its state.

        Parameters
        ----------
        baseline
            As `recognise` returned it.
        given
            The user's own monitor, or None for ours.
        """
        found = self._found() if self._goes_on else None
        monitor = self._resumed(baseline, given, found)
        self._goes_on = monitor is not None
        if monitor is None:
            monitor = PerformanceMonitor(baseline) if given is None else given
        if found is not None and self._goes_on:
            self._monitor_rows = found[0]
        elif isinstance(monitor, (PerformanceMonitor, KeptMonitor)):
            self._monitor_rows = KeptState(_MONITOR, monitor.state())
        if self.before is not None and not self._goes_on:
            self.before = self.before.without_charts()
        return monitor

    def _found(self) -> tuple[KeptState, bytes] | None:
        try:
            return KeptState.found(_MONITOR, self.store.items(_STATE))
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

    def first_id(self) -> int:
        """Return where this start's prediction ids begin; none of them is ever given again.

        The store's thread has reserved them since the store was opened. Where it could not, or the
        medium takes longer than all else at a start, they are drawn.
        """
        self._reserved.wait(_LONGEST_WAIT)
        return self._first if self._is_reserved else self._drawn

    def _reserve(self) -> None:
        try:
            following = (self._first + _IDS_A_START).to_bytes(8, "little")
            self.store.commit(Changes([Row(_IDS, _NEXT, following)]))
            self._is_reserved = True
        finally:
            self._reserved.set()

    def begin(
        self,
        journal: Journal,
        freeze: Callable[[bool], Frozen],
        serve: Callable[[Sequence[Request], Sequence[str]], None],
    ) -> None:
        """Write to the journal what there is to say of the store, and keep states from now on.

        Parameters
        ----------
        journal
            The model's.
        freeze
            A method that returns what is to be kept, called once a minute and at the end, in the
            store's thread; its object is not kept alive.
        serve
            A method that does what other processes have asked for, given their requests and why
            others were refused; likewise, every few seconds.
        """
        journal.predictions_before = 0 if self.before is None else self.before.predictions
        for problem in self._problems:
            journal.add(EventKind.STORE, 0, outcome=problem)
        for digest in self._interrupted:
            journal.add(EventKind.REVERTED, 0, outcome=f"{digest[:16]}: {_CUT_SHORT}")
        self.store.collect = partial(self._collect, weakref.WeakMethod(freeze))
        self.store.beat = partial(self._look_into_inbox, weakref.WeakMethod(serve))

    def opened(self, journal: Journal, generation: int) -> None:
        """Write to the journal that a start has ended, and how."""
        how = "the charts go on" if self._goes_on else "the charts begin anew"
        how = "a new store" if self.before is None else how
        journal.add(EventKind.OPENED, 0, outcome=f"generation {generation}; {how}")
        if self.generations is not None:
            self.store.soon(self.generations.keep_golden)

    def _read(self, area: str, name: str) -> bytes | None:
        try:
            return self.store.get(area, name)
        except (StoreError, IntegrityError) as error:
            self._problems.append(str(error))
            return None

    # ---------------------------------------------------------------- while it serves

    def baseline_is_new(self, baseline: Baseline) -> bool:
        """Whether the store has another one, or none."""
        return baseline.known_answers is not self._known

    def keep_baseline(self, baseline: Baseline) -> None:
        """Keep a baseline with the known answers as recorded here."""
        self.store.put(_BASELINE, _SERVES, baseline.to_bytes())

    def _collect(
        self, method: weakref.WeakMethod[Callable[[bool], Frozen]]
    ) -> dict[tuple[str, str], bytes | None]:
        """Return the rows of all states as they are at one moment."""
        is_last = self.store.is_closing
        freeze = method()
        if freeze is None:
            return {}
        state, remembered = freeze(is_last)
        del freeze  # what follows takes a while, and the model need not wait for it
        rows: dict[tuple[str, str], bytes | None] = {(_STATE, _LOOP): remembered.to_bytes()}
        if self._monitor_rows is not None and state is not None:
            for name, row in self._monitor_rows.rows(state(), whole=is_last).items():
                rows[_STATE, name] = row
        return rows

    def _look_into_inbox(
        self, method: weakref.WeakMethod[Callable[[Sequence[Request], Sequence[str]], None]]
    ) -> None:
        requests, refused = self._inbox.take()
        serve = method()
        if serve is not None and (requests or refused):
            serve(requests, refused)

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
        if wait:
            self.store.close()
        else:
            self.store.abandon()
