"""`journal` and `snapshot`, on stores that a serving model has made."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import warm
from tests.support import IMPORT_PATH, RUNTIMES, Raw, in_memory

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.cli import main
from selfheal_edge.cli.store_file import DirectStore
from selfheal_edge.hashing import sha256
from selfheal_edge.store.changes import Changes
from selfheal_edge.store.database import SCHEMA_VERSION, Database
from selfheal_edge.store.generations import StoredGenerations
from selfheal_edge.store.inbox import Inbox
from selfheal_edge.store.store import Store

KEY = b"a key of the test"
DIGITS = load_digits()
GOLDEN = digits_model_path().read_bytes()
HOSTILE = "\x1b[31m\u202e<b>" + "x" * 5000

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


@pytest.fixture(scope="module")
def changed() -> bytes:
    """The model with other weights: the largest buffer's signs are turned."""
    from selfheal_edge.tflite.file.model_file import ModelFile

    data = bytearray(GOLDEN)
    region = max(
        (r for r in ModelFile.from_bytes(GOLDEN).regions if r.kind == "weights"),
        key=lambda r: r.nbytes,
    )
    live = np.frombuffer(data, np.int8)[region.offset : region.offset + region.nbytes]
    live[:] = -np.maximum(live, -127)
    return bytes(data)


