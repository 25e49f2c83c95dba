"""The store's file: what it refuses, what it survives, and that it is what was committed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.store.workload import KEY, after, differences, steps
from tests.support import IMPORT_PATH, examples, in_memory

from selfheal_edge.errors import IntegrityError, StoreError, StoreVersionError
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.database import SCHEMA_VERSION, Database

MAX = 1 << 20
JOURNAL = 3000


def opened(path: Path, key: bytes | None = KEY) -> Database:
    return Database.create_or_open(path, key, max_bytes=MAX)


def commit(database: Database, *rows: Row, journal: tuple[bytes, ...] = ()) -> None:
    database.commit(Changes(rows=list(rows), journal=list(journal)), keep_journal_bytes=JOURNAL)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store after ten commits, closed."""
    path = tmp_path / "store"
    with opened(path) as database:
        for changes in steps(10):
            database.commit(changes, keep_journal_bytes=JOURNAL)
    return path


def sql(path: Path, *statements: str) -> None:
    """Change a closed store's rows as an attacker without the key would."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# -------------------------------------------------------------------- what is there


def test_what_was_committed_is_there(filled: Path) -> None:
    with opened(filled) as database:
        assert database.commits == 10
        assert differences(database, after(10, 10)) == []


def test_files_are_private(filled: Path) -> None:
    with opened(filled):
        for path in filled.parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("masked", [0o000, 0o777])
def test_files_are_private_whatever_is_masked(tmp_path: Path, masked: int) -> None:
    before = os.umask(masked)
    try:
        with opened(tmp_path / "store") as database:
            commit(database, Row("a", "x", b"1"))
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("store", "store-wal", "store.lock"), 0o600)


def test_a_store_by_another_name(filled: Path) -> None:
    """The log is beside the file, not beside the link: counted, copied, and of one writer."""
    link = filled.parent / "folder" / "a link"
    link.parent.mkdir()
    link.symlink_to(filled)
    with opened(link) as database:
        commit(database, Row("a", "x", bytes(3000)))
        assert database.bytes_written > 3000
        with Database.read_copy(link, KEY) as copy:
            assert copy.get("a", "x") == bytes(3000)
        with pytest.raises(StoreError, match="one writer"):
            opened(filled)
    assert [path.name for path in link.parent.iterdir()] == ["a link"]


def test_a_store_by_a_hard_link(filled: Path) -> None:
    """It has one writer all the same, which is named; free again, it opens by either name."""
    link = filled.with_name("a link")
    link.hardlink_to(filled)
    with opened(filled) as database:
        commit(database, Row("a", "x", b"1"))
        with pytest.raises(StoreError, match=f"one writer, but the process {os.getpid()} has it"):
            opened(link)
        commit(database, Row("a", "x", b"2"))
    with opened(link) as database:
        assert database.get("a", "x") == b"2"


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_pipe_for_a_file(filled: Path, suffix: str) -> None:
    pipe = filled.with_name(f"store{suffix}")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)  # with something in it, so that nobody waits for it in vain
    os.write(end, bytes(200))
    with pytest.raises(StoreError, match="expected a file"):
        opened(filled)
    with pytest.raises(StoreError, match="expected a file"), Database.read_copy(filled, KEY):
        pass
    assert len(os.read(end, 300)) == 200
    os.close(end)


def test_a_row_is_replaced_and_removed(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as database:
        commit(database, Row("a", "x", b"1"), Row("a", "y", b"2"))
        commit(database, Row("a", "x", b"3"), Row("a", "y", None), Row("a", "z", None))
        assert database.items("a") == {"x": b"3"}
        assert database.get("a", "y") is None


def test_what_was_removed_is_not_in_the_file(tmp_path: Path) -> None:
    secret = b"an input that was to be forgotten" * 50
    with opened(tmp_path / "store") as database:
        commit(database, Row("pool", "sample", secret))
        database.write_back()
        assert secret[:30] in (tmp_path / "store").read_bytes()
        commit(database, Row("pool", "sample", None))
        for path in tmp_path.iterdir():
            assert secret[:30] not in path.read_bytes(), path


def test_what_was_removed_is_not_behind_the_end_of_the_log(tmp_path: Path) -> None:
    secret = b"an input that was to be forgotten" * 50
    path, log = tmp_path / "store", tmp_path / "store-wal"
    with opened(path) as database:
        commit(database, Row("a", "x", bytes(3000)))
        commit(database, Row("pool", "sample", secret))
        database.write_back(keeps_length=True)
        commit(database, Row("a", "x", b"1"))
        assert secret[:30] in log.read_bytes()  # a frame of before, which nobody reads
        commit(database, Row("pool", "sample", None))
        assert secret[:30] not in path.read_bytes() + log.read_bytes()


def test_a_removal_that_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends after the commit, before the log is cut: the next one cuts it."""
    secret = b"an input that was to be forgotten" * 50
    path = tmp_path / "store"
    with opened(path) as database, monkeypatch.context() as patched:
        commit(database, Row("pool", "sample", secret))
        patched.setattr(Database, "write_back", lambda *_, **__: None)
        commit(database, Row("pool", "sample", None))
        left = left_by_a_kill(path, tmp_path / "killed")
    assert any(secret[:30] in file.read_bytes() for file in left.parent.iterdir())
    with opened(left) as database:
        commit(database, Row("a", "x", b"1"))
        for file in left.parent.iterdir():
            assert secret[:30] not in file.read_bytes(), file


