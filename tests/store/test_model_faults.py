"""A serving model and its store: media that fail, files that rot, and a clock that jumps.

Whatever happens, the model serves: the generation that was confirmed last, or golden, bit for bit.
`health.store` says what is wrong, and the journal what was lost.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.store import power
from tests.store.kill_loop import adopt
from tests.store.serving import KEY
from tests.store.test_power import recorder  # noqa: F401 — a fixture
from tests.support import IMPORT_PATH, ROOT

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.store.database import Database
from selfheal_edge.store.journal import Event, EventKind
from selfheal_edge.store.store import Store

DIGITS = load_digits()
INPUTS = DIGITS.heldout_inputs[:40]
PAGE = 1024


@dataclass(frozen=True)
class Made:
    """The store of a model that has served and adopted other weights, and what it answers."""

    data: bytes
    baseline: she.Baseline
    golden: bytes
    changed: bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits_baseline: she.Baseline) -> Made:
    folder, baseline = tmp_path_factory.mktemp("made"), digits_baseline
    with opened(folder / "store", baseline) as model:
        golden = answers(model)
        adopt(model, 2)
        changed = answers(model)
    assert golden != changed
    return Made((folder / "store").read_bytes(), baseline, golden, changed)


def opened(path: Path, baseline: she.Baseline) -> she.SelfHealingModel:
    return she.SelfHealingModel(digits_model_path(), baseline, store=path, key=KEY)


def answers(model: she.SelfHealingModel) -> bytes:
    y = model.predict(INPUTS)
    assert isinstance(y, np.ndarray)
    return y.tobytes()


def serves(made: Made, path: Path) -> str:
    """Open the model with what is there; say what serves, having checked what is said of it."""
    with opened(path, made.baseline) as model:
        found = answers(model)
        state = model.health.store
        told = [str(event.outcome) for event in model.events if event.kind is EventKind.STORE]
        active = model.weights.active
        assert state is not None
        assert model.health.state == "healthy"
    if found == made.changed:
        assert active == 1
        assert state.refused is None
        return "changed"
    assert found == made.golden
    assert active == 0
    assert told, "golden serves, and the journal does not say why"
    if state.refused is not None:
        assert any("put aside, and begun anew" in text for text in told)
        assert path.with_name("store.refused").exists()
    return "golden"


def cleared(folder: Path) -> Path:
    for path in folder.iterdir():
        path.unlink()
    return folder / "store"


# -------------------------------------------------------------------- files that are not whole


def sample(count: int, most: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(most), min(count, most)))


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, pytest.param(1 << 20, marks=pytest.mark.long)])
def test_rot_in_any_page(made: Made, tmp_path: Path, count: int) -> None:
    rng = random.Random(4)
    seen = []
    for page in {0, 1, *sample(count, len(made.data) // PAGE, seed=1)}:
        data = bytearray(made.data)
        data[page * PAGE + rng.randrange(PAGE)] ^= 1 << rng.randrange(8)
        path = cleared(tmp_path)
        path.write_bytes(data)
        seen.append(serves(made, path))
    print(f"{len(seen)} pages: {seen.count('golden')} times golden serves")
    assert "golden" in seen


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, pytest.param(400, marks=pytest.mark.long)])
def test_truncation_anywhere(made: Made, tmp_path: Path, count: int) -> None:
    whole = len(made.data)
    by_page = [PAGE * n for n in sample(count, whole // PAGE, seed=2)]
    for length in [0, 99, whole - PAGE, *by_page, *sample(count, whole - PAGE, seed=3)]:
        path = cleared(tmp_path)
        path.write_bytes(made.data[:length])
        assert serves(made, path) == "golden", length


HOSTILE = {
    "a trigger": [
        "CREATE TRIGGER t AFTER INSERT ON journal BEGIN DELETE FROM item; DELETE FROM journal; END"
    ],
    "a trigger on the root": [
        "CREATE TRIGGER t BEFORE UPDATE ON root BEGIN SELECT RAISE(ABORT, 'no'); END"
    ],
    "a view for a table": [
        "ALTER TABLE item RENAME TO hidden",
        "CREATE VIEW item AS SELECT id, area, name, value, tag FROM hidden",
    ],
    "a view that never ends": [
        "CREATE VIEW v AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
        "SELECT x FROM c"
    ],
    "a huge row": ["INSERT INTO item VALUES (9999, 'state', 'huge', zeroblob(40000000), x'00')"],
    "a huge name": [
        "INSERT INTO item VALUES (9999, hex(zeroblob(10000000)), 'n', x'00', zeroblob(32))"
    ],
    "a huge root": ["UPDATE root SET body = zeroblob(40000000)"],
    "a huge record": [
        "INSERT INTO journal SELECT 1 + max(seq), zeroblob(40000000), hash FROM journal"
    ],
    "many rows": [
        "WITH RECURSIVE c(x) AS (SELECT 10000 UNION ALL SELECT x + 1 FROM c WHERE x < 60000) "
        "INSERT INTO item SELECT x, 'state', x, x'00', zeroblob(32) FROM c"
    ],
    "texts for bytes": ["UPDATE item SET value = CAST(value AS TEXT), tag = 'text'"],
    "another SQLite file": [
        "DROP TABLE root",
        "DROP TABLE item",
        "DROP TABLE block",
        "DROP TABLE journal",
        "CREATE TABLE photographs (id INTEGER PRIMARY KEY, image BLOB)",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file(made: Made, tmp_path: Path, what: str) -> None:
    path = tmp_path / "store"
    path.write_bytes(made.data)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in HOSTILE[what]:
        connection.execute(statement)
    connection.close()
    assert serves(made, path) == "golden"
    with Database.read_copy(path, KEY) as database:
        database.verify()


@pytest.mark.parametrize(
    "content",
    [b"", b"a letter" * 1000, bytes(50_000), digits_model_path().read_bytes()],
    ids=["empty", "letter", "zeros", "model"],
)
def test_a_foreign_file(made: Made, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store"
    path.write_bytes(content)
    assert serves(made, path) == "golden"


def test_the_store_of_another_device(made: Made, tmp_path: Path) -> None:
    """A stolen card in another device: its key does not open it, and nothing of it is lost."""
    from selfheal_edge.store.keys import device_key

    path = tmp_path / "store"
    fleet = b"the key of a whole fleet"
    with she.SelfHealingModel(
        digits_model_path(), made.baseline, store=path, key=device_key(fleet, "one")
    ) as model:
        model.predict(INPUTS)
    before = path.read_bytes()
    with she.SelfHealingModel(
        digits_model_path(), made.baseline, store=path, key=device_key(fleet, "two")
    ) as model:
        assert answers(model) == made.golden
        state = model.health.store
        assert state is not None
        assert "another key" in str(state.refused)
    assert path.with_name("store.refused").read_bytes() == before


# -------------------------------------------------------------------- media that fail


FAILING = """
import os, resource, sys, time
import numpy as np
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.store import store as store_module
from tests.store.serving import KEY
store_module._BATCH_SECONDS = 0.02
store_module._LONGEST_PAUSE = 0.1
baseline = she.Baseline.load(sys.argv[2])
inputs = load_digits().heldout_inputs[:40]
model = she.SelfHealingModel(digits_model_path(), baseline, store=sys.argv[1], key=KEY)
expected = model.predict(inputs)