@pytest.fixture(scope="module")
def made(baseline: she.Baseline, changed: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a model that has served, healed, and saved generations."""
    folder = tmp_path_factory.mktemp("made")
    with she.SelfHealingModel(
        digits_model_path(), baseline, store=folder / "store", key=KEY
    ) as model:
        model.predict(DIGITS.heldout_inputs)
        she.redteam.inject(model).flip_bits(5)
        model.weights.scrub()
        model.predict(DIGITS.heldout_inputs)
    store = Store(folder / "store", KEY)
    kept = StoredGenerations(store)
    held = {"state": "held", "wall": 1.8e9}
    kept.save(0, GOLDEN, held)
    kept.save(1, changed, {**held, "pinned": True})
    kept.save(2, changed, {**held, HOSTILE[:200]: HOSTILE, "wall": 1e300})
    kept.save(3, changed, held)
    kept.save(4, changed, {**held, "state": "trial"})
    store.append(json.dumps({"kind": "repair", "outcome": HOSTILE, "wall": -1e300}).encode())
    store.append(json.dumps({"kind": "of a later release", "text": HOSTILE}).encode())
    store.close()
    (folder / "key").write_bytes(KEY)
    return folder


@pytest.fixture
def store(made: Path) -> Iterator[Path]:
    """A copy of the store, to be changed."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        path = Path(folder) / "store"
        shutil.copyfile(made / "store", path)
        yield path


@pytest.fixture
def run(made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "80")

    def run_command(*arguments: object, key: object = made / "key") -> tuple[int, str, str]:
        options = [] if key is None else ["--key", str(key)]
        capsys.readouterr()
        code = main([*map(str, arguments), *options])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run_command


def sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def end_of(path: Path) -> tuple[int, str]:
    with Database.read_copy(path, KEY) as database:
        return database.journal.next - 1, database.journal.head.hex()


# -------------------------------------------------------------------- what is shown


SCREENS = [
    ("journal", "show"),
    ("journal", "show", "--last", "0"),
    ("journal", "verify"),
    ("snapshot", "list"),
    ("snapshot", "show", "2"),
    ("snapshot", "verify"),
]


@pytest.mark.parametrize("arguments", SCREENS, ids=" ".join)
def test_a_screen_fits_80_columns_and_holds_nothing_hostile(
    store: Path, run: Run, arguments: tuple[str, ...]
) -> None:
    act, what, *rest = arguments
    code, out, err = run(act, what, store, *rest)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines
    assert all(len(line) <= 80 for line in lines), max(lines, key=len)
    assert all(line.isprintable() for line in lines)
    assert len(out) < 12_000


@pytest.mark.parametrize("arguments", SCREENS, ids=" ".join)
def test_json_in_place_of_text_and_beside_it(
    store: Path, run: Run, arguments: tuple[str, ...]
) -> None:
    act, what, *rest = arguments
    code, out, _ = run(act, what, store, *rest, "--json")
    content = json.loads(out)
    assert code == 0
    assert out.isascii()
    beside = store.with_name("out.json")
    code, text, _ = run(act, what, store, *rest, "--json", beside)
    assert code == 0
    assert text
    assert json.loads(beside.read_text()) == content


def test_show_says_what_happened(store: Path, run: Run) -> None:
    _, out, _ = run("journal", "show", store)
    assert "a new store" in out
    assert "weight_corruption" in out
    assert "of a later release" in out
    _, out, _ = run("journal", "show", store, "--kind", "repair", "--json")
    kinds = [record["kind"] for record in json.loads(out)["records"]]
    assert set(kinds) == {"repair"}
    _, out, _ = run("journal", "show", store, "--since", "2", "--last", "1", "--json")
    content = json.loads(out)
    assert [r["seq"] for r in content["records"]] == [content["journal"]["next"] - 1]


def test_export_is_one_object_a_line(store: Path, run: Run) -> None:
    code, out, _ = run("journal", "export", store, "--jsonl")
    assert code == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert (records[-1]["seq"], records[-1]["hash"]) == end_of(store)
    target = store.with_name("journal.jsonl")
    code, told, _ = run("journal", "export", store, "--jsonl", "--output", target)
    assert code == 0
    assert f"{len(records)} records" in told
    assert target.read_text() == out


def test_list_says_what_serves(store: Path, run: Run, changed: bytes) -> None:
    _, out, _ = run("snapshot", "list", store)
    rows = out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3", "4"]
    assert "golden, serves" in rows[0]
    assert "pinned" in rows[1]
    assert "trial" in rows[4]
    _, out, _ = run("snapshot", "show", store, 1, "--json")
    facts = json.loads(out)
    assert facts["sha256"] == sha256(changed).hex()
    assert 0 < facts["own_blocks"] < facts["blocks"]


def blocks_of(path: Path, number: int) -> tuple[bytes, ...]:
    with Database.read_copy(path, KEY) as database:
        found = DirectStore(database).generations.find(number)
    assert found is not None
    return found.blocks


# -------------------------------------------------------------------- what does not verify


def test_verify_tells_number_and_head(store: Path, run: Run) -> None:
    seq, head = end_of(store)
    code, out, _ = run("journal", "verify", store)
    assert code == 0
    assert f"{seq}:{head}" in out.replace("\n", "").replace(" ", "")
    _, out, _ = run("journal", "verify", store, "--json")
    content = json.loads(out)
    assert (content["verified"], content["seq"], content["head"]) == (True, seq, head)
    version = sqlite3.sqlite_version
    is_faulty = tuple(map(int, version.split("."))) < (3, 51, 3)
    told = {"version": version, "wal_reset_fault": is_faulty, "connections": 1}
    assert content["sqlite"] == told
    assert version in run("journal", "verify", store)[1]


DAMAGE = {
    "the end cut": "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
    "the beginning cut": "DELETE FROM journal WHERE seq = 0",
    "a record cut out": "DELETE FROM journal WHERE seq = 2",
    "an edit": "UPDATE journal SET body = replace(body, 'new', 'old') WHERE seq = 0",
    "an edit of a hash": "UPDATE journal SET hash = zeroblob(32) WHERE seq = 1",
    "two exchanged": "UPDATE journal SET body = (SELECT body FROM journal WHERE seq = 3) "
    "WHERE seq = 1",
    "one added": "INSERT INTO journal SELECT 1 + max(seq), body, hash FROM journal",
    "all gone": "DELETE FROM journal",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON item BEGIN DELETE FROM journal; END",
    "a view": "CREATE VIEW v AS SELECT * FROM item",
    "a block": "UPDATE block SET data = zeroblob(4096)",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_verify_finds(store: Path, run: Run, what: str) -> None:
    sql(store, DAMAGE[what])
    code, out, err = run("journal", "verify", store)
    assert (code, out) == (1, "")
    assert err.startswith(f"selfheal-edge: {store}: ")
    assert "Traceback" not in err


@pytest.mark.slow
def test_verify_finds_a_truncated_file(store: Path, run: Run) -> None:
    whole = store.read_bytes()
    for length in [0, 1, 99, 100, 1023, *range(1024, len(whole), 7 * 1024), len(whole) - 1]:
        store.write_bytes(whole[:length])
        code, _, err = run("journal", "verify", store)
        assert code == 1, length
        assert str(store) in err


def test_an_older_file_is_noticed_by_what_was_told(store: Path, run: Run) -> None:
    older = store.read_bytes()
    first = end_of(store)
    with Database.create_or_open(store, KEY, max_bytes=1 << 24) as database:
        database.commit(Changes(journal=[b'{"kind": "alarm"}']), keep_journal_bytes=1 << 20)
    later = end_of(store)
    for seq, head in (first, later, (later[0] + 1, later[1])):  # the last one as in health.store
        code, out, _ = run("journal", "verify", store, "--expect", f"{seq}:{head}")
        assert code == 0
        assert "is the one that was told" in out
    store.write_bytes(older)
    assert run("journal", "verify", store)[0] == 0  # nothing in the file can tell
    code, _, err = run("journal", "verify", store, "--expect", f"{later[0]}:{later[1]}")
    assert code == 1
    assert "the whole file is an older one" in err
    code, _, err = run("journal", "verify", store, "--expect", f"{first[0]}:{later[1]}")
    assert code == 1
    assert "another history" in err


def test_what_was_told_may_be_dropped_since(store: Path, run: Run) -> None:
    told = end_of(store)
    with Database.create_or_open(store, KEY, max_bytes=1 << 24) as database:
        for _ in range(3):
            database.commit(Changes(journal=[b'{"kind": "alarm"}'] * 90), keep_journal_bytes=2000)
    code, out, _ = run("journal", "verify", store, "--expect", f"{told[0]}:{told[1]}")
    assert code == 0
    assert "no longer kept" in out


def test_a_damaged_generation_is_found(store: Path, run: Run) -> None:
    name = blocks_of(store, 3)[1]
    connection = sqlite3.connect(store)
    with connection:
        connection.execute("UPDATE block SET data = zeroblob(4096) WHERE name = ?", (name,))
    connection.close()
    code, out, _ = run("snapshot", "verify", store)
    assert code == 1
    assert "damaged" in out
    code, out, _ = run("snapshot", "verify", store, 3, "--json")
    assert code == 1
    assert "was damaged" in json.loads(out)["generations"][0]["problem"]
    target = store.with_name("out.tflite")
    assert run("snapshot", "export", store, 3, target)[0] == 1
    assert not target.exists()
    assert run("snapshot", "restore", store, 3)[0] == 1


# -------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "key", "code", "words"),
    [
        ("none", "nowhere", 2, "No such file"),
        ("none", "env:SELFHEAL_NO_SUCH", 2, "'SELFHEAL_NO_SUCH' to be set"),
        ("none", "short", 2, "expected 16 to 4096 bytes, got 5"),
        ("none", "other", 1, "another key or with none"),
        ("none", None, 1, "it has one, and none was given"),
        ("missing", "right", 2, "expected a store, got no such file"),
        ("folder", "right", 2, "expected a store, got no such file"),
        ("letter", "right", 1, "does not begin like one"),
        ("foreign", "right", 1, "another SQLite file"),
        ("newer", "right", 2, "a newer release"),
    ],
)
def test_refuses(
    store: Path, run: Run, change: str, key: str | None, code: int, words: str
) -> None:
    named = {"right": KEY, "short": b"short", "other": b"another key of it"}
    for name, content in named.items():
        store.with_name(name).write_bytes(content)
    if change in ("missing", "folder", "foreign"):
        store.unlink()
    if change == "folder":
        store.mkdir()
    if change == "letter":
        store.write_text("no store at all")
    if change == "foreign":
        sql(store, "CREATE TABLE t (x)")
    if change == "newer":
        sql(store, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    given = str(store.with_name(key)) if key in (*named, "nowhere") else key
    for arguments in (("journal", "verify"), ("snapshot", "list"), ("journal", "show")):
        found, out, err = run(*arguments, store, key=given)
        assert (found, out) == (code, "")
        assert words in err
        assert "/tmp/selfheal-" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("journal", "verify", "STORE", "--expect", "12"), "expected SEQ:HASH"),
        (("journal", "verify", "STORE", "--expect", "x:00"), "expected SEQ:HASH"),
        (("snapshot", "show", "STORE", "9"), "expected one of [0, 1, 2, 3, 4], got 9"),
        (("snapshot", "restore", "STORE", "4"), "not on trial"),
        (("snapshot", "restore", "STORE", "9"), "expected one of"),
        (("snapshot", "prune", "STORE", "--drop", "0"), "golden"),
        (("snapshot", "prune", "STORE", "--drop", "1"), "pinned"),
    ],
)
def test_refuses_arguments(store: Path, run: Run, arguments: tuple[str, ...], words: str) -> None:
    before = store.read_bytes()
    code, out, err = run(*(store if a == "STORE" else a for a in arguments))
    assert (code, out) == (2, "")
    assert words in err
    assert store.read_bytes() == before


