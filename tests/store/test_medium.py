"""A model whose store's medium is full, read-only or gone: serving goes on, and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.store.serving import KEY, Open
from tests.support import IMPORT_PATH, ROOT, Array, answers, infer_one, internals, same

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.errors import StoreError
from selfheal_edge.model import parts_of
from selfheal_edge.store.changes import Changes
from selfheal_edge.store.database import Database
from selfheal_edge.store.journal import Event
from selfheal_edge.store.store import Store

DIGITS = load_digits()
X: Array = DIGITS.heldout_inputs[:20, np.newaxis]


@pytest.fixture(scope="module")
def baseline(digits_baseline: she.Baseline) -> she.Baseline:
    return digits_baseline


@pytest.fixture
def opened(open_model: Open, baseline: she.Baseline, hurried: None) -> Open:
    del hurried
    return lambda path, **how: open_model(digits_model_path(), baseline, store=path, **how)


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def journal_of(path: Path) -> list[Event]:
    with Database.read_copy(path, KEY) as database:
        database.verify()
        return [Event.from_record(r.seq, r.hash, r.body) for r in database.records()]


def kept_by(path: Path) -> set[int]:
    with Database.read_copy(path, KEY) as database:
        return set(map(int, database.items("generation")))


def store_of(model: she.SelfHealingModel) -> Any:
    found = model.health.store
    assert found is not None
    return found


def test_a_folder_that_comes_later(opened: Open, tmp_path: Path) -> None:
    """A medium that is not there at the start: all is in memory until it is."""
    folder = tmp_path / "card"
    told: list[Event] = []
    model = opened(folder / "store", on_event=told.append)
    model.predict(DIGITS.heldout_inputs)
    she.redteam.inject(model).flip_bits(3)
    model.weights.scrub()
    assert store_of(model).status == "failing"
    assert "No such file" in store_of(model).problem
    assert store_of(model).waiting == len(told)
    folder.mkdir()
    wait_until(lambda: store_of(model).waiting == 0)
    assert store_of(model).status == "ok"
    model.close()
    assert journal_of(folder / "store") == told


def test_a_store_that_can_only_be_read(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generation and the counters are there; what happens waits until it can be written."""
    path = tmp_path / "store"
    model = opened(path)
    model.predict(DIGITS.heldout_inputs)
    image = internals(model).images["source"]
    region = max((r for r in image.regions.values() if r.kind == "weights"), key=lambda r: r.offset)
    image.guard.write(region.offset, bytes(64))
    generation = parts_of(model).loop.repairs.adopt()
    expected = answers(model, X)
    model.close()
    before = journal_of(path)
    data = path.read_bytes()

    def refused(*_: object, **__: object) -> Database:
        cause = OSError(errno.EROFS, "Read-only file system")
        raise StoreError(f"{path}: {cause}") from cause

    told: list[Event] = []
    with monkeypatch.context() as patch:
        patch.setattr(Database, "create_or_open", refused)
        again = opened(path, on_event=told.append)
        assert again.weights.active == generation
        assert same(answers(again, X), expected)
        assert again.health.predictions >= len(DIGITS.heldout_inputs)
        assert store_of(again).status == "read-only"
        assert again.snapshot() == generation + 1
        again.rollback("golden")
        assert path.read_bytes() == data
        assert [p.name for p in tmp_path.iterdir() if "refused" in p.name] == []
    wait_until(lambda: store_of(again).waiting == 0 and kept_by(path) >= {generation + 1})
    again.close()
    assert journal_of(path) == before + told
    last = opened(path)
    assert last.weights.active == 0
    assert last.weights.generations == (0, generation, generation + 1)


FULL = """
import resource, sys, time
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from tests.store.serving import hurry

path, baseline = sys.argv[1], she.Baseline.load(sys.argv[2])
hurry()
inputs = load_digits().heldout_inputs
told = []
model = she.SelfHealingModel(digits_model_path(), baseline, store=path, key=b"a key of the test",
                             on_event=told.append)
expected = model.predict(inputs)
while model.health.store.waiting:
    time.sleep(0.01)


def wait_until(fact):
    end = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < end, model.health.store
        she.redteam.inject(model).flip_bits(1)
        model.weights.scrub()
        assert (model.predict(inputs) == expected).all()
        assert model.health.state == "healthy"
        time.sleep(0.01)


take_room, give_room = {how}
take_room()
wait_until(lambda: model.health.store.status != "ok" and model.health.store.waiting > 50)
print(model.health.store.status, model.health.store.problem)
give_room()
wait_until(lambda: model.health.store.status == "ok")
model.close()
assert model.health.store.lost == 0
from selfheal_edge.store.changes import Changes
from selfheal_edge.store.database import Database
from selfheal_edge.store.journal import Event
from selfheal_edge.store.store import Store
with Database.read_copy(path, b"a key of the test") as database:
    database.verify()
    kept = [Event.from_record(r.seq, r.hash, r.body) for r in database.records()]
assert kept == told, (len(kept), len(told))
"""

LIMIT = """(
    lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY)),
    lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2),
)"""
FILLED = """(
    lambda: fill(sys.argv[3]),
    lambda: os.unlink(sys.argv[3]),
)
"""
FILL = """
import os
def fill(name):
    with open(name, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
"""


