"""The store of one device: a database, a thread that writes to it, and what happens when it fails.

`predict` never waits for it. What is put is kept in memory, bounded, until the writer's thread has
committed it; a medium that is full, read-only or failing is tried again with growing pauses, and
what waits is written when there is room. What must be on the medium *before* it acts (a generation,
a trial, a budget) is committed by the thread that acts, and that call returns when it is safe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from selfheal_edge.errors import IntegrityError, StoreError, StoreVersionError
from selfheal_edge.store.database import Changes, Database, Row

__all__ = ["Counter", "Store", "StoreState"]

_log = logging.getLogger("selfheal_edge")

_DAY_SECONDS: Final = 86_400.0
_BATCH_SECONDS: Final = 5.0
_STATE_SECONDS: Final = 55.0
_LONGEST_PAUSE: Final = 300.0
_MOST_WAITING_RECORDS: Final = 4096
_MOST_WAITING_BYTES: Final = 4 << 20
_JOURNAL_SHARE: Final = 4
# The rest is for what must be safe before it acts, and for writing the log back.
_USUAL_SHARE: Final = 0.9
# What a commit writes beside its rows: the root, and the pages' unused ends.
_COMMIT_OVERHEAD: Final = 3 * 1024

Collect = Callable[[], Mapping[tuple[str, str], bytes]]


class Counter(Protocol):
    """A counter outside the store that never goes back: in a TPM, an RPMB, or a server.

    Only with it can the replay of a whole old file be noticed.
    """

    def __call__(self, at_least: int | None) -> int:
        """Return the value; raise it to `at_least` before, where that is a number above it."""
        ...


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a store says of itself."""

    path: str
    problem: str | None
    """Why nothing is written now, or None."""
    nbytes: int
    """Bytes of file and log."""
    max_bytes: int
    bytes_written: int
    """Bytes given to the medium since the start."""
    bytes_per_day: int
    """The cap on them; what has not come due waits in memory."""
    waiting: int
    """Records of the journal that wait in memory."""
    lost: int
    """Records that memory had no room for."""
    commits: int
    seconds_since_commit: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


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
    golden. A folder that cannot be written leaves everything in memory.
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
        self._path = Path(path)
        self._key = key
        self._max_bytes = max_bytes
        self._bytes_per_day = bytes_per_day
        self._counter = counter
        self._clock = clock
        self._mutex = threading.Lock()  # the database and what waits for it
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._collect: Collect | None = None
        self._rows: dict[tuple[str, str], bytes | None] = {}
        self._records: deque[bytes] = deque()
        self._record_bytes = 0
        self._lost = 0
        self._problem: str | None = None
        self._tokens = float(bytes_per_day) / 24  # an hour's worth at the start
        self._refilled = clock()
        self._committed: float | None = None
        self._written_before = 0
        self.problem_found: str | None = None
        """Why the file that was there is not used, or None."""
        self._database = self._open()

    # ---------------------------------------------------------------- opening

    def _open(self) -> Database | None:
        try:
            database = self._open_verified()
        except StoreVersionError:
            raise
        except IntegrityError as error:
            return self._begin_anew(error)
        except StoreError as error:
            if "expected one writer" in str(error):
                raise
            if not self._can_begin_anew():
                self._problem = str(error)
                return None
            return self._begin_anew(error)
        return database

    def _open_verified(self) -> Database:
        database = Database.create_or_open(self._path, self._key, max_bytes=self._max_bytes)
        try:
            if self._counter is not None:
                self._compare_counter(database, self._counter)
        except BaseException:
            database.close()
            raise
        return database

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
        return self._path.is_file() and os.access(self._path.parent, os.W_OK)

    def _begin_anew(self, error: Exception) -> Database | None:
        self.problem_found = str(error)
        _log.warning("the store is put aside: %s", error)
        aside = self._path.with_name(self._path.name + ".refused")
        if aside.exists():
            aside = self._path.with_name(self._path.name + ".refused-last")
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
            self._problem = str(failed)
            return None
        return database

    @property
    def _journal_bytes(self) -> int:
        return self._max_bytes // _JOURNAL_SHARE

    # ---------------------------------------------------------------- reading

    def get(self, area: str, name: str) -> bytes | None:
        """Return a row's value, as it is or as it will be; None where there is none.

        Raises
        ------
        IntegrityError, StoreError
            When it was damaged since it was opened, or cannot be read.
        """
        with self._mutex:
            if (area, name) in self._rows:
                return self._rows[area, name]
            return None if self._database is None else self._database.get(area, name)

    def items(self, area: str) -> dict[str, bytes]:
        """Return all rows of an area, by name.

        Raises
        ------
        IntegrityError, StoreError
            As `get`.
        """
        with self._mutex:
            found = {} if self._database is None else self._database.items(area)
            for (where, name), value in self._rows.items():
                if where != area:
                    continue
                if value is None:
                    found.pop(name, None)
                else:
                    found[name] = value
            return found

    def block(self, name: bytes) -> bytes | None:
        """Return a block, or None.

        Raises
        ------
        IntegrityError, StoreError
            As `get`.
        """
        with self._mutex:
            return None if self._database is None else self._database.block(name)

    def block_names(self) -> set[bytes]:
        """Return the names of all blocks."""
        with self._mutex:
            return set() if self._database is None else self._database.block_names()

    def journal_head(self) -> tuple[int, bytes]:
        """Return the number of records committed so far and the hash after the last of them."""
        with self._mutex:
            if self._database is None:
                return 0, b""
            return self._database.journal.next, self._database.journal.head

    def records(self) -> list[bytes]:
        """Return the bodies of all records that are kept, oldest first; those that wait included.

        Raises
        ------
        IntegrityError, StoreError
            Where the chain breaks.
        """
        with self._mutex:
            held = [] if self._database is None else [r.body for r in self._database.records()]
            return held + list(self._records)

    @property
    def state(self) -> StoreState:
        """What there is to say of the store now."""
        with self._mutex:
            database = self._database
            written = 0 if database is None else database.bytes_written
            return StoreState(
                path=str(self._path),
                problem=self._problem,
                nbytes=0 if database is None else database.nbytes,
                max_bytes=self._max_bytes,
                bytes_written=self._written_before + written,
                bytes_per_day=self._bytes_per_day,
                waiting=len(self._records),
                lost=self._lost,
                commits=0 if database is None else database.commits,
                seconds_since_commit=(
                    None if self._committed is None else self._clock() - self._committed
                ),
            )

    # ---------------------------------------------------------------- writing

    def put(self, area: str, name: str, value: bytes | None) -> None:
        """Have a row written within a minute; None removes it. Returns at once."""
        row = Row(area, name, value)
        with self._mutex:
            self._rows[row.area, row.name] = row.value

    def append(self, body: bytes) -> None:
        """Have a record written to the journal within seconds. Returns at once."""
        with self._mutex:
            self._keep(body)
        self._wake.set()

    def _keep(self, body: bytes) -> None:
        self._records.append(body)
        self._record_bytes += len(body)
        while len(self._records) > _MOST_WAITING_RECORDS or (
            self._record_bytes > _MOST_WAITING_BYTES and len(self._records) > 1
        ):
            self._record_bytes -= len(self._records.popleft())
            self._lost += 1

    def commit(self, changes: Changes | None = None) -> None:
        """Write `changes` and all that waits, now; returns when it is safe.

        For what must be on the medium before it acts; it passes the daily cap, whose bound it is to
        happen seldom.

        Raises
        ------
        StoreError
            When it cannot be written. What was given is not kept; what waited waits on.
        """
        with self._mutex:
            self._write(Changes() if changes is None else changes, anchored=True)

    def _write(self, given: Changes, *, anchored: bool = False) -> None:
        """Commit `given` and all that waits; the caller has the mutex."""
        if self._database is None:
            self._database = Database.create_or_open(
                self._path, self._key, max_bytes=self._max_bytes
            )
        records = list(self._records)
        waiting = [Row(area, name, value) for (area, name), value in self._rows.items()]
        named = {(row.area, row.name) for row in given.rows}
        changes = Changes(
            rows=[row for row in waiting if (row.area, row.name) not in named] + given.rows,
            journal=records + given.journal,
            blocks=given.blocks,
            dropped_blocks=given.dropped_blocks,
        )
        if not changes:
            return
        counter = self._counter if anchored else None
        anchor = None if counter is None else counter(None) + 1
        before = self._database.bytes_written
        self._database.commit(changes, keep_journal_bytes=self._journal_bytes, anchor=anchor)
        if counter is not None and anchor is not None:
            counter(anchor)
        self._tokens -= self._database.bytes_written - before
        self._rows.clear()
        self._records.clear()
        self._record_bytes = 0
        self._committed = self._clock()
        self._problem = None

    # ---------------------------------------------------------------- the writer's thread

    def start(self, collect: Collect | None = None) -> None:
        """Begin to write in a thread.

        Parameters
        ----------
        collect
            Returns the rows of states that change with every prediction; called once a minute.
            What it raises is logged.
        """
        self._collect = collect
        self._thread = threading.Thread(target=self._run, name="selfheal-store", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = _BATCH_SECONDS
        collected = self._clock()
        while not self._closing:
            self._wake.wait(_STATE_SECONDS)
            if self._closing:
                return
            if self._clock() - collected >= _STATE_SECONDS:
                self._gather()
                collected = self._clock()
            self._wake.clear()
            well = self._write_what_is_due()
            pause = _BATCH_SECONDS if well else min(2 * pause, _LONGEST_PAUSE)
            self._sleep(pause)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._closing and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.25))

    def _gather(self) -> None:
        if self._collect is None:
            return
        try:
            rows = self._collect()
        except Exception:
            _log.exception("the states could not be collected for the store")
            return
        with self._mutex:
            self._rows.update(rows)

    def _write_what_is_due(self) -> bool:
        """Write what waits, if the cap allows; return whether the medium is well."""
        with self._mutex:
            now = self._clock()
            rate = _USUAL_SHARE * self._bytes_per_day / _DAY_SECONDS
            self._tokens += max(0.0, now - self._refilled) * rate
            self._tokens = min(self._tokens, float(self._bytes_per_day))
            self._refilled = now
            expected = _COMMIT_OVERHEAD + self._record_bytes
            expected += sum(len(value or b"") for value in self._rows.values())
            if not (self._rows or self._records) or self._tokens < expected:
                return True
            try:
                self._write(Changes())
            except (StoreError, IntegrityError) as error:
                if self._problem is None:
                    _log.warning("the store cannot be written now: %s", error)
                self._problem = str(error)
                return False
            return True

    def close(self) -> None:
        """Write what waits, if it can be, and let go; calling it again does nothing."""
        self._closing = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._gather_at_close()
        with self._mutex:
            if self._database is None:
                return
            try:
                self._write(Changes(), anchored=True)
            except (StoreError, IntegrityError) as error:
                self._problem = str(error)
            self._written_before += self._database.bytes_written
            self._database.close()
            self._database = None

    def _gather_at_close(self) -> None:
        if self._collect is not None:
            self._gather()
            self._collect = None