# -------------------------------------------------------------------- export and changes


@pytest.mark.parametrize("number", [0, 1])
def test_any_runtime_opens_what_is_exported(
    store: Path, run: Run, changed: bytes, number: int
) -> None:
    target = store.with_name("out.tflite")
    code, out, _ = run("snapshot", "export", store, number, target)
    expected = (GOLDEN, changed)[number]
    assert code == 0
    assert target.read_bytes() == expected
    assert sha256(expected).hex() in out
    original = Raw(digits_model_path(), RUNTIMES[0], "default")
    for runtime in RUNTIMES:
        raw = Raw(target, runtime, "default")
        x = DIGITS.heldout_inputs[:1].reshape(raw.inputs[0]["shape"])
        same = np.array_equal(raw.run([x])[0], original.run([x])[0])
        assert same == (number == 0)
    assert run("snapshot", "export", store, number, target)[0] == 2
    assert run("snapshot", "export", store, number, target, "--force")[0] == 0


def active(path: Path) -> int:
    with Database.read_copy(path, KEY) as database:
        return int(database.get("model", "active") or b"0")


def test_where_none_serves_it_is_done(store: Path, run: Run) -> None:
    code, out, _ = run("snapshot", "restore", store, 3)
    assert code == 0
    assert "from the next start on" in out
    assert active(store) == 3
    code, _, err = run("snapshot", "prune", store, "--drop", 3)
    assert code == 2
    assert "what serves" in err
    code, out, _ = run("snapshot", "prune", store, "--keep", 0, "--json")
    assert json.loads(out) == {"done": True, "generations": [2], "request": None}
    _, out, _ = run("snapshot", "list", store, "--json")
    assert [g["generation"] for g in json.loads(out)["generations"]] == [0, 1, 3, 4]
    assert run("journal", "verify", store)[0] == 0
    assert run("snapshot", "verify", store)[0] == 0
    assert run("snapshot", "restore", store, "golden")[0] == 0
    assert active(store) == 0
    _, out, _ = run("journal", "show", store, "--kind", "request", "--json")
    told = [record["outcome"] for record in json.loads(out)["records"]]
    assert len(told) == 3
    assert all(words.endswith("by a command") for words in told)
    assert run("snapshot", "prune", store, "--keep", 5)[1] == "nothing to drop\n"
    assert not store.with_name("store.inbox").exists()