def left_by_a_kill(path: Path, folder: Path) -> Path:
    """The files of an open store as the end of its process leaves them."""
    folder.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", folder / f"store{suffix}")
    return folder / "store"


def test_the_log_keeps_its_length_and_is_written_over(tmp_path: Path) -> None:
    """After a kill at any time it holds the last commit; frames of before are none of its own."""
    path, log = tmp_path / "store", tmp_path / "store-wal"
    lengths = []
    with opened(path) as database:
        for n in range(300):
            before = database.bytes_written
            commit(database, Row("a", "x", bytes([n % 256]) * 3000))
            grown = database.bytes_written - before
            assert 3000 < grown < 20_000  # to the log, and now and then back
            lengths.append(log.stat().st_size)
            if n % 7 == 0:
                with opened(left_by_a_kill(path, tmp_path / "killed")) as left:
                    assert left.commits == n + 1
                    assert left.get("a", "x") == bytes([n % 256]) * 3000
                with Database.read_copy(path, KEY) as copy:
                    assert copy.commits == n + 1
        assert max(lengths) < (128 + 64) * 1024
        assert lengths == sorted(lengths)
        assert lengths[-1] - lengths[40] < 20_000
        database.verify()
    assert not log.exists()


def test_the_journal_is_bounded_and_its_chain_holds(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as database:
        for n in range(400):
            commit(database, journal=(f"event {n}".encode() * 3,))
        assert database.journal.next == 400
        assert database.journal.nbytes <= JOURNAL
        records = list(database.records())
        assert records[-1].body == b"event 399" * 3
        assert records[0].seq == database.journal.first > 0
        database.write_back()
        assert database.nbytes < 50_000


@pytest.mark.parametrize("area", ["", "a" * 257])
def test_a_name_of_no_use(area: str) -> None:
    with pytest.raises(ValueError, match="area: expected 1 to 256 characters"):
        Row(area, "name", b"")


def test_a_size_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_bytes: expected at least"):
        Database.create_or_open(tmp_path / "store", None, max_bytes=100)


# -------------------------------------------------------------------- the cap


def test_a_full_store_changes_nothing(tmp_path: Path) -> None:
    with Database.create_or_open(tmp_path / "store", KEY, max_bytes=300_000) as database:
        kept = 0
        message = ""
        while not message:
            try:
                commit(database, Row("pool", str(kept), bytes(5000)))
                kept += 1
            except StoreError as error:
                message = str(error)
        assert "full" in message
        assert 8 < kept < 40
        assert len(database.items("pool")) == kept
        assert database.commits == kept
        commit(database, *(Row("pool", str(n), None) for n in range(kept)))
        commit(database, Row("pool", "again", bytes(5000)))
        assert database.nbytes <= 300_000
        database.verify()


# -------------------------------------------------------------------- keys and tampering


@pytest.mark.parametrize("key", [None, b"another key of it"])
def test_another_key(filled: Path, key: bytes | None) -> None:
    before = filled.read_bytes()
    with pytest.raises(IntegrityError, match="another key"):
        opened(filled, key)
    assert filled.read_bytes() == before


TAMPERED = {
    "a value": "UPDATE item SET value = x'00' WHERE area = 'state'",
    "a name": "UPDATE item SET name = 'other' WHERE area = 'state'",
    "an area": "UPDATE item SET area = 'other' WHERE area = 'state'",
    "a row removed": "DELETE FROM item WHERE id = (SELECT max(id) FROM item)",
    "a row copied": "INSERT INTO item (area, name, value, tag) "
    "SELECT area, 'copy', value, tag FROM item LIMIT 1",
    "two values exchanged": "UPDATE item SET value = (SELECT value FROM item WHERE name = '6') "
    "WHERE name = '3'",
    "a text for bytes": "UPDATE item SET value = 'text' WHERE area = 'state'",
    "the root": "UPDATE root SET body = replace(body, '10', '11')",
    "the root's tag": "UPDATE root SET tag = zeroblob(32)",
    "no root": "DELETE FROM root",
    "the journal's end": "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
    "the journal's beginning": "DELETE FROM journal WHERE seq = (SELECT min(seq) FROM journal)",
    "the whole journal": "DELETE FROM journal",
    "a last record": "UPDATE journal SET hash = x'00' WHERE seq = (SELECT max(seq) FROM journal)",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON item BEGIN DELETE FROM journal; END",
    "a view": "CREATE VIEW v AS SELECT * FROM item",
    "another table": "CREATE TABLE other (x)",
    "no table": "DROP TABLE block",
    "a huge root": "UPDATE root SET body = zeroblob(5000000)",
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_is_noticed_when_it_is_opened(filled: Path, what: str) -> None:
    sql(filled, TAMPERED[what])
    with pytest.raises((IntegrityError, StoreError)):
        opened(filled)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET body = x'00' WHERE seq = (SELECT max(seq) - 1 FROM journal)",
        "UPDATE block SET data = zeroblob(4096)",
    ],
)
def test_tampering_with_history_is_noticed_by_verify(filled: Path, statement: str) -> None:
    sql(filled, statement)
    with opened(filled) as database, pytest.raises(IntegrityError):
        database.verify()