def wait(status):
    deadline = time.monotonic() + 120
    while model.health.store.status != status or (status == "ok" and model.health.store.waiting):
        assert time.monotonic() < deadline, model.health.store
        happen()
        time.sleep(0.05)

def happen():
    she.redteam.inject(model).flip_bits(2)
    model.weights.scrub()
    assert np.array_equal(model.predict(inputs), expected)

wait("ok")
how, status = sys.argv[3:5]
size = os.path.getsize(sys.argv[1] + "-wal")
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
if how == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limit[1]))
elif how == "errors":
    open(sys.argv[5], "w").close()
else:
    with open(how, "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(512))
        except OSError:
            pass
wait(status)
state = model.health.store
assert state.problem and state.waiting, state
for _ in range(5):
    happen()
assert model.health.state == "healthy"
if how == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
elif how == "errors":
    os.unlink(sys.argv[5])
else:
    os.unlink(how)
wait("ok")
assert model.health.store.lost == 0
model.close()
print(*[f"{e.seq}:{e.hash}" for e in model.events][-20:])
"""


def run_failing(
    made: Made, folder: Path, *arguments: str, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Serve while the medium fails and is well again; then all that happened is in the journal."""
    made.baseline.save(folder.with_name("baseline"))
    path = folder / "store"
    program = ["-c", FAILING, str(path), str(folder.with_name("baseline")), *arguments]
    done = run(program)
    assert done.returncode == 0, done.stderr
    with Database.read_copy(path, KEY) as database:
        database.verify()
        hashes = {record.seq: record.hash.hex() for record in database.records()}
        events = [Event.from_record(r.seq, r.hash, r.body) for r in database.records()]
    told = [line.split(":") for line in done.stdout.split()]
    assert len(told) > 10
    assert all(hashes[int(seq)] == head for seq, head in told)
    assert [event.seq for event in events] == list(range(len(events)))
    assert events[-1].kind is EventKind.CLOSED
    assert not any(event.kind is EventKind.LOST for event in events)


def run_plain(program: list[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), IMPORT_PATH])
    return subprocess.run(
        [sys.executable, *program],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.slow
def test_a_file_that_may_not_grow(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    run_failing(made, folder, "limit", "full", run=run_plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EIO, "failing"), (errno.EROFS, "read-only"), (errno.ENOSPC, "full")],
    ids=["EIO", "EROFS", "ENOSPC"],
)
def test_a_medium_that_fails(
    made: Made,
    tmp_path: Path,
    recorder: Path,  # noqa: F811
    number: int,
    status: str,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    switch = str(tmp_path / "fails")

    def run(program: list[str]) -> subprocess.CompletedProcess[str]:
        how = {"SELFHEAL_FAIL_WITH": str(number), "SELFHEAL_FAIL_WHILE": switch}
        return power.run(recorder, folder, tmp_path / "record", *program, **how)

    run_failing(made, folder, "errors", status, switch, run=run)


@pytest.mark.slow
def test_a_small_file_system_that_is_full(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("no right to mount")
    try:
        run_failing(made, folder, str(folder / "ballast"), "full", run=run_plain)
    finally:
        subprocess.run(["umount", folder], check=False)


# -------------------------------------------------------------------- clocks


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A wall clock that says what the list's last number is."""
    now = [0.0]
    monkeypatch.setattr(time, "time", lambda: now[-1])
    monkeypatch.setattr(time, "time_ns", lambda: int(now[-1] * 1e9))
    return now


def test_a_clock_that_begins_at_1970_and_jumps(
    made: Made, tmp_path: Path, jumping: list[float]
) -> None:
    path = tmp_path / "store"
    path.write_bytes(made.data)
    kept = -1
    predictions = 0
    for wall in (0.0, 4e9, 1.7e9, 12.0, -5.0):
        jumping.append(wall)
        with opened(path, made.baseline) as model:
            assert answers(model) == made.changed
            assert model.health.predictions > predictions
            predictions = model.health.predictions
            she.redteam.inject(model).flip_bits(2)
            jumping.append(wall - 3600)
            model.weights.scrub()
            assert answers(model) == made.changed
            assert model.health.store is not None
            assert model.health.store.seq > kept
            kept = model.health.store.seq
            assert model.snapshot() in model.weights.generations
    with Database.read_copy(path, KEY) as database:
        database.verify()
        events = [Event.from_record(r.seq, r.hash, r.body) for r in database.records()]
    assert [event.seq for event in events] == list(range(len(events)))
    assert [event.prediction for event in events] == sorted(event.prediction for event in events)
    assert {4e9, 12.0, -5.0} <= {event.wall for event in events}


def test_a_monotonic_clock_that_begins_anew(tmp_path: Path) -> None:
    """Seconds since the boot are less after it; what may be written a day is counted anew."""
    for begun in (1e6, 0.0, 5.0):
        now = [begun]
        store = Store(tmp_path / "store", KEY, bytes_per_day=1_000_000, clock=lambda: now[0])  # noqa: B023
        for step in (0.0, 86_400.0, 1.0):
            now[0] += step
            store.put("state", "monitor", os.urandom(1000))
            store.append(b"event")
            store._write_what_is_due()
            assert store.state.waiting == 0
        store.close()
    with Database.read_copy(tmp_path / "store", KEY) as database:
        assert database.journal.next == 9
