"""The store of a device: what waits, what is due, a medium that fails, and keys."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.store import power
from tests.store.serving import KEY
from tests.store.test_power import recorder  # noqa: F401 — a fixture
from tests.support import IMPORT_PATH

from selfheal_edge.errors import IntegrityError, StoreError, StoreVersionError
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.database import SCHEMA_VERSION, Database
from selfheal_edge.store.generations import StoredGenerations
from selfheal_edge.store.inbox import Inbox
from selfheal_edge.store.keys import device_key, read_key
from selfheal_edge.store.store import Store
from selfheal_edge.store.taken_in import TakenIn


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_put_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", KEY)
    store.put("state", "monitor", b"1")
    store.put("state", "gone", b"2")
    store.put("state", "gone", None)
    store.append(b"event")
    assert store.items("state") == {"monitor": b"1"}
    assert store.records() == [b"event"]
    store.close()
    store.close()
    again = Store(tmp_path / "store", KEY)
    assert again.get("state", "monitor") == b"1"
    assert again.records() == [b"event"]
    assert again.journal_head()[0] == 1
    again.close()


def test_the_thread_writes_what_waits(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", KEY)
    store.start()
    for n in range(10):
        store.append(b"event %d" % n)
    deadline = time.monotonic() + 30
    while store.state.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.journal_head()[0] == 10
    store.close()
    assert "selfheal-store" not in {thread.name for thread in threading.enumerate()}


def test_states_are_collected_at_close(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", KEY)
    store.each_minute(lambda: store.put("state", "monitor", b"the last"))
    store.start()
    store.close()
    again = Store(tmp_path / "store", KEY)
    assert again.get("state", "monitor") == b"the last"
    again.close()


def test_a_commit_takes_what_waits_along_and_is_newer(tmp_path: Path) -> None:
    with_store = Store(tmp_path / "store", KEY)
    with_store.put("trial", "1", b"old")
    with_store.append(b"before")
    with_store.commit(Changes([Row("trial", "1", b"new")], [b"after"]))
    with Database.read_copy(tmp_path / "store", KEY) as database:
        assert database.get("trial", "1") == b"new"
        assert [r.body for r in database.records()] == [b"before", b"after"]
    with_store.close()


def test_a_start_reads_without_waiting_for_a_commit(tmp_path: Path) -> None:
    """Until a start is over, rows are read beside a commit; what is committed is read after it."""
    with contextlib.closing(Store(tmp_path / "store", KEY)) as store:
        store.commit(Changes([Row("model", "serves", b"old"), Row("model", "gone", b"1")]))
    is_slow, may_end = threading.Event(), threading.Event()

    def counter(at_least: int | None) -> int:
        """A counter that takes its time within a commit."""
        if threading.current_thread() is committing:
            is_slow.set()
            assert may_end.wait(120)
        return at_least or 0

    committing = threading.Thread()
    store = Store(tmp_path / "store", KEY, counter=counter)
    changes = Changes([Row("model", "serves", b"new"), Row("model", "gone", None)])
    committing = threading.Thread(target=store.commit, args=(changes,))
    read: list[object] = []

    def look() -> None:
        read.append(store.get("model", "serves"))
        read.append(store.get("model", "nowhere"))
        read.append(store.items("nothing"))

    looking = threading.Thread(target=look)
    committing.start()
    assert is_slow.wait(120)
    looking.start()
    looking.join(20)
    held_up = looking.is_alive()
    may_end.set()
    committing.join()
    looking.join()
    assert not held_up
    assert read == [b"old", None, {}]
    for _ in range(2):
        assert store.get("model", "serves") == b"new"
        assert store.items("model") == {"serves": b"new"}
        store.start_is_over()
    store.close()


def test_the_daily_cap(tmp_path: Path) -> None:
    """A day of states that are always new: the cap holds, and nothing is lost but age."""
    clock = FakeClock()
    cap = 2_000_000
    store = Store(tmp_path / "store", KEY, bytes_per_day=cap, clock=clock)
    for minute in range(24 * 60):
        clock.now = minute * 60.0
        store.put("state", "monitor", os.urandom(2000))
        store.append(b"event %d" % minute)
        store._write_what_is_due()
    assert store.state.bytes_written <= cap
    assert store.state.bytes_written > cap / 2
    store.close()
    again = Store(tmp_path / "store", KEY)
    assert again.journal_head()[0] == 24 * 60
    again.close()


def test_restarts_share_the_daily_cap(tmp_path: Path) -> None:
    """A device that starts again and again begins with what was left, not with an hour's worth."""
    cap = 2_000_000
    written = 0
    for _ in range(200):
        store = Store(tmp_path / "store", KEY, bytes_per_day=cap)
        store.put("state", "monitor", os.urandom(20_000))
        store._write_what_is_due()
        written += store.state.bytes_written
        with store._mutex, store._queue:
            store._rows.clear()
        store.close()
    assert written < cap / 4