def test_older_rows_are_no_replay(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with opened(path) as database:
        commit(database, Row("budget", "repairs", b"9 left"))
    connection = sqlite3.connect(path)
    older = connection.execute("SELECT value, tag FROM item").fetchone()
    connection.close()
    with opened(path) as database:
        commit(database, Row("budget", "repairs", b"0 left"))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE item SET value = ?, tag = ?", older)
    connection.close()
    with pytest.raises(IntegrityError, match="replaced by older ones"):
        opened(path)


def test_damage_while_it_is_open(filled: Path) -> None:
    """What is read later is verified again: nothing that rots meanwhile is used."""
    with opened(filled) as database:
        database.write_back()
        data = bytearray(filled.read_bytes())
        value = database.get("state", "monitor")
        assert value is not None
        at = data.find(value[100:140])
        data[at] ^= 1
        database._db.execute("PRAGMA shrink_memory").close()
        with open(filled, "r+b") as file:
            file.write(data)
        with pytest.raises(IntegrityError, match="'monitor' of 'state' was damaged"):
            database.get("state", "monitor")


# -------------------------------------------------------------------- rot and foreign files


def judge_rot(path: Path, whole: bytes) -> str:
    """Open what was damaged: it is refused, or it is exactly what it was."""
    for suffix in ("-wal", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    try:
        with opened(path) as database:
            database.verify()
            assert differences(database, after(10, 10)) == []
            return "sound"
    except (IntegrityError, StoreError):
        return "refused"
    finally:
        path.write_bytes(whole)


def test_rot_in_every_page(filled: Path) -> None:
    whole = filled.read_bytes()
    seen = []
    for page in range(len(whole) // 1024):
        for within in (5, 300, 700, 1020):
            damaged = bytearray(whole)
            damaged[page * 1024 + within] ^= 0x10
            filled.write_bytes(damaged)
            seen.append(judge_rot(filled, whole))
    assert seen.count("refused") > len(seen) // 2
    assert set(seen) <= {"sound", "refused"}  # pages that hold nothing now may rot


@pytest.mark.parametrize("step", [509, pytest.param(1, marks=pytest.mark.long)])
def test_truncation(filled: Path, step: int) -> None:
    whole = filled.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(whole), step)]:
        filled.write_bytes(whole[:length])
        assert judge_rot(filled, whole) == "refused", length


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", StoreError, "does not begin like one"),
        (b"something else" * 100, StoreError, "does not begin like one"),
        (b"SQLite format 3\0" + bytes(4000), StoreError, "another SQLite file"),
    ],
)
def test_a_foreign_file(
    tmp_path: Path, content: bytes, error: type[Exception], message: str
) -> None:
    (tmp_path / "store").write_bytes(content)
    with pytest.raises(error, match=message):
        opened(tmp_path / "store")
    assert (tmp_path / "store").read_bytes() == content


