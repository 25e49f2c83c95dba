"""A model with a store: what is there again after a restart, and what never takes it down."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.store.serving import KEY, Open
from tests.support import IMPORT_PATH, infer_one

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.errors import StoreError, StoreVersionError
from selfheal_edge.model import parts_of
from selfheal_edge.monitoring.monitor import PerformanceMonitor
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.database import SCHEMA_VERSION, Database
from selfheal_edge.store.journal import Event, EventKind

DIGITS = load_digits()
INPUTS = DIGITS.heldout_inputs


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


@pytest.fixture
def opened(open_model: Open, baseline: she.Baseline) -> Open:
    return partial(open_model, digits_model_path(), baseline)


def monitor_state(model: she.SelfHealingModel) -> bytes:
    return parts_of(model).monitor.core.state()  # type: ignore[attr-defined, no-any-return]


def journal_of(path: Path) -> list[Event]:
    with Database.read_copy(path, KEY) as database:
        database.verify()
        return [Event.from_record(r.seq, r.hash, r.body) for r in database.records()]


# -------------------------------------------------------------------- each minute


def test_what_changes_each_minute_lies_together(opened: Open) -> None:
    """A commit writes the root, one page of small rows, and what has changed of the charts."""
    model = opened()
    keeper = model._keeper
    assert keeper is not None
    keeper.store.put("test", "before the first minute", b"")
    keeper.store.commit()
    written = []
    for x in INPUTS[:5]:
        model.predict(x[None])
        keeper.store.do_each_minute()
        keeper.store.commit()
        written.append(keeper.store.state.bytes_written)
    pages = np.diff(written) / (1024 + 24)
    assert pages.tolist() == [3.0] * 4


# -------------------------------------------------------------------- restart


def test_after_close_all_is_there_again(opened: Open) -> None:
    model = opened()
    model.predict(INPUTS)
    she.redteam.inject(model).flip_bits(9)
    model.weights.scrub()
    model.predict(INPUTS[:77])
    model.close()
    before, state = model.health, monitor_state(model)
    again = opened()
    assert monitor_state(again) == state
    after = again.health
    for name in (
        "predictions",
        "alarms",
        "corrupt_blocks",
        "repairs",
        "nonfinite",
        "guard_repairs",
    ):
        assert getattr(after, name) == getattr(before, name), name
    assert after.predictions == len(INPUTS) + 77
    assert after.repairs >= 1
    again.predict(INPUTS[:50])
    assert again.health.predictions == before.predictions + 50


def test_events_carry_their_place_in_one_journal(opened: Open, tmp_path: Path) -> None:
    told: list[Event] = []
    for start in range(3):
        model = opened(on_event=told.append)
        she.redteam.inject(model).flip_bits(3)
        model.weights.scrub()
        assert [e.seq for e in told] == list(range(len(told)))
        assert model.health.store is not None
        assert model.health.store.seq == len(told)
        assert model.health.store.head == told[-1].hash
        model.close()
        assert told[-1].kind is EventKind.CLOSED
        assert sum(e.kind is EventKind.OPENED for e in told) == start + 1
    kept = journal_of(tmp_path / "store")
    assert kept == told
    assert len({e.hash for e in told}) == len(told)


def test_without_a_store_all_is_in_memory(baseline: she.Baseline, tmp_path: Path) -> None:
    with she.SelfHealingModel(digits_model_path(), baseline) as model:
        model.predict(INPUTS)
        assert model.health.store is None
        assert model.snapshot() == 1
        assert [e.hash for e in model.events] == [""]
    assert list(tmp_path.iterdir()) == []


def test_ids_are_never_given_twice(opened: Open) -> None:
    ids: set[int] = set()
    for _ in range(4):
        model = opened()
        given = [infer_one(model, INPUTS[:1]).id for _ in range(3)]
        assert ids.isdisjoint(given)
        assert max(given) < 2**63
        ids.update(given)
        model.close()
    assert len(ids) == 12
    assert sorted(ids) == [i for i in sorted(ids) if i >= min(ids)]


def test_a_start_that_goes_on_solves_no_thresholds(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the state: solving them takes several times as long as all the rest."""
    opened().close()
    solved: list[she.Baseline] = []
    solve = PerformanceMonitor._solved

    def counted(baseline: she.Baseline, latch: bool) -> _core.InferenceMonitor:
        solved.append(baseline)
        return solve(baseline, latch)

    monkeypatch.setattr(PerformanceMonitor, "_solved", staticmethod(counted))
    assert opened().health.state == "healthy"
    assert solved == []


def test_a_trouble_that_goes_on_is_known_after_a_restart(opened: Open) -> None:
    """Charts that told of a shift are silent as long as it lasts: the loop has to remember it."""
    rng = np.random.default_rng(5)
    drifted = np.clip(INPUTS.astype(int) + rng.integers(-60, 60, INPUTS.shape), -128, 127)
    drifted = drifted.astype(np.int8)
    model = opened()
    for _ in range(3):
        model.predict(drifted)
    assert model.health.trouble is not None
    model.close()
    again = opened()
    assert again.health.trouble is model.health.trouble
    assert again.health.state == "untrusted"
    again.predict(drifted)
    assert not infer_one(again, drifted[:1]).trusted
    for _ in range(3):
        again.predict(INPUTS)
    assert again.health.trouble is None
    assert again.health.state == "healthy"