def test_bytes_of_the_latest_day_outlive_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, boot = FakeClock(), 1.7e9
    monkeypatch.setattr(time, "time", lambda: boot + clock.now)
    written: list[tuple[float, int]] = []
    for begins in (0.0, 5.0, 20.5, 29.2, 40.0, 90.0):  # hours
        clock.now = begins * 3600.0
        store = Store(tmp_path / "store", KEY, clock=clock)
        for _ in range(3):
            clock.now += 1800.0
            before = store.state.bytes_written
            store.put("state", "monitor", os.urandom(20_000))
            store.commit()
            written.append((clock.now, store.state.bytes_written - before))
        expected = sum(n for when, n in written if clock.now - when < 86_400.0)
        # By hours, and the end of each process writes the log back after the last that is kept.
        assert 0.95 * expected <= store.state.bytes_today <= 1.4 * expected
        store.close()


def test_memory_is_bounded_while_nothing_can_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", KEY)
    for n in range(6000):
        store.append(b"event %d" % n)
    assert store.state.waiting == 4096
    assert store.state.lost == 6000 - 4096
    store.close()


# -------------------------------------------------------------------- failing media


FAILING = """
import ctypes, os, sys
from selfheal_edge.store import database
database._LOG_BYTES, database._LOG_SHARE = 8 << 10, 1 << 12  # a log that is soon written over
from selfheal_edge.store.store import Store
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.errors import StoreError


def live(at, number, path):
    ctypes.CDLL(None).selfheal_fail(at, number, 10)
    store = Store(path, b"a key of the test")
    done = failed = 0
    for n in range(12):
        store.put("state", "monitor", b"%d" % n)
        store.append(b"event %d" % n)
        try:
            store.commit(Changes([Row("count", "n", b"%d" % n)]))
            done = n
        except StoreError as error:
            failed += 1
            assert store.get("state", "monitor") == b"%d" % n
    assert store.get("state", "monitor") == b"11"
    waiting = store.state.waiting
    store.close()
    print(at, done, failed, waiting, flush=True)


number, folder, *calls = sys.argv[1:]
for at in map(int, calls):
    if os.fork():
        assert os.wait()[1] == 0, at
        continue
    try:
        live(at, int(number), f"{folder}/{at}/store")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)
"""


ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
CALLS = range(1, 126, 6)
ALL_CALLS = range(1, 220)  # of a life without a fault there are fewer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "calls"),
    [
        # Each error at several calls here; each at every call is a campaign.
        *((number, CALLS[n :: len(ERRORS)]) for n, number in enumerate(ERRORS)),
        *(pytest.param(number, ALL_CALLS, marks=pytest.mark.long) for number in ERRORS),
    ],
)
def test_a_medium_that_fails_for_a_while(
    recorder: Path,  # noqa: F811
    tmp_path: Path,
    number: int,
    calls: range,
) -> None:
    """From a call on, ten calls fail: what waits is written when there is room again.

    Where the last commits fail there is none any more: then those before them are there.
    """
    folder = tmp_path / "folder"
    for at in calls:
        (folder / str(at)).mkdir(parents=True)
    given = ["-c", FAILING, str(number), str(folder), *map(str, calls)]
    done = power.run(recorder, folder, tmp_path / "record", *given)
    assert done.returncode == 0, done.stderr
    lives = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [at for at, *_ in lives] == list(calls)
    for at, last, failed, waiting in lives:
        if at < 60:  # later, the medium may fail to the end
            assert waiting == 0, at
            assert failed or at <= 30
        path = folder / str(at) / "store"
        with Database.create_or_open(path, KEY, max_bytes=1 << 20) as database:
            database.verify()
            events = [r.body for r in database.records()]
            assert events == [b"event %d" % n for n in range(len(events))]
            assert len(events) == 12 if waiting == 0 else len(events) > last, at
            assert database.get("state", "monitor") == b"%d" % (len(events) - 1)
    if calls is ALL_CALLS:
        assert failed == 0, "some calls were not reached"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere" / "store", KEY)
    store.append(b"event")
    store.put("state", "monitor", b"1")
    assert store.state.problem is not None
    assert store.get("state", "monitor") == b"1"
    (tmp_path / "nowhere").mkdir()
    store.commit()
    assert store.state.problem is None
    store.close()
    again = Store(tmp_path / "nowhere" / "store", KEY)
    assert again.records() == [b"event"]
    again.close()


# -------------------------------------------------------------------- files that do not verify