def test_a_newer_schema_is_refused_and_untouched(filled: Path) -> None:
    sql(filled, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = filled.read_bytes()
    with pytest.raises(StoreVersionError, match="newer release"):
        opened(filled)
    with pytest.raises(StoreVersionError), Database.read_copy(filled, KEY):
        pass
    assert filled.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a folder to write in"):
        opened(tmp_path / "nowhere" / "store")


# -------------------------------------------------------------------- writers and readers


def test_one_writer_in_a_process(filled: Path) -> None:
    with opened(filled) as first:
        with pytest.raises(StoreError, match="this process has it open"):
            opened(filled)
        commit(first, Row("a", "x", b"1"))
    with opened(filled) as database:
        assert database.get("a", "x") == b"1"


PROGRAM = """
import sys, time
from pathlib import Path
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.database import Database
with Database.create_or_open(sys.argv[1], b"a key of the test", max_bytes=1 << 20) as database:
    print("open", flush=True)
    n = 0
    while True:
        rows = [Row("a", str(i), str(n).encode() * 300) for i in range(8)]
        database.commit(Changes(rows=rows, journal=[b"%d" % n]), keep_journal_bytes=2000)
        n += 1
        if n % 5 == 0:
            database.write_back()
        if sys.stdin.readable() and len(sys.argv) > 2:
            time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), *arguments],
            env={**os.environ, "PYTHONPATH": IMPORT_PATH},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_told_of_the_first(
    tmp_path: Path, writer: Callable[..., subprocess.Popen[str]]
) -> None:
    first = writer()
    with pytest.raises(StoreError, match=f"the process {first.pid} has it open"):
        opened(tmp_path / "store")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    with opened(tmp_path / "store") as database:
        database.verify()


def test_readers_look_in_while_it_is_written(
    tmp_path: Path, writer: Callable[..., subprocess.Popen[str]]
) -> None:
    first = writer("0.002")
    seen = set()
    for _ in range(30):
        with Database.read_copy(tmp_path / "store", KEY) as database:
            values = set(database.items("a").values())
            assert len(values) <= 1, "rows of two commits"
            seen.add(database.commits)
    assert first.poll() is None
    assert len(seen) > 5


@pytest.mark.slow
def test_killed_anywhere_it_is_whole(
    tmp_path: Path, writer: Callable[..., subprocess.Popen[str]]
) -> None:
    latest = 0
    for n in range(12):
        process = writer()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.003 * n)
        process.kill()
        process.wait()
        with opened(tmp_path / "store") as database:
            database.verify()
            assert database.commits >= latest
            latest = database.commits
            assert len(set(database.items("a").values())) <= 1
    assert latest > 12


def test_a_readers_copy_takes_no_commit(filled: Path) -> None:
    with (
        Database.read_copy(filled, KEY) as database,
        pytest.raises(StoreError, match="a reader's copy"),
    ):
        commit(database, Row("a", "x", b"1"))


# -------------------------------------------------------------------- against a dictionary


NAMES = st.sampled_from("abc")
VALUES = st.none() | st.binary(max_size=3000)


class Life(RuleBasedStateMachine):
    """Commits, removals, crashes and restarts against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory(dir=in_memory())
        self.path = Path(self._temporary.name) / "store"
        self.database = opened(self.path)
        self.rows: dict[tuple[str, str], bytes] = {}
        self.records: list[bytes] = []

    @rule(
        changes=st.lists(st.tuples(NAMES, NAMES, st.none() | st.binary(max_size=3000)), max_size=4)
    )
    def commit(self, changes: list[tuple[str, str, bytes | None]]) -> None:
        unique = {(area, name): value for area, name, value in changes}
        body = f"record {len(self.records)}".encode()
        self.database.commit(
            Changes([Row(a, n, v) for (a, n), v in unique.items()], [body]),
            keep_journal_bytes=60,  # so that a short life drops its oldest records
        )
        self.records.append(body)
        for place, value in unique.items():
            if value is None:
                self.rows.pop(place, None)
            else:
                self.rows[place] = value

    @rule(keeps_length=st.booleans())
    def write_back(self, keeps_length: bool) -> None:
        self.database.write_back(keeps_length=keeps_length)

    @rule()
    def restart(self) -> None:
        self.database.close()
        self.database = opened(self.path)

    @rule()
    def crash(self) -> None:
        """The files as a killed process leaves them, opened anew elsewhere."""
        crashed = self.path.with_name("crashed")
        for suffix in ("", "-wal"):
            source = self.path.with_name(self.path.name + suffix)
            if source.exists():
                crashed.with_name(crashed.name + suffix).write_bytes(source.read_bytes())
        self.database.close()
        for suffix in ("", "-wal"):
            source = crashed.with_name(crashed.name + suffix)
            if source.exists():
                os.replace(source, self.path.with_name(self.path.name + suffix))
        self.database = opened(self.path)

    @invariant()
    def holds_what_was_committed(self) -> None:
        for area in "abc":
            expected = {name: v for (where, name), v in self.rows.items() if where == area}
            assert self.database.items(area) == expected
        kept = [record.body for record in self.database.records()]
        assert kept == self.records[len(self.records) - len(kept) :]
        assert self.database.journal.next == len(self.records)

    def teardown(self) -> None:
        self.database.close()
        self._temporary.cleanup()


Life.TestCase.settings = examples(120)
TestLife = pytest.mark.slow(Life.TestCase)


@given(st.binary(min_size=100, max_size=300))
def test_no_header_crashes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("header") / "store"
    path.write_bytes(b"SQLite format 3\0" + data)
    with pytest.raises(StoreError):
        opened(path)


def test_a_childs_end_leaves_the_log_to_its_parent(tmp_path: Path) -> None:
    """A connection that a child of `fork` lets go of would write the log back, and remove it."""
    code = (
        "import gc, os, sys\n"
        "from selfheal_edge.store.changes import Changes, Row\n"
        "from selfheal_edge.store.database import Database\n"
        "path = sys.argv[1]\n"
        "database = Database.create_or_open(path, None, max_bytes=1 << 20)\n"
        "def commit(value):\n"
        "    database.commit(Changes([Row('area', 'name', value)]), keep_journal_bytes=1 << 16)\n"
        "commit(b'before')\n"
        "size = os.path.getsize(path + '-wal')\n"
        "if os.fork() == 0:\n"
        "    del database\n"
        "    gc.collect()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "assert os.path.getsize(path + '-wal') == size\n"
        "commit(b'after')\n"
        "with Database.read_copy(path, None) as copy:\n"
        "    copy.verify()\n"
        "    assert copy.get('area', 'name') == b'after'\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
