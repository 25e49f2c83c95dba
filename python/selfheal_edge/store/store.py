"""The store of one device: a database, a thread that writes to it, and what happens when it fails.

`predict` never waits for it. What is put is kept in memory, bounded, until the writer's thread has
committed it; a medium that is full, read-only or failing is tried again with growing pauses, and
what waits is written when there is room. What must be on the medium *before* it acts (a generation,
a trial, a budget) is committed by the thread that acts, and that call returns when it is safe.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeAlias

from selfheal_edge.errors import IntegrityError, StoreError, StoreVersionError
from selfheal_edge.log import logger
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.database import Database, is_of_the_medium
from selfheal_edge.store.seal import TAG_BYTES, Seal
from selfheal_edge.store.status import StoreState, StoreStatus
from selfheal_edge.store.writer_lock import OtherWriterError

__all__ = ["Counter", "Link", "Store", "StoreState"]

_DAY_SECONDS: Final = 86_400.0
_BATCH_SECONDS: Final = 5.0
_STATE_SECONDS: Final = 58.0
_LONGEST_PAUSE: Final = 300.0
_MOST_WAITING_RECORDS: Final = 4096
_MOST_WAITING_BYTES: Final = 4 << 20
_JOURNAL_SHARE: Final = 4
# The rest is for what must be safe before it acts, and for writing the log back.
_USUAL_SHARE: Final = 0.9
# What a commit writes beside its rows: the root, and the pages' unused ends.
_COMMIT_OVERHEAD: Final = 3 * 1024
_BUDGET: Final = ("store", "budget")

Job = Callable[[], None]


class Counter(Protocol):
    """A counter outside the store that never goes back: in a TPM, an RPMB, or a server.

    Only with it can the replay of a whole old file be noticed.
    """

    def __call__(self, at_least: int | None) -> int:
        """Return the value; raise it to `at_least` before, where that is a number above it."""
        ...


Link: TypeAlias = tuple[int, bytes]
"""A record's place in the journal's chain: its number, and the hash up to and with it.