def run(code: str, *arguments: str, hindered: Sequence[str] = ()) -> str:
    done = subprocess.run(
        [*hindered, sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([IMPORT_PATH, str(ROOT)])},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_files_that_may_grow_no_more(tmp_path: Path, baseline: she.Baseline) -> None:
    baseline.save(tmp_path / "baseline")
    code = FULL.replace("{how}", LIMIT)
    assert run(code, str(tmp_path / "store"), str(tmp_path / "baseline")).split()[0] != "ok"


OUT_OF_REACH = """
import os, sys
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from tests.store.serving import KEY
path, baseline = sys.argv[1:]
if os.access(path, os.W_OK):
    print("all is open here")
    sys.exit()
model = she.SelfHealingModel(
    digits_model_path(), she.Baseline.load(baseline), store=path, key=KEY
)
store, (first, *_) = model.health.store, model.events
print(store.status, model.weights.generations, first.outcome, sep="|")
model.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "kept"), [(0o400, "(0, 1)"), (0o000, "(0,)")])
def test_a_file_of_another_user(opened: Open, tmp_path: Path, mode: int, kept: str) -> None:
    """Moved by root and left root's: no damage; it stays where it is, and is read if it can be."""
    path = tmp_path / "store"
    model = opened(path)
    model.snapshot()
    model.close()
    before = path.read_bytes()
    model.baseline.save(tmp_path / "baseline")
    path.chmod(mode)
    # Root may write what is read-only, unless that is taken from it.
    own = shutil.which("setpriv") if os.getuid() == 0 else ""
    if own is None:
        pytest.skip("root cannot be hindered here")
    hindered = [own, "--bounding-set=-dac_override,-dac_read_search"] if own else []
    told = run(OUT_OF_REACH, str(path), str(tmp_path / "baseline"), hindered=hindered)
    if told == "all is open here\n":
        pytest.skip(told)
    status, generations, first = told.strip().split("|")
    assert (status, generations) == ("read-only", kept)
    assert first.startswith("generation 0" if mode else "not used")
    assert {p.name for p in tmp_path.iterdir()} == {"store", "store.lock", "baseline"}
    path.chmod(0o600)
    assert path.read_bytes() == before


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Mount a file system; skip where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if mount is None or not succeeds(mount, *arguments, str(folder)):
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        succeeds("umount", "-l", str(folder))


def succeeds(*command: str) -> bool:
    return not subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.slow
def test_a_full_file_system(tmp_path: Path, baseline: she.Baseline) -> None:
    with mounted(tmp_path / "card", "-t", "tmpfs", "-o", "size=2m", "none") as card:
        baseline.save(tmp_path / "baseline")
        code = FILL + FULL.replace("{how}", FILLED)
        paths = [str(card / "store"), str(tmp_path / "baseline"), str(card / "filler")]
        assert run(code, *paths).split()[0] == "full"


def test_a_card_that_is_mounted_read_only(opened: Open, tmp_path: Path) -> None:
    """The generation is there, and what happens is written once the card is writable again."""
    with mounted(tmp_path / "card", "-t", "tmpfs", "none") as card:
        path = card / "store"
        model = opened(path)
        model.rollback(model.snapshot())
        generation, expected = model.weights.active, answers(model, X)
        model.close()
        before = journal_of(path)
        assert succeeds("mount", "-o", "remount,ro", str(card))
        told: list[Event] = []
        model = opened(path, on_event=told.append)
        assert model.weights.active == generation
        assert same(answers(model, X), expected)
        assert store_of(model).status == "read-only"
        she.redteam.inject(model).flip_bits(3)
        model.weights.scrub()
        assert succeeds("mount", "-o", "remount,rw", str(card))
        wait_until(lambda: store_of(model).waiting == 0)
        assert store_of(model).status == "ok"
        model.close()
        assert journal_of(path) == before + told


def test_a_card_that_turns_read_only(opened: Open, tmp_path: Path) -> None:
    """The kernel finds its file system damaged: from then on nothing is written, all is served."""
    image = tmp_path / "image"
    image.write_bytes(bytes(4 << 20))
    if not succeeds("mkfs.ext4", "-q", str(image)):
        pytest.skip("no file system may be made here")
    how = ("-o", "loop,errors=remount-ro", str(image))
    with mounted(tmp_path / "card", *how) as card:
        path = card / "store"
        model = opened(path)
        expected = answers(model, X)
        wait_until(lambda: store_of(model).commits > 0 and store_of(model).waiting == 0)
        device = os.stat(card).st_dev
        name = os.path.basename(
            os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        )
        try:
            Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("a test")
        except OSError:
            pytest.skip("this kernel makes no error on demand")
        she.redteam.inject(model).flip_bits(3)
        model.weights.scrub()
        wait_until(lambda: store_of(model).status == "read-only")
        assert same(answers(model, X), expected)
        assert model.health.state == "healthy"
        told = store_of(model).seq
        assert store_of(model).waiting > 0
        model.close()
    with mounted(card, *how):
        kept = journal_of(path)
        assert 0 < len(kept) < told
        model = opened(path)
        assert same(answers(model, X), expected)
        (begun,) = (event for event in model.events if event.kind == "opened")
        assert "ended without close" in begun.evidence[0]
        model.close()


def test_a_medium_that_is_slower_than_the_start(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are reserved while the model closes already: its end is a clean one all the same."""
    opened(tmp_path / "store").close()
    commit = Store.commit

    def commit_late(store: Store, changes: Changes | None = None) -> None:
        wait_until(lambda: store.is_closing)
        commit(store, changes)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", commit_late)
        model = opened(tmp_path / "store")
        given = infer_one(model, X[0]).id
        model.close()
    again = opened(tmp_path / "store")
    (begun,) = (event for event in again.events if event.kind == "opened")
    assert begun.evidence == ()
    assert infer_one(again, X[0]).id != given