# -------------------------------------------------------------------- what must not take it down


def test_a_damaged_store_is_put_aside_and_golden_serves(opened: Open, tmp_path: Path) -> None:
    model = opened()
    expected = model.predict(INPUTS)
    model.close()
    path = tmp_path / "store"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
    path.write_bytes(data)
    again = opened()
    np.testing.assert_array_equal(again.predict(INPUTS), expected)
    health = again.health
    assert health.store is not None
    assert health.store.refused
    assert health.generation == 0
    assert any(e.kind is EventKind.STORE and "put aside" in str(e.outcome) for e in again.events)
    again.close()
    assert (tmp_path / "store.refused").exists()
    assert any(e.kind is EventKind.STORE for e in journal_of(path))


@pytest.mark.parametrize("key", [b"another key of it", None])
def test_another_key_loses_nothing(opened: Open, tmp_path: Path, key: bytes | None) -> None:
    model = opened()
    model.predict(INPUTS)
    model.close()
    other = opened(key=key)
    assert other.health.predictions == 0
    assert other.health.store is not None
    assert "another key" in str(other.health.store.refused)
    other.close()
    os.replace(tmp_path / "store.refused", tmp_path / "store")
    assert opened().health.predictions == len(INPUTS)


def test_a_newer_store_is_left_alone(opened: Open, tmp_path: Path) -> None:
    opened().close()
    path = tmp_path / "store"
    data = bytearray(path.read_bytes())
    data[60:64] = (SCHEMA_VERSION + 1).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(StoreVersionError):
        opened()
    assert path.read_bytes() == data


@pytest.mark.slow
def test_one_writer(opened: Open, tmp_path: Path) -> None:
    model = opened()
    with pytest.raises(StoreError, match="this process has it open"):
        opened()
    model.predict(INPUTS[:3])
    code = (
        "import sys, selfheal_edge as she\n"
        "from selfheal_edge.assets import digits_model_path\n"
        "baseline = she.Baseline.load(sys.argv[2])\n"
        "try:\n"
        "    she.SelfHealingModel(digits_model_path(), baseline, store=sys.argv[1],\n"
        f"                         key={KEY!r})\n"
        "except she.errors.StoreError as error:\n"
        "    print(error)\n"
    )
    model.baseline.save(tmp_path / "digits.baseline")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path / "digits.baseline")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        timeout=300,
    )
    assert f"the process {os.getpid()} has it open" in done.stdout


def test_another_baseline_begins_new_charts(opened: Open, baseline: she.Baseline) -> None:
    model = opened()
    model.predict(INPUTS)
    model.close()
    other = she.calibrate(digits_model_path(), DIGITS.calibration_inputs[:400])
    assert other.digest != baseline.digest
    path = model.health.store.path  # type: ignore[union-attr]
    with she.SelfHealingModel(digits_model_path(), other, store=path, key=KEY) as again:
        assert again.health.predictions == len(INPUTS)
        assert parts_of(again).monitor.count == 0
        assert any("another baseline" in str(e.outcome) for e in again.events)


def test_no_prediction_waits_for_a_commit(opened: Open) -> None:
    """A medium that takes for ever: no call of the model asks for what a commit holds."""
    model = opened()
    keeper = model._keeper
    assert keeper is not None

    def use() -> None:
        she.redteam.inject(model).flip_bits(5)
        assert model.weights.scrub()
        model.predict(INPUTS)
        assert model.infer(INPUTS[:1])
        assert model.health.store is not None
        assert model.health.store.waiting

    with keeper.store._mutex:
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(300)
        assert not thread.is_alive()


HOSTILE = [
    b"",
    b"{}",
    b"[" * 100_000,
    b"null",
    b'{"state": "trial"}',
    b'{"state": "trial", "sha256": "00"}',
    b'{"state": "staged", "sha256": "00", "baseline": "00"}',
    b"\xff" * 40,
    b"9" * 5000,
]
ROWS = [
    ("state", "loop"),
    ("state", "monitor.origin"),
    ("state", "monitor.base"),
    ("state", "monitor"),
    ("model", "serves"),
    ("model", "active"),
    ("model", "latest"),
    ("model", "closed"),
    ("baseline", "serves"),
    ("candidate", "is"),
    ("ids", "next"),
    ("store", "budget"),
    ("inbox", "taken in"),
    ("generation", "0"),
    ("generation", "1"),
]


EACH_ALONE = [([place], value) for place in ROWS for value in (b"{}", b"[" * 100_000)]
ALL_AT_ONCE = [(ROWS, value) for value in HOSTILE]