Where memory had no room for it: the number of the record that will say so, and an empty hash.
"""


class Store:
    """Rows, blocks and a journal that outlive the process.

    Parameters
    ----------
    path
        The SQLite file; it is made where there is none.
    key
        Bytes of the key, from `keys.read_key`, or None.
    max_bytes, bytes_per_day
        Caps on the file's size and on what is written.
    counter
        A counter outside, or None.
    clock
        Monotonic seconds.

    Raises
    ------
    StoreVersionError
        When a newer release wrote the file; it is untouched.
    StoreError
        When another process has it open: the message names it.

    Notes
    -----
    A file that is damaged, or does not verify, is put aside as ``PATH.refused`` (the first) or
    ``PATH.refused-last`` and a new one is begun: `problem_found` says why, and the caller serves
    golden. A folder that cannot be written, or has no room, leaves everything in memory; a file
    that is there is read all the same.

    Threads: any. Two locks: one for what waits, held for microseconds, which is all that `put` and
    `append` take; one for the database, held while it is read or written. A thread that has the
    first never waits for the second.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: bytes | None = None,
        *,
        max_bytes: int = 16 << 20,
        bytes_per_day: int = 20_000_000,
        counter: Counter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = os.path.realpath(path)
        self._key = key
        self._seal = Seal(key)
        self._max_bytes = max_bytes
        self._bytes_per_day = bytes_per_day
        self._counter = counter
        self._clock = clock
        self._pid = os.getpid()
        self._mutex = threading.Lock()  # the database
        self._queue = threading.Lock()  # what waits for it
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_begun = False
        self._jobs: deque[Job] = deque()
        self._each_time: list[Job] = []
        self._each_minute: list[Job] = []
        self._is_closed = False
        self._rows: dict[tuple[str, str], bytes | None] = {}
        self._wiping = False  # whether one of them is to leave nothing of what it replaces
        self._records: deque[bytes] = deque()
        self._record_bytes = 0
        self._unchained = 0
        self._lost = 0
        self._problem: str | None = None
        self._status: StoreStatus = "ok"
        self._tokens = float(bytes_per_day) / 24  # an hour's worth at the start
        self._refilled = clock()
        self._committed: float | None = None
        self._hours: deque[tuple[float, int]] = deque(maxlen=25)
        self._read_only = contextlib.ExitStack()
        self._copy: Database | None = None
        self.problem_found: str | None = None
        """Why the file that was there is not used, or None."""
        self._database = self._open()
        held = self._readable
        self._next, self._head = (0, bytes(TAG_BYTES)) if held is None else _end_of(held)
        self._on_medium = self._next, self._head
        self._resume_budget(held)
        # What the database was after the latest commit, so that a look at it waits for none.
        self._nbytes = 0 if held is None else held.nbytes
        self._bytes_written = 0
        self._commits = 0 if held is None else held.commits
        # A new store first keeps it beside what is written each minute, since rows lie in the order
        # in which they came.
        self._keeps_budget_from = -math.inf if self._commits else clock() + _STATE_SECONDS

    # ---------------------------------------------------------------- opening

    def _open(self) -> Database | None:
        try:
            return self._open_verified()
        except (StoreVersionError, OtherWriterError):
            raise
        except IntegrityError as error:
            return self._begin_anew(error)
        except StoreError as error:
            if is_of_the_medium(error) or not self._can_begin_anew():
                self._note(error)
                self._open_to_read()
                return None
            return self._begin_anew(error)

    def _open_verified(self) -> Database:
        database = Database.create_or_open(
            self._path, self._key, max_bytes=self._max_bytes, holds_read=True
        )
        try:
            if self._counter is not None:
                self._compare_counter(database, self._counter)
        except BaseException:
            database.close()
            raise
        return database

    def _open_to_read(self) -> None:
        """Have what the file holds, where it cannot be written now."""
        if not os.path.isfile(self._path):
            return
        try:
            copy = self._read_only.enter_context(Database.read_copy(self._path, self._key))
            if self._counter is not None and copy.anchor < self._counter(None):
                raise IntegrityError(f"{self._path}: the whole store is an older one")
        except StoreVersionError:
            raise
        except (OSError, IntegrityError) as error:
            self._read_only.close()
            self.problem_found = str(error)
            return
        self._copy = copy

    def _resume_budget(self, held: Database | None) -> None:
        """Go on with the daily cap and the latest day: a device that restarts all day has one."""
        try:
            row = None if held is None else held.get(*_BUDGET)
            left, wall, *hours = map(int, (row or b"0 0").split())
            if len(hours) % 2 or min(hours, default=0) < 0:
                raise ValueError(f"expected an age and bytes of each hour, got {hours!r:.80}")
        except (StoreError, IntegrityError, ValueError) as error:
            logger().warning("the store's budget begins anew: %s", error)
            return
        if row is None:
            return
        passed = max(0.0, time.time() - wall)  # a clock may jump either way
        self._tokens = min(left + passed * self._rate, self._tokens)
        then = self._clock() - passed
        self._hours.extend((then - age, n) for age, n in zip(hours[::2], hours[1::2], strict=True))

    @property
    def _rate(self) -> float:
        """Bytes that come due in a second."""
        return _USUAL_SHARE * self._bytes_per_day / _DAY_SECONDS

    @property
    def _readable(self) -> Database | None:
        return self._copy if self._database is None else self._database

    @staticmethod
    def _compare_counter(database: Database, counter: Counter) -> None:
        outside = counter(None)
        # A power cut between the commit and the counter leaves the store one ahead.
        if database.anchor < outside:
            raise IntegrityError(
                f"{database.path}: the counter outside says {outside}, the store "
                f"{database.anchor}: the whole store is an older one"
            )
        if database.anchor > outside:
            counter(database.anchor)

    def _can_begin_anew(self) -> bool:
        from selfheal_edge.store.medium import is_out_of_reach  # noqa: PLC0415 — as below

        folder = os.path.dirname(self._path) or os.curdir
        is_there = os.path.isfile(self._path) and os.access(folder, os.W_OK)
        return is_there and not is_out_of_reach(self._path)

    def _begin_anew(self, error: Exception) -> Database | None:
        self.problem_found = str(error)
        logger().warning("the store is put aside: %s", error)
        aside = f"{self._path}.refused"
        if os.path.exists(aside):
            aside = f"{self._path}.refused-last"
        try:
            os.replace(self._path, aside)
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._path}-wal", f"{aside}-wal")
            database = Database.create_or_open(self._path, self._key, max_bytes=self._max_bytes)
            if self._counter is not None:
                # The counter is where it was: what begins now belongs to its next value.
                following = self._counter(None) + 1
                database.commit(Changes(), keep_journal_bytes=self._journal_bytes, anchor=following)
                self._counter(following)
        except (OSError, IntegrityError) as failed:
            self._note(failed)
            return None
        return database

    @property
    def _journal_bytes(self) -> int:
        return self._max_bytes // _JOURNAL_SHARE

    def _note(self, error: Exception) -> None:
        """Take note of what keeps the store from being written."""
        if self._problem is None:
            logger().warning("the store cannot be written now: %s", error)
        from selfheal_edge.store.medium import status_of  # noqa: PLC0415 — for media that fail

        self._problem, self._status = str(error), status_of(error, self._path)

    @property
    def told_of_start(self) -> list[str]:
        """What an event says of a file that was there and is not used."""
        if self.problem_found is None:
            return []
        is_anew = self._database is not None
        return [f"{'put aside, and begun anew' if is_anew else 'not used'}: {self.problem_found}"]

    # ---------------------------------------------------------------- reading

    def get(self, area: str, name: str) -> bytes | None:
        """Return a row's value, as it is or as it will be; None where there is none.

        Until `start_is_over` it waits for no commit, where the rows come to 1 MiB at most.

        Raises
        ------
        IntegrityError, StoreError
            When it was damaged since it was opened, or cannot be read.
        """
        with self._queue:
            if (area, name) in self._rows:
                return self._rows[area, name]
        held = self._held(area)
        if held is not None:
            return held.get(name)
        with self._mutex:
            found = self._readable
            return None if found is None else found.get(area, name)

    def items(self, area: str) -> dict[str, bytes]:
        """Return all rows of an area, by name.

        Raises
        ------
        IntegrityError, StoreError
            As `get`.
        """
        with self._queue:
            waiting = dict(self._rows)
        held = self._held(area)
        if held is None:
            with self._mutex:
                readable = self._readable
                found = {} if readable is None else readable.items(area)
        else:
            found = dict(held)
        for (where, name), value in waiting.items():
            if where != area:
                continue
            if value is None:
                found.pop(name, None)
            else:
                found[name] = value
        return found

    def _held(self, area: str) -> Mapping[str, bytes] | None:
        """Return an area's rows, if they are in memory: then no commit is waited for."""
        readable = self._readable
        return None if readable is None else readable.held(area)

    def block(self, name: bytes) -> bytes | None:
        """Return a block, or None.

        Raises
        ------
        IntegrityError, StoreError
            As `get`.
        """
        with self._mutex:
            held = self._readable
            return None if held is None else held.block(name)

    def block_names(self) -> set[bytes]:
        """Return the names of all blocks."""
        with self._mutex:
            held = self._readable
            return set() if held is None else held.block_names()

    def journal_head(self) -> tuple[int, bytes]:
        """Return the number of records committed so far and the hash after the last of them."""
        with self._mutex:
            held = self._readable
            return (0, b"") if held is None else (held.journal.next, held.journal.head)

    def records(self) -> list[bytes]:
        """Return the bodies of all records that are kept, oldest first; those that wait included.

        Raises
        ------
        IntegrityError, StoreError
            Where the chain breaks.
        """
        with self._mutex:
            held = self._readable
            kept = [] if held is None else [r.body for r in held.records()]
            with self._queue:
                return kept + list(self._records)

    @property
    def state(self) -> StoreState:
        """What there is to say of the store now; waits for no commit."""
        now = self._clock()
        with self._queue:
            return StoreState(
                path=self._path,
                status=self._status,
                problem=self._problem,
                refused=self.problem_found,
                nbytes=self._nbytes,
                max_bytes=self._max_bytes,
                bytes_written=self._bytes_written,
                bytes_today=sum(n for when, n in self._hours if now - when < _DAY_SECONDS),
                bytes_per_day=self._bytes_per_day,
                waiting=len(self._records),
                lost=self._lost,
                commits=self._commits,
                seconds_since_commit=None if self._committed is None else now - self._committed,
                seq=self._next,
                head=self._head.hex(),
            )

    # ---------------------------------------------------------------- writing

    def put(self, area: str, name: str, value: bytes | None) -> None:
        """Have a row written within a minute; None removes it. Returns at once."""
        self.put_all([Row(area, name, value)])

    def put_all(self, rows: Iterable[Row]) -> None:
        """Have rows written together, within a minute. Returns at once."""
        given = tuple(rows)
        with self._queue:
            self._rows.update({(row.area, row.name): row.value for row in given})
            self._wiping = self._wiping or any(row.wipes for row in given)

    def append(self, body: bytes) -> Link:
        """Have a record written to the journal within seconds. Returns at once, with its place.

        Where memory has no more room the record is lost, and one that says how many were follows.
        """
        with self._queue:
            link = self._keep(body)
        self._wake_thread()
        return link

    def _keep(self, body: bytes) -> Link:
        """Chain a record and keep it; the caller has the queue's lock."""
        if len(self._records) >= _MOST_WAITING_RECORDS or (
            self._record_bytes + len(body) > _MOST_WAITING_BYTES and self._records
        ):
            self._lost += 1
            self._unchained += 1
            return self._next, b""
        if self._unchained:
            self._tell_lost()
        return self._chain(body)

    def _chain(self, body: bytes) -> Link:
        self._head = self._seal.link(self._head, self._next, body)
        link = self._next, self._head
        self._next += 1
        self._records.append(body)
        self._record_bytes += len(body)
        return link

    def _tell_lost(self) -> None:
        self._chain(
            b'{"kind": "lost", "outcome": "%d events, which memory had no room for", "wall": %d}'
            % (self._unchained, int(time.time()))
        )
        self._unchained = 0

    def commit(self, changes: Changes | None = None) -> None:
        """Write `changes` and all that waits, now; returns when it is safe.

        For what must be on the medium before it acts; it passes the daily cap, whose bound it is to
        happen seldom.

        Raises
        ------
        StoreError
            When it cannot be written. Rows and blocks that were given are not kept then; what
            waited waits on, and so do the records that were given.
        """
        given = Changes() if changes is None else changes
        with self._mutex:
            with self._queue:
                for body in given.journal:
                    self._keep(body)
            try:
                self._write(given, anchored=True)
            except (StoreError, IntegrityError) as error:
                self._note(error)
                raise

    def _write(self, given: Changes, *, anchored: bool = False) -> None:
        """Commit what `given` has beside records, and all that waits; the caller has the mutex."""
        database = self._writable()
        with self._queue:
            records, waiting = list(self._records), dict(self._rows)
            wiping = self._wiping
        named = {(row.area, row.name) for row in given.rows}
        rows = [
            Row(*place, value, wiping) for place, value in waiting.items() if place not in named
        ]
        changes = Changes(rows + given.rows, records, given.blocks, given.dropped_blocks)
        if not changes:
            return
        parts = (*(row.value or b"" for row in rows), *records, *given.blocks)
        expected = _COMMIT_OVERHEAD + sum(map(len, parts))
        if self.is_closing:
            expected += database.log_nbytes  # which is written back right after
        if self._clock() >= self._keeps_budget_from or self.is_closing:
            changes.rows.append(Row(*_BUDGET, self._budget_after(expected)))
        counter = self._counter if anchored else None
        anchor = None if counter is None else counter(None) + 1
        before = database.bytes_written
        database.commit(changes, keep_journal_bytes=self._journal_bytes, anchor=anchor)
        if counter is not None and anchor is not None:
            counter(anchor)
        with self._queue:
            for place, value in waiting.items():
                if self._rows.get(place, b"") is value:  # else: a newer one came meanwhile
                    del self._rows[place]
            self._wiping = self._wiping and bool(self._rows)
            for body in records:
                self._records.popleft()
                self._record_bytes -= len(body)
            self._on_medium = _end_of(database)
            if self._unchained:
                self._tell_lost()
                self._wake.set()
            self._account(database, database.bytes_written - before)
            self._committed = self._clock()
            self._problem, self._status = None, "ok"

    def _writable(self) -> Database:
        if self._database is not None:
            return self._database
        if self._is_closed:
            raise StoreError(f"{self._path}: expected an open store, got a closed one")
        database = self._open_verified()
        if _end_of(database) != self._on_medium:
            database.close()
            raise StoreError(
                f"{self._path}: expected the store of the start, got another: it was written to "
                "meanwhile"
            )
        self._read_only.close()
        self._database, self._copy = database, None
        return database

    def _account(self, database: Database, grown: int) -> None:
        self._tokens -= grown
        self._nbytes, self._commits = database.nbytes, database.commits
        self._bytes_written += grown
        _add(self._hours, self._clock(), grown)

    def _budget_after(self, nbytes: int) -> bytes:
        """Return the row of what is left of the daily cap, and what each hour took, after these."""
        now = self._clock()
        hours = self._hours.copy()
        _add(hours, now, nbytes)
        fields = [int(self._tokens - nbytes), int(time.time())]
        for when, written in hours:
            fields += [int(now - when), written]
        return b" ".join(b"%d" % field for field in fields)

    # ---------------------------------------------------------------- the writer's thread

    def start(self) -> None:
        """Begin to write in a thread.

        Where no thread can be had, what is put waits in memory; each record asks for one again,
        and `close` writes without.
        """
        self._has_begun = True
        atexit.register(self.close)
        self._begin_thread()

    def _wake_thread(self) -> None:
        self._wake.set()
        self._begin_thread()

    def _begin_thread(self) -> None:
        if self._thread is not None or not self._has_begun or self._stop.is_set():
            return
        if self._pid != os.getpid():
            return
        with self._queue:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="selfheal-store", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                logger().warning("the store has no thread to write in: %s", error)
                return
            self._thread = thread

    @property
    def has_thread(self) -> bool:
        """Whether a thread does what `soon` is given, and writes what waits."""
        return self._thread is not None

    def soon(self, job: Job) -> None:
        """Have something done by the writer's thread, which may read and commit; returns at once.

        What it raises is logged.
        """
        self._jobs.append(job)
        self._wake_thread()

    def each_time(self, job: Job) -> None:
        """Have something done by the writer's thread every few seconds.

        That is whenever it looks at what waits. What the job raises is logged.
        """
        self._each_time.append(job)

    def each_minute(self, job: Job) -> None:
        """Have something done by it once a minute, and before it lets go; likewise."""
        self._each_minute.append(job)

    def start_is_over(self) -> None:
        """Hold no longer what was read at the opening: little is read from now on."""
        with self._mutex:
            if self._database is not None:
                self._database.forget_read()

    def forget_jobs(self) -> None:
        """Have nothing of `each_time` and `each_minute` done any more: others take their place."""
        self._each_time = []
        self._each_minute = []

    def _run(self) -> None:
        pause = _BATCH_SECONDS
        next_minute = time.monotonic() + _STATE_SECONDS
        while not self._stop.is_set():
            self._wake.wait(min(_BATCH_SECONDS, max(0.0, next_minute - time.monotonic())))
            self._wake.clear()
            if self._stop.is_set():
                break
            self._do_jobs()
            for job in self._each_time:
                self._guarded(job)
            if time.monotonic() >= next_minute:
                self.do_each_minute()
                next_minute = time.monotonic() + _STATE_SECONDS
            is_well = self._write_what_is_due()
            pause = _BATCH_SECONDS if is_well else min(2 * pause, _LONGEST_PAUSE)
            self._stop.wait(pause if not is_well else min(pause, next_minute - time.monotonic()))
        self._finish()

    def _do_jobs(self) -> None:
        while self._jobs:
            self._guarded(self._jobs.popleft())

    @staticmethod
    def _guarded(job: Job) -> None:
        try:
            job()
        except (StoreError, IntegrityError) as error:
            logger().warning("the store: %s", error)
        except Exception:
            logger().exception("what the store's thread was asked to do has failed")

    def do_each_minute(self) -> None:
        """Do now what is due once a minute; for the writer's thread."""
        for job in self._each_minute:
            self._guarded(job)
        self._keeps_budget_from = -math.inf

    def _write_what_is_due(self) -> bool:
        """Write what waits, if the cap allows; return whether the medium is well."""
        with self._mutex:
            with self._queue:
                now = self._clock()
                self._tokens += max(0.0, now - self._refilled) * self._rate
                self._tokens = min(self._tokens, float(self._bytes_per_day))
                self._refilled = now
                expected = _COMMIT_OVERHEAD + self._record_bytes
                expected += sum(len(value or b"") for value in self._rows.values())
                if not (self._rows or self._records) or self._tokens < expected:
                    return True
            try:
                self._write(Changes())
            except (StoreError, IntegrityError) as error:
                self._note(error)
                return False
            return True

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """Write what waits, if it can be, and let go; calling it again does nothing.

        In a child of `fork` it does nothing at all: file and lock are the parent's.
        """
        if self._pid != os.getpid():
            return
        self.abandon()
        thread, self._thread = self._thread, None
        if thread is None:
            self._finish()
        elif thread is not threading.current_thread():
            thread.join()

    @property
    def is_closing(self) -> bool:
        """Whether what is written now is the last."""
        return self._stop.is_set()

    def abandon(self) -> None:
        """Have the writer's thread write what waits and let go; waits for nothing."""
        self._stop.set()
        self._wake.set()

    def _finish(self) -> None:
        if self._is_closed:
            return
        atexit.unregister(self.close)
        self._do_jobs()
        self.do_each_minute()
        self._each_time.clear()
        self._each_minute.clear()
        with self._mutex:
            if self._database is not None or self._records or self._rows:
                try:
                    self._write(Changes(), anchored=True)
                except (StoreError, IntegrityError) as error:
                    self._note(error)
            self._is_closed = True
            self._read_only.close()
            self._copy = None
            if self._database is not None:
                before = self._database.bytes_written
                self._database.close()
                with self._queue:
                    self._account(self._database, self._database.bytes_written - before)
                self._database = None


def _add(hours: deque[tuple[float, int]], now: float, nbytes: int) -> None:
    """Add to what was written in this hour."""
    hour = now // 3600.0 * 3600.0
    if hours and hours[-1][0] >= hour:
        hour, written = hours.pop()
        nbytes += written
    hours.append((hour, nbytes))


def _end_of(database: Database) -> tuple[int, bytes]:
    return database.journal.next, database.journal.head