SERVE = """
import sys
import numpy as np
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.model import parts_of
baseline = she.Baseline.load(sys.argv[2])
inputs = load_digits().heldout_inputs[:20]
key = bytes.fromhex(sys.argv[3])
with she.SelfHealingModel(digits_model_path(), baseline, store=sys.argv[1], key=key) as model:
    golden = model.predict(inputs).tobytes()
    image = parts_of(model).weights.images["source"]
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset)
    image.guard.write(region.offset, bytes(64))
    assert parts_of(model).loop.repairs.adopt() == 1
    changed = model.predict(inputs).tobytes()
    assert changed != golden
    print(model.snapshot(), model.snapshot(), flush=True)
    sys.stdin.readline()
    print(model.predict(inputs).tobytes() == golden, model.weights.generations, flush=True)
    assert model.health.store.status == "ok", model.health.store
"""


class Serving:
    """A process that serves, and what it answers."""

    def __init__(self, store: Path, baseline: she.Baseline) -> None:
        baseline.save(store.with_name("baseline"))
        self.process = warm.start(SERVE, store, store.with_name("baseline"), KEY.hex())

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def ask(self) -> str:
        self.process.stdin.write("\n")
        return self.line()


def served(run: Run, store: Path, count: int) -> list[str]:
    """Wait until the journal tells of so many requests."""
    deadline = time.monotonic() + 300
    while True:
        _, out, _ = run("journal", "show", store, "--kind", "request", "--json")
        found = [record["outcome"] for record in json.loads(out)["records"]]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_where_a_process_serves_a_request_is_left_and_done(
    store: Path, run: Run, baseline: she.Baseline
) -> None:
    store.unlink()
    serving = Serving(store, baseline)
    with serving.process:
        assert serving.line() == "2 3"
        for act, what in (("snapshot", "list"), ("journal", "verify"), ("snapshot", "verify")):
            assert run(act, what, store)[0] == 0
        code, out, err = run("snapshot", "restore", store, 0)
        assert (code, err) == (0, "")
        assert f"the process {serving.process.pid} has it open" in " ".join(out.split())
        _, out, _ = run("snapshot", "prune", store, "--keep", 1, "--json")
        left: dict[str, Any] = json.loads(out)
        assert (left["done"], left["generations"]) == (False, [2])
        assert left["request"].endswith(".request")
        assert served(run, store, 2) == [
            "restore: generation 0 serves",
            "prune: dropped: 2",
        ]
        assert serving.ask() == "True (0, 1, 3)"
        assert serving.process.wait() == 0, serving.process.errors()
    assert run("journal", "verify", store)[0] == 0
    _, out, _ = run("snapshot", "list", store, "--json")
    assert [g["generation"] for g in json.loads(out)["generations"]] == [0, 1, 3]


def test_a_request_is_signed(store: Path, run: Run) -> None:
    with Database.create_or_open(store, KEY, max_bytes=1 << 24):
        assert run("snapshot", "restore", store, 1)[0] == 0
        assert run("snapshot", "prune", store, "--keep", 0)[0] == 0
        assert run("snapshot", "prune", store, "--keep", 0, key=None)[0] == 1
    taken, refused = Inbox(store, KEY).take()
    assert [(r.kind, dict(r.fields)) for r in taken] == [
        ("restore", {"generation": 1}),
        ("prune", {"generations": [2, 3]}),
    ]
    assert refused == []


def test_help_loads_no_database() -> None:
    code = "import sys, selfheal_edge.cli; sys.exit('sqlite3' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": IMPORT_PATH}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