def test_a_damaged_store_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for n in range(3):
        store = Store(path, KEY)
        assert (store.problem_found is None) == (n == 0)
        store.append(b"event")
        store.close()
        path.write_bytes(path.read_bytes()[:3000] + b"\xff" * 5000)
    names = {p.name for p in tmp_path.iterdir()} - {"store-wal", "store.lock"}
    assert names == {"store", "store.refused", "store.refused-last"}


def test_another_key_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = Store(path, KEY)
    store.append(b"what happened")
    store.close()
    other = Store(path, b"another key of it")
    assert "another key" in str(other.problem_found)
    assert other.records() == []
    other.close()
    os.replace(tmp_path / "store.refused", path)
    back = Store(path, KEY)
    assert back.records() == [b"what happened"]
    back.close()


def test_a_second_writer_and_a_newer_store_are_told(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = Store(path, KEY)
    with pytest.raises(StoreError, match="this process has it open"):
        Store(path, KEY)
    store.close()
    data = bytearray(path.read_bytes())
    data[60:64] = (SCHEMA_VERSION + 1).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(StoreVersionError):
        Store(path, KEY)
    assert path.read_bytes() == data


class Outside:
    """A counter that never goes back."""

    def __init__(self) -> None:
        self.value = 7

    def __call__(self, at_least: int | None) -> int:
        self.value = max(self.value, at_least or 0)
        return self.value


def test_the_replay_of_a_whole_store_needs_a_counter(tmp_path: Path) -> None:
    path = tmp_path / "store"
    counter = Outside()
    store = Store(path, KEY, counter=counter)
    store.commit(Changes([Row("budget", "repairs", b"9")]))
    store.close()
    older = path.read_bytes()
    store = Store(path, KEY, counter=counter)
    assert store.problem_found is None
    store.commit(Changes([Row("budget", "repairs", b"0")]))
    store.close()
    path.write_bytes(older)
    without = Store(path, KEY)
    assert without.get("budget", "repairs") == b"9"
    without.close()
    path.write_bytes(older)
    replayed = Store(path, KEY, counter=counter)
    assert "the whole store is an older one" in str(replayed.problem_found)
    assert replayed.get("budget", "repairs") is None
    replayed.close()
    again = Store(path, KEY, counter=counter)
    assert again.problem_found is None
    again.close()


# -------------------------------------------------------------------- generations


def test_generations_share_their_blocks(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", KEY)
    generations = StoredGenerations(store)
    golden = os.urandom(100_000)
    changed = bytearray(golden)
    changed[50_000] ^= 1
    generations.save(0, golden, {"state": "golden"})
    generations.save(3, bytes(changed), {"state": "trial"})
    assert len(store.block_names()) == 25 + 1
    assert generations.load(0) == golden
    assert generations.load(3) == changed
    generations.mark(3, {"state": "confirmed"})
    store.close()
    store = Store(tmp_path / "store", KEY)
    generations = StoredGenerations(store)
    assert [(row.number, row.fields["state"]) for row in generations.all()] == [
        (0, "golden"),
        (3, "confirmed"),
    ]
    generations.drop(3)
    assert len(store.block_names()) == 25
    with pytest.raises(ValueError, match="golden cannot be dropped"):
        generations.drop(0)
    with pytest.raises(ValueError, match="expected one that the store holds, got 3"):
        generations.load(3)
    store.close()


def test_a_generation_with_a_lost_block_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", KEY)
    generations = StoredGenerations(store)
    generations.save(1, os.urandom(10_000), {})
    store.commit(Changes(dropped_blocks=[min(store.block_names())]))
    with pytest.raises(IntegrityError, match="is missing"):
        generations.load(1)
    store.close()


# -------------------------------------------------------------------- requests and keys


def test_requests_are_taken_in_once_and_only_signed(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "store", KEY)
    inbox.leave("label", {"id": 5, "label": 3})
    inbox.leave("revoke", {"source": "operator"})
    Inbox(tmp_path / "store", b"another key of it").leave("label", {"id": 5, "label": 4})
    folder = tmp_path / "store.inbox"
    (folder / "other").write_text("not ours")
    (folder / f"{1:020d}-{'0' * 16}.request").symlink_to("/etc/passwd")
    taken, refused = inbox.take()
    assert [(r.kind, dict(r.fields)) for r in taken] == [
        ("label", {"id": 5, "label": 3}),
        ("revoke", {"source": "operator"}),
    ]
    assert len(refused) == 2
    assert inbox.take() == ([], [])
    assert [p.name for p in folder.iterdir()] == ["other"]


def _copies(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_copy_of_a_request_is_refused(tmp_path: Path) -> None:
    """For as long as the row is kept, which stays small; what is older than all in it as well."""
    inbox = Inbox(tmp_path / "store", KEY)
    rows: list[bytes] = []
    inbox.leave("revoke", {"source": "operator"})
    kept = _copies(tmp_path / "store.inbox")
    first = dict(kept)
    for _ in range(4):
        taken, _ = inbox.take(rows.append)
        assert len(taken) == len(kept)
        for path, data in kept.items():
            path.write_bytes(data)
        taken, refused = Inbox(tmp_path / "store", KEY, TakenIn(rows[-1])).take()
        assert not taken
        assert "it was taken in before" in refused[0]
        assert len(refused) == min(9, len(kept))
        for _ in range(100):
            inbox.leave("label", {})
        kept = _copies(tmp_path / "store.inbox")
    inbox.take(rows.append)
    assert len(rows[-1]) <= 3084
    for path, data in first.items():
        path.write_bytes(data)
    taken, refused = Inbox(tmp_path / "store", KEY, TakenIn(rows[-1])).take()
    assert not taken
    assert "older than 256" in refused[0]
    inbox.leave("label", {})
    assert len(inbox.take()[0]) == 1


@pytest.mark.parametrize("row", [b"", b"x" * 13, bytes(12 * 258)])
def test_a_row_of_requests_of_no_use(row: bytes) -> None:
    with pytest.raises(IntegrityError, match="inbox: expected a readable row"):
        TakenIn(row)


def test_too_many_and_too_large_requests(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "store", KEY)
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        inbox.leave("label", {"x": "y" * 70_000})
    for _ in range(256):
        inbox.leave("label", {})
    with pytest.raises(ValueError, match="at most 256 that wait"):
        inbox.leave("label", {})


def test_where_keys_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_bytes(KEY)
    monkeypatch.setenv("SELFHEAL_TEST_KEY", KEY.hex())
    for given in (KEY, str(tmp_path / "key"), tmp_path / "key", "env:SELFHEAL_TEST_KEY"):
        assert read_key(given) == KEY
    assert read_key(lambda: KEY) == KEY
    assert read_key(None) is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (b"short", ValueError, "key: expected 16 to 4096 bytes, got 5"),
        (5, TypeError, "key: expected bytes, a path, 'env:NAME', a callable or None, got int"),
        ("env:SELFHEAL_NO_SUCH", ValueError, "'SELFHEAL_NO_SUCH' to be set"),
        ("env:SELFHEAL_BAD", ValueError, "hexadecimal"),
        (lambda: "text", TypeError, "what key returned: expected bytes, got str"),
        ("/nowhere/at/all", FileNotFoundError, "nowhere"),
    ],
)
def test_keys_of_no_use(
    given: object, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFHEAL_BAD", "no digits")
    with pytest.raises(error, match=message):
        read_key(given)  # type: ignore[arg-type]


def test_device_keys() -> None:
    """RFC 5869's construction, by its definition."""
    import hashlib
    import hmac

    prk = hmac.new(bytes(32), KEY, hashlib.sha256).digest()
    info = b"selfheal-edge device key\0camera-1\x01"
    assert device_key(KEY, "camera-1") == hmac.new(prk, info, hashlib.sha256).digest()
    assert device_key(KEY, "camera-1") != device_key(KEY, "camera-2")
    with pytest.raises(ValueError, match="device_id"):
        device_key(KEY, "")


def test_a_child_of_fork_writes_nothing(tmp_path: Path) -> None:
    """The lock is the parent's: a child that opens the store is refused, whatever it inherited."""
    program = (
        "import os, sys\n"
        "from selfheal_edge.store.database import Database\n"
        "from selfheal_edge.errors import StoreError\n"
        "d = Database.create_or_open(sys.argv[1], None, max_bytes=1 << 20)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        Database.create_or_open(sys.argv[1], None, max_bytes=1 << 20)\n"
        "    except StoreError as error:\n"
        "        os._exit(0 if str(os.getppid()) in str(error) else 1)\n"
        "    os._exit(2)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "d.close()\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")],
        check=True,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
    )


def test_another_program_has_the_file(tmp_path: Path) -> None:
    """An operator's shell at the start: the file is not put aside, and written to afterwards."""
    path = tmp_path / "store"
    with contextlib.closing(Store(path, KEY)) as store:
        store.commit(Changes([Row("a", "x", b"1")]))
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with contextlib.closing(Store(path, KEY)) as store:
        assert store.problem_found is None
        assert "is locked" in str(store.state.problem)
        assert store.get("a", "x") == b"1"
        with pytest.raises(StoreError, match="is locked"):
            store.commit(Changes([Row("a", "x", b"2")]))
        shell.execute("ROLLBACK")
        shell.close()
        store.commit(Changes([Row("a", "x", b"2")]))
    assert not list(tmp_path.glob("*refused*"))
    with contextlib.closing(Store(path, KEY)) as store:
        assert store.get("a", "x") == b"2"