@pytest.mark.slow
@pytest.mark.parametrize("cases", [EACH_ALONE, ALL_AT_ONCE], ids=["one row", "all rows"])
def test_rows_that_mean_nothing_never_take_the_model_down(
    opened: Open, tmp_path: Path, cases: list[tuple[list[tuple[str, str]], bytes]]
) -> None:
    """Without a key anyone may seal a row: it is told, and what the file says serves."""
    model = opened(key=None)
    expected = model.predict(INPUTS)
    model.snapshot()
    model.close()
    for places, value in cases:
        with Database.create_or_open(tmp_path / "store", None, max_bytes=1 << 22) as database:
            rows = [Row(*place, value) for place in places]
            database.commit(Changes(rows), keep_journal_bytes=1 << 20)
        again = opened(key=None)
        np.testing.assert_array_equal(again.predict(INPUTS), expected)
        assert infer_one(again, INPUTS[:1]).id < 2**63
        again.close()


def test_a_model_that_is_forgotten_lets_go_of_its_store(
    opened: Open, baseline: she.Baseline, tmp_path: Path
) -> None:
    import gc

    path = tmp_path / "store"
    model = she.SelfHealingModel(digits_model_path(), baseline, store=path, key=KEY)
    model.predict(INPUTS)
    del model
    gc.collect()
    deadline = time.monotonic() + 60
    while True:
        try:
            again = opened()
            break
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert any(e.kind is EventKind.OPENED for e in again.events)


@pytest.mark.parametrize("source", ["bytes", "file", "environment", "callable"])
def test_the_key_comes_from_anywhere(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "key").write_bytes(KEY)
    monkeypatch.setenv("SELFHEAL_TEST_KEY", KEY.hex())
    sources: dict[str, Any] = {
        "bytes": KEY,
        "file": tmp_path / "key",
        "environment": "env:SELFHEAL_TEST_KEY",
        "callable": lambda: KEY,
    }
    model = opened(key=sources[source])
    model.predict(INPUTS)
    model.close()
    again = opened()
    assert again.health.predictions == len(INPUTS)
    again.close()
    with pytest.raises(ValueError, match="key"):
        opened(key=b"short")


@pytest.mark.slow
def test_a_childs_end_leaves_the_parents_store_alone(
    baseline: she.Baseline, tmp_path: Path
) -> None:
    """At a child's end its copies of connection and lock go: the parent's log must stay."""
    code = (
        "import gc, os, sys\n"
        "import selfheal_edge as she\n"
        "from selfheal_edge.assets import digits_model_path, load_digits\n"
        "inputs = load_digits().heldout_inputs\n"
        "told = []\n"
        "model = she.SelfHealingModel(digits_model_path(), she.Baseline.load(sys.argv[2]),\n"
        "                             store=sys.argv[1], key=b'a key of the test',\n"
        "                             on_event=told.append)\n"
        "for n in range(4):\n"
        "    model.snapshot()\n"
        "    if os.fork() == 0:\n"
        "        if n % 2:\n"
        "            model.close()\n"
        "        del model\n"
        "        gc.collect()\n"
        "        sys.exit(0)\n"
        "    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0\n"
        "    assert os.path.getsize(sys.argv[1] + '-wal') > 0\n"
        "    model.predict(inputs)\n"
        "model.close()\n"
        "print(len(told))\n"
    )
    baseline.save(tmp_path / "baseline")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            code,
            *map(str, (tmp_path / "store", tmp_path / "baseline")),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    kept = journal_of(tmp_path / "store")
    assert len(kept) == int(done.stdout)
    assert kept[-1].kind is EventKind.CLOSED
    with she.SelfHealingModel(
        digits_model_path(), baseline, store=tmp_path / "store", key=KEY
    ) as model:
        assert model.weights.generations == (0, 1, 2, 3, 4)
        assert model.health.predictions == 4 * len(INPUTS)


@pytest.mark.slow
def test_a_start_loads_what_it_needs(tmp_path: Path, baseline: she.Baseline) -> None:
    """Beside SQLite the store brings nothing that is slow to load, or to make."""
    baseline.save(tmp_path / "baseline")
    program = (
        "import sys\n"
        "import selfheal_edge as she\n"
        "model, folder = sys.argv[1:]\n"
        "baseline = she.Baseline.load(folder + '/baseline')\n"
        "she.SelfHealingModel(model, baseline).close()\n"
        "before = set(sys.modules)\n"
        "she.SelfHealingModel(model, baseline, store=folder + '/store', key=bytes(32)).close()\n"
        "new = set(sys.modules) - before\n"
        "print(*(name for name in new if not name.startswith('selfheal')))\n"
        "made = [one for name in new for one in vars(sys.modules[name]).values()\n"
        "        if getattr(one, '__module__', '') == name]\n"
        "print(*(str(one) for one in made\n"
        "        if hasattr(one, '_fields') or hasattr(one, '__dataclass_fields__')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(digits_model_path()), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
    )
    loaded, compiled = done.stdout.splitlines()
    assert "_sqlite3" in loaded.split()
    assert not {"sqlite3", "pathlib", "urllib.parse", "tempfile", "shutil", "inspect"} & set(
        loaded.split()
    )
    assert not compiled, "named tuples and dataclasses are compiled at each start"
