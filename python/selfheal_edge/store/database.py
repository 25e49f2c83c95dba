"""One SQLite file that holds rows, blocks and the journal, authenticated as a whole at each commit.

It knows rows, not meanings: what is in an area is up to the module that named it. After a crash or
a power cut the file holds exactly the last commit or the one before it; what is neither, because a
medium lied or another program wrote there, does not verify and is refused.

How it is kept
--------------
Write-ahead log, one connection that holds the file for itself (``locking_mode=EXCLUSIVE``), and
``synchronous=FULL``. A commit then writes each changed page once, to the log's end, where a
rollback journal writes it twice and in place; there is no shared-memory file; and the fault by
which SQLite before 3.51.3 may reset a log under two connections cannot happen. Pages of 1 KiB,
since a commit writes whole pages and most rows are small. The log is written back when it has
128 KiB, or a 16th of the cap up to 1 MiB, and begins anew only after a second synchronisation:
cards exist whose first one ends before the data is safe. It keeps its length then and is written
over, since a file that grows or is cut makes the file system write a journal of its own; its head
is blanked first, so that no frame of before is ever taken for one of now: each has the log's random
salts of its time. Where something was removed, or another process left it, it is cut instead, so
that no byte of before stays. Readers take a copy of the file and its log, and take it again when it
does not verify because the writer was in the middle: they hold no lock and disturb nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from selfheal_edge import _core
from selfheal_edge.errors import IntegrityError, StoreError, StoreVersionError
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.seal import TAG_BYTES, Seal
from selfheal_edge.store.writer_lock import WriterLock

if TYPE_CHECKING:
    import sqlite3
else:
    try:  # without the package around it, which a start waits a millisecond for
        sqlite3 = import_module("_sqlite3")
    except ImportError:
        sqlite3 = import_module("sqlite3")

__all__ = [
    "SCHEMA_VERSION",
    "Database",
    "JournalState",
    "Record",
    "is_of_the_medium",
]

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = 0x53484C31
_PAGE_BYTES: Final = 1024
_LEAST_BYTES: Final = 256 * 1024
_MOST_BYTES: Final = 1 << 40
_LOG_BYTES: Final = 128 * 1024
_LOG_SHARE: Final = 16
_MOST_LOG_SHARED: Final = 16 << 20
_LOG_HEAD_BYTES: Final = 32
_FRAME_HEAD_BYTES: Final = 24
_ONE_COMMIT_BYTES: Final = 64 * 1024
_ATTEMPTS_TO_COPY: Final = 8
_MOST_BYTES_READ: Final = 1 << 20
_NOT_OF_THE_FILE: Final = ("is full", "readonly", "unable to open", "is locked")
_LEAST_ROW_LIMIT: Final = 16 << 20
_MOST_ROW_LIMIT: Final = 256 << 20
_SCHEMA: Final = (
    "CREATE TABLE root (id INTEGER PRIMARY KEY CHECK (id = 1), "
    "body BLOB NOT NULL, tag BLOB NOT NULL)",
    "CREATE TABLE item (id INTEGER PRIMARY KEY, area TEXT NOT NULL, name TEXT NOT NULL, "
    "value BLOB NOT NULL, tag BLOB NOT NULL, UNIQUE (area, name))",
    "CREATE TABLE block (name BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE journal (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL)",
)


# Plain classes: named tuples and dataclasses are compiled anew by each process, which a start waits
# for.


class Record:
    """One record of the journal."""

    __slots__ = ("body", "hash", "seq")

    def __init__(self, seq: int, body: bytes, digest: bytes) -> None:
        self.seq, self.body = seq, body
        self.hash = digest
        """Of this record and all before it."""


class JournalState:
    """Where the journal begins and ends."""

    def __init__(self, first: int, following: int, before: bytes, head: bytes, nbytes: int) -> None:
        self.first = first
        """Number of the oldest record that is kept."""
        self.next = following
        """Number of the next record; `next - first` are kept."""
        self.before, self.head = before, head
        """Hashes before the oldest record that is kept, and after the newest one."""
        self.nbytes = nbytes
        """Bytes of all bodies that are kept."""


class _Root:
    def __init__(
        self,
        commit: int,
        anchor: int,
        areas: dict[str, tuple[int, int]],
        journal: JournalState,
    ) -> None:
        self.commit, self.anchor = commit, anchor
        self.areas, self.journal = areas, journal

    def encode(self, keyed: bool) -> bytes:
        fields = {
            "schema": SCHEMA_VERSION,
            "keyed": keyed,
            "commit": self.commit,
            "anchor": self.anchor,
            "areas": {a: [n, f"{s:064x}"] for a, (n, s) in sorted(self.areas.items())},
            "journal": [
                self.journal.first,
                self.journal.next,
                self.journal.before.hex(),
                self.journal.head.hex(),
                self.journal.nbytes,
            ],
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> _Root:
        fields = json.loads(body)
        first, following, before, head, nbytes = fields["journal"]
        return cls(
            int(fields["commit"]),
            int(fields["anchor"]),
            {a: (int(n), int(s, 16)) for a, (n, s) in fields["areas"].items()},
            JournalState(
                int(first), int(following), bytes.fromhex(before), bytes.fromhex(head), int(nbytes)
            ),
        )


_EMPTY: Final = _Root(0, 0, {}, JournalState(0, 0, bytes(TAG_BYTES), bytes(TAG_BYTES), 0))


# A child of `fork` has none of the locks. At its end, its copy of a connection would write the log
# back and remove it under the parent: so it is never let go of there.
_OPEN: Final[weakref.WeakSet[Database]] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for database in tuple(_OPEN):
        _core.keep_for_ever(database)


os.register_at_fork(after_in_child=_leave_to_parent)


class Database:
    """An open store file; its one writer, or a reader of a copy.

    Use `create_or_open` or `read_copy`. One thread at a time.
    """

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        seal: Seal,
        lock: WriterLock | None,
        max_bytes: int,
        name: str | None = None,
    ) -> None:
        self.path = path
        self._name = path if name is None else name  # of a copy: what it is a copy of
        self._db = connection
        self._seal = seal
        self._lock = lock
        self._max_bytes = max_bytes
        self._most_log_bytes = _most_log_bytes(max_bytes)
        self._root = _EMPTY
        self._log_bytes = 0
        self._log_salts = b""
        self._cuts_log = False  # has what was removed, or may have
        self._held: dict[str, dict[str, bytes]] | None = None  # by area, as of the latest commit
        self.bytes_written = 0
        """Bytes given to the medium since the opening: the log's pages and those written back."""
        _OPEN.add(self)

    # ---------------------------------------------------------------- opening

    @classmethod
    def create_or_open(
        cls,
        path: str | os.PathLike[str],
        key: bytes | None,
        *,
        max_bytes: int,
        holds_read: bool = False,
    ) -> Database:
        """Open the store for writing; make it where there is none.

        Parameters
        ----------
        path
            The file. Beside it there are ``-wal`` (SQLite's log) and ``.lock``.
        key
            From `keys.read_key`; None seals by a plain hash, which finds accidents alone.
        max_bytes
            What file and log may come to together, at least 256 KiB.
        holds_read
            Whether rows that are read and verified at the opening, if they come to 1 MiB at most,
            are held until `forget_read`: a start asks for most of them.

        Raises
        ------
        StoreVersionError
            When a newer release wrote it; the file is untouched.
        IntegrityError
            When something does not verify: a wrong key, or rows that were changed, exchanged,
            removed or are of another commit.
        StoreError
            When it has another writer, is no store, is damaged, or cannot be read or written.
        """
        if isinstance(max_bytes, bool) or not _LEAST_BYTES <= max_bytes <= _MOST_BYTES:
            raise ValueError(f"max_bytes: expected at least {_LEAST_BYTES}, got {max_bytes!r}")
        place = os.path.realpath(path)  # where SQLite has the log
        try:
            lock = WriterLock(place)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{place}: expected a folder to write in: {error}") from error
        try:
            if not os.path.exists(place):
                _make(place, Seal(key))
            _look_at_header(place)
            return cls._open(place, key, lock, max_bytes, holds_read=holds_read)
        except BaseException:
            lock.close()
            raise

    @classmethod
    @contextlib.contextmanager
    def read_copy(cls, path: str | os.PathLike[str], key: bytes | None) -> Iterator[Database]:
        """Open a verified copy of a store that another process may be writing.

        The copy lies in a private temporary folder and goes with the `with` block.

        Raises
        ------
        StoreVersionError, IntegrityError, StoreError
            As `create_or_open`.
        """
        import shutil  # noqa: PLC0415 — for readers, which are few
        import tempfile  # noqa: PLC0415

        place = os.path.realpath(path)  # where SQLite has the log
        for attempt in range(_ATTEMPTS_TO_COPY):
            with tempfile.TemporaryDirectory(prefix="selfheal-") as folder:
                copy = os.path.join(folder, "store")
                try:
                    _look_at_header(place)
                    with _errors_of_copying(place):
                        shutil.copyfile(place, copy)
                        with contextlib.suppress(FileNotFoundError):
                            shutil.copyfile(f"{place}-wal", f"{copy}-wal")
                    database = cls._open(copy, key, None, _MOST_BYTES, place)
                except StoreVersionError:
                    raise
                except (StoreError, IntegrityError):
                    if attempt + 1 < _ATTEMPTS_TO_COPY:
                        continue  # caught in the middle of a write, or damaged: the last look says
                    raise
                with database:
                    yield database
                return

    @classmethod
    def _open(
        cls,
        path: str,
        key: bytes | None,
        lock: WriterLock | None,
        most: int,
        name: str | None = None,
        *,
        holds_read: bool = False,
    ) -> Database:
        with _sqlite_errors(path if name is None else name):
            connection = _connect(path, most)
            try:
                database = cls(path, connection, Seal(key), lock, most, name)
                database._verify_schema()
                database._verify_size()
                database._load_root()
                database._verify_items(_MOST_BYTES_READ if holds_read else 0)
                database._verify_ends()
            except BaseException:
                connection.close()
                raise
        database._log_bytes = database._log_end()
        # Its process may have ended between a removal and the cut of the log.
        database._cuts_log = database._log_length() > 0
        return database

    def _verify_schema(self) -> None:
        found = self._db.execute(
            "SELECT type, substr(sql, 1, 1000) FROM sqlite_master WHERE sql IS NOT NULL"
        )
        if sorted(found) != sorted(("table", sql) for sql in _SCHEMA):
            raise StoreError(f"{self._name}: expected our tables and nothing else in the schema")

    def _load_root(self) -> None:
        rows = self._db.execute("SELECT length(body), length(tag) FROM root").fetchall()
        if len(rows) != 1 or rows[0][0] > self._max_bytes or rows[0][1] != TAG_BYTES:
            raise IntegrityError(f"{self._name}: expected one root, got {rows!r:.100}")
        body, tag = self._db.execute("SELECT body, tag FROM root").fetchone()
        if not isinstance(body, bytes) or not isinstance(tag, bytes):
            raise IntegrityError(f"{self._name}: expected bytes in the root")
        if not Seal.same(self._seal.root(body), tag):
            raise IntegrityError(
                f"{self._name}: the root does not verify: the store was sealed with another key or "
                f"with none{_said_of_key(body, self._seal)}, or it was damaged or changed"
            )
        try:
            self._root = _Root.decode(body)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{self._name}: expected a readable root: {error!r}") from None

    def _verify_size(self) -> None:
        """Compare the file's size with its pages; while a log has some of them, it may be less."""
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        size = os.stat(self.path).st_size
        if self._log_end() <= _LOG_HEAD_BYTES and size != pages * _PAGE_BYTES:
            raise StoreError(
                f"{self._name}: expected {pages * _PAGE_BYTES} bytes, got {size}: it was cut"
            )

    def _verify_items(self, left: int) -> None:
        """Verify all rows; hold them, where they come to `left` bytes at most."""
        sums: dict[str, tuple[int, int]] = {}
        held: dict[str, dict[str, bytes]] = {}
        for area, name, value, tag in self._rows():
            if not Seal.same(self._seal.row(area, name, value), tag):
                raise IntegrityError(
                    f"{self._name}: the row {name!r:.80} of {area!r:.80} was damaged or changed"
                )
            count, total = sums.get(area, (0, 0))
            sums[area] = (count + 1, Seal.added(total, tag))
            left -= len(value) + 1
            if left >= 0:
                held.setdefault(area, {})[name] = value
            else:
                held.clear()
        expected = {area: held for area, held in self._root.areas.items() if held[0]}
        for area in sorted(expected.keys() | sums.keys()):
            if expected.get(area) != sums.get(area):
                raise IntegrityError(
                    f"{self._name}: the rows of {area!r:.80} are not those of the last commit: "
                    "some were removed, added, or replaced by older ones"
                )
        self._held = held if left >= 0 else None

    def _rows(
        self, where: str = "", given: Sequence[str] = ()
    ) -> Iterator[tuple[str, str, bytes, bytes]]:
        query = f"SELECT area, name, value, tag FROM item {where}"  # noqa: S608 — ours alone
        for area, name, value, tag in self._db.execute(query, given):
            if not (
                isinstance(area, str)
                and isinstance(name, str)
                and isinstance(value, bytes)
                and isinstance(tag, bytes)
            ):
                raise IntegrityError(f"{self._name}: expected text and bytes in a row")
            yield area, name, value, tag

    def _verify_ends(self) -> None:
        """Compare the journal's ends with the root: this finds a cut, `records` what lies between.

        No record between is read: a start does not wait for a year of them.
        """
        state = self._root.journal
        kept = state.next - state.first
        first, last = self._db.execute(
            "SELECT (SELECT min(seq) FROM journal), (SELECT max(seq) FROM journal)"
        ).fetchone()
        if (first, last) != ((state.first, state.next - 1) if kept else (None, None)):
            raise IntegrityError(
                f"{self._name}: expected the journal's records {state.first} to {state.next - 1}, "
                f"got {first} to {last}: it was cut"
            )
        if kept:
            head = self._db.execute("SELECT hash FROM journal WHERE seq = ?", (last,)).fetchone()[0]
            if head != state.head:
                raise IntegrityError(f"{self._name}: the journal's last record was changed")

    # ---------------------------------------------------------------- reading

    @property
    def commits(self) -> int:
        """Commits since the store was made."""
        return self._root.commit

    @property
    def anchor(self) -> int:
        """The value of the counter outside that this state belongs to."""
        return self._root.anchor

    @property
    def journal(self) -> JournalState:
        """Where the journal begins and ends."""
        return self._root.journal

    @property
    def nbytes(self) -> int:
        """Bytes of the file and its log."""
        total = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += os.stat(f"{self.path}{suffix}").st_size
        return total

    @property
    def log_nbytes(self) -> int:
        """Bytes of the log, of which the file's share is written back in the end."""
        return self._log_bytes

    def get(self, area: str, name: str) -> bytes | None:
        """Return a row's value, or None.

        Raises
        ------
        IntegrityError
            When it was damaged since it was opened.
        StoreError
            When the file cannot be read.
        """
        held = self.held(area)
        if held is not None:
            return held.get(name)
        with _sqlite_errors(self._name):
            for found in self._rows("WHERE area = ? AND name = ?", (area, name)):
                return self._checked(*found)
        return None

    def items(self, area: str) -> dict[str, bytes]:
        """Return all rows of an area, by name.

        Raises
        ------
        IntegrityError, StoreError
            As `get`.
        """
        held = self.held(area)
        if held is not None:
            return dict(held)
        with _sqlite_errors(self._name):
            found = self._rows("WHERE area = ? ORDER BY id", (area,))
            return {row[1]: self._checked(*row) for row in found}

    def held(self, area: str) -> Mapping[str, bytes] | None:
        """Return an area's rows as of the latest commit, if they are in memory; else None.

        Threads: any, while another one commits.
        """
        held = self._held
        return None if held is None else held.get(area, {})

    def forget_read(self) -> None:
        """Hold no longer the rows that were read, and verified, at the opening."""
        self._held = None

    def _checked(self, area: str, name: str, value: bytes, tag: bytes) -> bytes:
        if not Seal.same(self._seal.row(area, name, value), tag):
            raise IntegrityError(f"{self._name}: the row {name!r:.80} of {area!r:.80} was damaged")
        return value

    def block(self, name: bytes) -> bytes | None:
        """Return a block's bytes, or None where it is not held.

        Raises
        ------
        IntegrityError, StoreError
            As `get`.
        """
        with _sqlite_errors(self._name):
            row = self._db.execute("SELECT data FROM block WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        data = row[0]
        if not isinstance(data, bytes) or Seal.block(data) != name:
            raise IntegrityError(f"{self._name}: the block {name.hex()[:16]} was damaged")
        return data

    def block_names(self) -> set[bytes]:
        """Return the names of all blocks that are held."""
        with _sqlite_errors(self._name):
            return {row[0] for row in self._db.execute("SELECT name FROM block")}

    def records(self, first: int = 0) -> Iterator[Record]:
        """Yield the journal's records from number `first` on, each verified along the chain.

        Raises
        ------
        IntegrityError
            At the first record that was changed, removed, inserted or moved.
        """
        state = self._root.journal
        before = state.before
        expected = state.first
        with _sqlite_errors(self._name):
            for seq, body, found in self._db.execute(
                "SELECT seq, body, hash FROM journal ORDER BY seq"
            ):
                if seq != expected or not isinstance(body, bytes):
                    raise IntegrityError(
                        f"{self._name}: record {expected} is missing, got {seq!r:.40}"
                    )
                before = self._seal.link(before, seq, body)
                if found != before:
                    raise IntegrityError(
                        f"{self._name}: the chain of the journal breaks at record {seq}"
                    )
                expected += 1
                if seq >= first:
                    yield Record(seq, body, before)
        if expected != state.next or before != state.head:
            raise IntegrityError(
                f"{self._name}: expected the journal to end with record {state.next - 1}, got "
                f"{expected - 1}: its end was cut or changed"
            )

    def verify(self) -> None:
        """Read everything and check it; `create_or_open` has checked the rows alone.

        Raises
        ------
        IntegrityError, StoreError
            Naming the first thing that does not verify.
        """
        with _sqlite_errors(self._name):
            answer = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if answer != "ok":
                raise StoreError(f"{self._name}: SQLite finds the file damaged: {answer!r:.200}")
        self._verify_size()
        self._verify_items(0)
        for _ in self.records():
            pass
        for name in self.block_names():
            self.block(name)

    # ---------------------------------------------------------------- writing

    def commit(
        self, changes: Changes, *, keep_journal_bytes: int, anchor: int | None = None
    ) -> None:
        """Make changes durable, all or none; returns when the medium says that it has them.

        Parameters
        ----------
        changes
            Rows, records and blocks.
        keep_journal_bytes
            What the journal's bodies may come to; the oldest records go first, a tenth at a time.
        anchor
            The value of the counter outside that the new state belongs to; None: as before.

        Raises
        ------
        StoreError
            When the medium is full, read-only or fails, and in a copy: nothing has changed then.
        """
        if self._lock is None:
            raise StoreError(f"{self._name}: this is a reader's copy")
        if self._is_to_write_back:  # it could not be before: the log does not grow beyond its part
            self.write_back(keeps_length=True)
        with _sqlite_errors(self._name):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                areas = dict(self._root.areas)
                for row in changes.rows:
                    self._apply(row, areas)
                for data in changes.blocks:
                    self._db.execute(
                        "INSERT OR IGNORE INTO block VALUES (?, ?)", (Seal.block(data), data)
                    )
                for name in changes.dropped_blocks:
                    self._db.execute("DELETE FROM block WHERE name = ?", (name,))
                root = _Root(
                    self._root.commit + 1,
                    self._root.anchor if anchor is None else anchor,
                    areas,
                    self._append(changes.journal, keep_journal_bytes),
                )
                _write_root(self._db, self._seal, root)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise
            self._root = root
            if self._held is not None:
                _apply_to_held(self._held, changes.rows)
            self._cuts_log |= bool(changes.dropped_blocks) or any(
                row.wipes or row.value is None for row in changes.rows
            )
            grown = self._log_end()
            self.bytes_written += max(0, grown - self._log_bytes)
            self._log_bytes = grown
        if self._is_to_write_back:  # where it fails: it is committed, and the next one tells
            with contextlib.suppress(StoreError):
                self.write_back(keeps_length=True)

    def _apply(self, row: Row, areas: dict[str, tuple[int, int]]) -> None:
        count, total = areas.get(row.area, (0, 0))
        held = self._db.execute(
            "SELECT id, tag FROM item WHERE area = ? AND name = ?", (row.area, row.name)
        ).fetchone()
        if held is not None:
            count, total = count - 1, Seal.taken(total, held[1])
        if row.value is not None:
            tag = self._seal.row(row.area, row.name, row.value)
            count, total = count + 1, Seal.added(total, tag)
            if held is None:
                self._db.execute(
                    "INSERT INTO item (area, name, value, tag) VALUES (?, ?, ?, ?)",
                    (row.area, row.name, row.value, tag),
                )
            else:
                self._db.execute(
                    "UPDATE item SET value = ?, tag = ? WHERE id = ?", (row.value, tag, held[0])
                )
        elif held is not None:
            self._db.execute("DELETE FROM item WHERE id = ?", (held[0],))
        areas[row.area] = (count, total)

    def _append(self, bodies: Sequence[bytes], keep_bytes: int) -> JournalState:
        state = self._root.journal
        head, following, nbytes = state.head, state.next, state.nbytes
        for body in bodies:
            head = self._seal.link(head, following, body)
            self._db.execute("INSERT INTO journal VALUES (?, ?, ?)", (following, body, head))
            following += 1
            nbytes += len(body)
        first, before = state.first, state.before
        if nbytes > keep_bytes:
            wanted = keep_bytes * 9 // 10
            oldest = self._db.execute("SELECT seq, length(body), hash FROM journal ORDER BY seq")
            for seq, length, after in oldest:
                if nbytes <= wanted or seq == following - 1:
                    break
                first, before, nbytes = seq + 1, after, nbytes - length
            oldest.close()
            self._db.execute("DELETE FROM journal WHERE seq < ?", (first,))
        return JournalState(first, following, before, head, nbytes)

    @property
    def _is_to_write_back(self) -> bool:
        return self._log_bytes > self._most_log_bytes or self._cuts_log

    def write_back(self, *, keeps_length: bool = False) -> None:
        """Bring the log's pages into the file, and empty the log; what was removed is gone then.

        Parameters
        ----------
        keeps_length
            Whether the log may stay as long as it is, to be written over. It is cut all the same
            where it may have what was removed, or is longer than its part of the cap.

        Raises
        ------
        StoreError
            When the medium fails; nothing is lost then.
        """
        if self._lock is None:
            return
        with _sqlite_errors(self._name):
            pages = self._pages_in_log()
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").close()
            # SQLite has synchronised the file, but a card may keep that until the next one.
            with contextlib.suppress(FileNotFoundError):
                _synchronise(f"{self.path}-wal")
            most = self._most_log_bytes + _ONE_COMMIT_BYTES
            cuts = not keeps_length or self._cuts_log or self._log_length() > most
            how = "TRUNCATE" if cuts else "RESTART"
            busy, frames, done = self._db.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            if busy:
                raise StoreError(
                    f"{self._name}: expected the log to be written back: {frames}, {done}"
                )
            if cuts:
                self._cuts_log = False
            else:
                self._blank_log()
        self.bytes_written += pages * _PAGE_BYTES
        self._log_bytes = 0

    def _blank_log(self) -> None:
        """Blank the log's head: SQLite writes another one before the next frame."""
        try:
            descriptor = os.open(f"{self.path}-wal", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.pwrite(descriptor, bytes(_LOG_HEAD_BYTES), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _pages_in_log(self) -> int:
        """Count the pages that the log has; each goes back once, however often it is there."""
        try:
            with open(f"{self.path}-wal", "rb") as file:
                log = file.read(self._log_bytes)
        except OSError:
            return 0
        frames = range(_LOG_HEAD_BYTES, len(log), _FRAME_HEAD_BYTES + _PAGE_BYTES)
        return len({log[at : at + 4] for at in frames})

    def _log_end(self) -> int:
        """Return where the frames end that have the salts of the log's head; 0: it has no head."""
        try:
            with open(f"{self.path}-wal", "rb", buffering=0) as file:
                head = file.read(_LOG_HEAD_BYTES)
                if len(head) < _LOG_HEAD_BYTES or not any(head):
                    return 0
                salts = head[16:24]
                end = max(self._log_bytes, _LOG_HEAD_BYTES)
                if salts != self._log_salts:
                    self._log_salts, end = salts, _LOG_HEAD_BYTES
                while os.pread(file.fileno(), 8, end + 8) == salts:
                    end += _FRAME_HEAD_BYTES + _PAGE_BYTES
                return end
        except OSError:
            return 0

    def _log_length(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Write the log back, if that can be done, and let go; calling it again does nothing."""
        try:
            with contextlib.suppress(StoreError):
                self.write_back()
            self._db.close()
        finally:
            if self._lock is not None:
                self._lock.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _apply_to_held(held: dict[str, dict[str, bytes]], rows: Iterable[Row]) -> None:
    for row in rows:
        area = held.setdefault(row.area, {})
        if row.value is None:
            area.pop(row.name, None)
        else:
            area[row.name] = row.value


def _most_log_bytes(max_bytes: int) -> int:
    """Return how large a log may grow: each time it is written back, a page counts once."""
    return max(_LOG_BYTES, min(max_bytes, _MOST_LOG_SHARED) // _LOG_SHARE)


def _connect(path: str, max_bytes: int) -> sqlite3.Connection:
    pages = (max_bytes - _most_log_bytes(max_bytes) - _ONE_COMMIT_BYTES) // _PAGE_BYTES
    place = os.path.abspath(path)
    for mark in "%?#":  # what means something in a URI; `urllib` takes milliseconds to import
        place = place.replace(mark, f"%{ord(mark):02x}")
    connection = sqlite3.connect(
        f"file:{place}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=0
    )
    if sys.version_info >= (3, 11):  # a hostile row does not fill the memory
        most = min(max(max_bytes, _LEAST_ROW_LIMIT), _MOST_ROW_LIMIT)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)
    try:
        for setting in (
            "locking_mode = EXCLUSIVE",
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "mmap_size = 0",
            "synchronous = FULL",
            "secure_delete = ON",
            "temp_store = MEMORY",
            "cache_size = -256",
            "wal_autocheckpoint = 0",
            f"max_page_count = {pages}",
        ):
            connection.execute(f"PRAGMA {setting}").close()
    except BaseException:
        connection.close()
        raise
    return connection


def _said_of_key(body: bytes, seal: Seal) -> str:
    """Return what a root that does not verify says of its key: a hint, for what it is worth."""
    told = b'"keyed":true' in body[:100]
    if told == seal.keyed:
        return ""
    return " (it has one, and none was given)" if told else " (it has none)"


def _write_root(connection: sqlite3.Connection, seal: Seal, root: _Root) -> None:
    body = root.encode(seal.keyed)
    connection.execute(
        "INSERT INTO root VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body, "
        "tag = excluded.tag",
        (body, seal.root(body)),
    )


def _make(path: str, seal: Seal) -> None:
    """Make an empty store under another name, and give it its own once it is whole."""
    unfinished = f"{path}.unfinished"
    with _sqlite_errors(path):
        for suffix in ("", "-wal", "-journal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{unfinished}{suffix}")
        # A log of another store, left where a file was removed by hand, must not become ours.
        for suffix in ("-wal", "-journal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}{suffix}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # whatever is masked
        finally:
            os.close(descriptor)
        connection = sqlite3.connect(unfinished, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").close()
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("BEGIN")
            for statement in _SCHEMA:
                connection.execute(statement)
            _write_root(connection, seal, _EMPTY)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        finally:
            connection.close()
        _synchronise(unfinished)
        os.replace(unfinished, path)
        _synchronise(os.path.dirname(path) or os.curdir)


def _synchronise(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _look_at_header(path: str) -> None:
    """Refuse what is not ours before SQLite opens it (nothing is written, no lock taken)."""
    for name in (path, f"{path}-wal"):  # a pipe would be waited for
        if os.path.exists(name) and not os.path.isfile(name):
            raise StoreError(f"{name}: expected a file")
    try:
        with open(path, "rb") as file:
            head = file.read(100)
    except OSError as error:
        raise StoreError(f"{path}: expected a store to read: {error}") from None
    if len(head) < 100 or head[:16] != b"SQLite format 3\0":
        raise StoreError(f"{path}: expected a store, got a file that does not begin like one")
    if int.from_bytes(head[68:72], "big") != _APPLICATION_ID:
        raise StoreError(f"{path}: expected a store of selfheal-edge, got another SQLite file")
    version = int.from_bytes(head[60:64], "big")
    if version > SCHEMA_VERSION:
        raise StoreVersionError(
            f"{path}: expected schema version {SCHEMA_VERSION} or older, got {version}, which a "
            "newer release of selfheal-edge wrote"
        )
    if version < 1:
        raise StoreError(f"{path}: expected a schema version of at least 1, got {version}")


@contextlib.contextmanager
def _errors_of_copying(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: expected a store to read: {error}") from None


@contextlib.contextmanager
def _sqlite_errors(path: str) -> Iterator[None]:
    """Turn what SQLite and the file system raise into ours, with the file's name."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{path}: expected readable text in a row: {error}") from None
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {error}") from error


def is_of_the_medium(error: Exception) -> bool:
    """Whether room, rights or another program kept a store from being opened: it may be sound."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.OperationalError):
        return any(word in str(cause) for word in _NOT_OF_THE_FILE)
    return isinstance(cause, OSError)


def sqlite_facts() -> dict[str, Any]:
    """Return the version of SQLite here, and whether the fault of its log's reset is in it."""
    version = sqlite3.sqlite_version
    parts = tuple(int(part) for part in version.split("."))
    return {"version": version, "wal_reset_fault": parts < (3, 51, 3), "connections": 1}
