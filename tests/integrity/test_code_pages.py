"""Code is swept too: flips in pages of a loaded library, a private copy made for the test."""

from __future__ import annotations

import ctypes
import gc
import logging
import mmap
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support import IMPORT_PATH

import selfheal_edge as she
from selfheal_edge import _core
from selfheal_edge.assets import DigitsData, digits_model_path
from selfheal_edge.integrity import code_watch
from selfheal_edge.integrity.code_watch import CodeDamage, CodeWatch

pytestmark = pytest.mark.skipif(
    not _core.code_is_watchable(), reason="this system does not say what code is mapped"
)
KEY = bytes(range(16))
PROTECT_ALL = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC


def private_copy(folder: Path) -> Path:
    """Copy some small extension module."""
    files = Path(np.__file__).parent.rglob("*.so")
    small = min((f for f in files if f.stat().st_size > 1 << 15), key=lambda f: f.stat().st_size)
    copy = folder / f"private_{os.getpid()}_{folder.name}.so"
    shutil.copyfile(small, copy)
    return copy


def loaded_copy(folder: Path) -> Path:
    """Load a private copy of one; nothing ever runs in it."""
    copy = private_copy(folder)
    ctypes.CDLL(str(copy))
    return copy


def code_of(path: Path) -> tuple[int, int]:
    """Return the beginning of a library's executable pages, and their offset in the file."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == str(path) and "x" in fields[1]:
            return int(fields[0].partition("-")[0], 16), int(fields[2], 16)
    raise AssertionError(f"{path} has no executable pages")


def flip(address: int, mask: int) -> None:
    """Flip bits of a page that must not be written, as failing memory does."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = address & -mmap.PAGESIZE
    size = ctypes.c_size_t(mmap.PAGESIZE)
    if libc.mprotect(ctypes.c_void_p(page), size, PROTECT_ALL) != 0:
        pytest.skip("this system lets no page be writable and executable")
    ctypes.c_ubyte.from_address(address).value ^= mask
    libc.mprotect(ctypes.c_void_p(page), size, mmap.PROT_READ | mmap.PROT_EXEC)


def sweep(pages: _core.CodePages) -> list[tuple[str, int, int, str, int]]:
    """Go once round."""
    found, before = [], pages.sweeps
    while pages.sweeps == before:
        found += pages.step(1 << 20)
    return found


def test_a_flip_in_code_is_found_in_one_sweep_and_named(tmp_path: Path) -> None:
    path = loaded_copy(tmp_path)
    pages = _core.CodePages([path.name], KEY, 5)
    assert 0 < pages.nbytes <= path.stat().st_size
    assert sweep(pages) == []
    assert sweep(pages) == []
    assert pages.unproven_bytes == 0
    begin, offset = code_of(path)
    flip(begin + 40, 0x10)
    [(library, where, address, symbol, wrong)] = sweep(pages)
    assert library == str(path)
    assert (where, address, wrong) == (offset + 40, begin + 40, 1)
    assert isinstance(symbol, str)
    assert sweep(pages) == [], "it is told once"


def test_what_was_damaged_before_it_was_hashed_differs_from_the_file(tmp_path: Path) -> None:
    path = loaded_copy(tmp_path)
    begin, offset = code_of(path)
    flip(begin + 7, 0x01)
    pages = _core.CodePages([path.name], KEY, 5)
    found = sweep(pages)
    assert [(f[0], f[1], f[4]) for f in found] == [(str(path), offset + 7, 1)]


def test_a_file_that_was_replaced_proves_nothing_and_accuses_nothing(tmp_path: Path) -> None:
    path = loaded_copy(tmp_path)
    other = tmp_path / "other"
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)
    pages = _core.CodePages([path.name], KEY, 5)
    assert pages.unproven_bytes == pages.nbytes > 0
    assert sweep(pages) == []


def test_a_file_that_is_replaced_in_the_first_round_accuses_nothing(tmp_path: Path) -> None:
    """As an upgrade does while a model serves."""
    path = loaded_copy(tmp_path)
    pages = _core.CodePages([path.name], KEY, 5)
    assert pages.unproven_bytes == 0
    other = tmp_path / "other"
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)
    assert sweep(pages) == []
    assert pages.unproven_bytes == pages.nbytes > 0
    begin, _ = code_of(Path(f"{path} (deleted)"))
    flip(begin + 40, 0x10)
    [(_, _, _, _, wrong)] = sweep(pages)
    assert wrong == 0, "no file tells"


def test_a_library_that_is_closed_stays_as_long_as_it_is_watched(tmp_path: Path) -> None:
    """Runtimes open libraries to try them, and close them: read then, it was a segmentation fault.

    In a process of its own, which must not die of it.
    """
    path = private_copy(tmp_path)
    code = f"""
import _ctypes, ctypes
from selfheal_edge import _core
def is_loaded():
    return {str(path)!r} in open("/proc/self/maps").read()
_ctypes.dlclose(ctypes.CDLL({str(path)!r})._handle)
assert not is_loaded(), "it cannot be closed"
handle = ctypes.CDLL({str(path)!r})._handle
pages = _core.CodePages([{path.name!r}], bytes(16), 5)
_ctypes.dlclose(handle)
while pages.sweeps < 2:
    assert pages.step(1 << 20) == []
assert is_loaded()
del pages
assert not is_loaded()
"""
    done = run_alone(code)
    if "it cannot be closed" in done.stderr:
        pytest.skip("this system keeps such a library for ever")
    assert done.returncode == 0, done.stderr


def test_libraries_that_are_not_there_have_no_pages() -> None:
    pages = _core.CodePages(["no such library"], KEY, 5)
    assert pages.nbytes == 0
    assert pages.step(1 << 20) == []
    with pytest.raises(ValueError, match="key: expected 16 bytes, got 1"):
        _core.CodePages([], b"k", 5)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CodeWatch, Path]]:
    """A watch over a private library, in the place of the one that models share."""
    path = loaded_copy(tmp_path)
    one = CodeWatch([path.name])
    monkeypatch.setattr(code_watch, "_SHARED", one)
    yield one, path
    one.stop()


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_damaged_code_is_a_runtime_fault_and_no_answer_is_trusted_again(
    watch: tuple[CodeWatch, Path], digits_baseline: she.Baseline, digits: DigitsData
) -> None:
    shared, path = watch
    x = digits.heldout_inputs[:1]
    policy = she.Policy(code_budget=1.0)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as model:
        wait_for(lambda: shared.coverage.sweeps >= 2)
        code = model.health.code
        assert code is not None
        assert code.nbytes > 0
        assert code.damage == ()
        assert code.round_seconds is not None
        assert model.infer(x).trusted
        begin, offset = code_of(path)
        flip(begin + 40, 0x10)
        wait_for(lambda: "runtime_fault" in {event.cause for event in model.events})
        assert not model.infer(x).trusted
        assert model.health.state == "untrusted"
        [event] = [event for event in model.events if event.cause == "runtime_fault"]
        assert f"{path.name} at offset {offset + 40:#x}: 1 wrong byte(s)" in event.evidence[0]
        model.rollback()  # what is damaged runs repairs as well: none ends it
        assert not model.infer(x).trusted
        with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=policy) as later:
            wait_for(lambda: not later.infer(x).trusted)  # told of what was found before
    unwatched = she.Policy(code_budget=0)
    with she.SelfHealingModel(digits_model_path(), digits_baseline, policy=unwatched) as model:
        assert model.health.code is None
        assert model.infer(x).trusted
    wait_for(lambda: shared.thread is None)  # the last listener has left


def test_the_sweep_ends_with_its_last_listener(watch: tuple[CodeWatch, Path]) -> None:
    shared, _ = watch
    told: list[tuple[CodeDamage, ...]] = []
    tell = told.append
    shared.listen(tell, 0.5)
    wait_for(lambda: shared.coverage.sweeps >= 3)
    shared.leave(tell)
    wait_for(lambda: shared.thread is None)
    assert told == []
    assert shared.memory_bytes > 0
    assert str(CodeWatch(["no such library"]).coverage) == "code is not checked"


def test_a_model_that_is_forgotten_leaves_wherever_the_collector_finds_it() -> None:
    """Also in the thread that has the watch's own lock."""
    watch = CodeWatch(["no such library"])

    class Model:
        def __init__(self) -> None:
            self.itself = self
            weakref.finalize(self, watch.forget, print).atexit = False

    class Tell:
        def __call__(self, _pages: tuple[CodeDamage, ...]) -> None:
            raise AssertionError

        def __hash__(self) -> int:  # asked for under the lock
            gc.collect()
            return 1

    tell = Tell()
    Model()
    listening = threading.Thread(target=watch.listen, args=(tell, 1.0), daemon=True)
    listening.start()
    listening.join(60)
    assert not listening.is_alive()
    watch.forget(tell)
    wait_for(lambda: watch.thread is None)


def test_what_a_listener_raises_stops_neither_the_sweep_nor_the_others(
    watch: tuple[CodeWatch, Path], caplog: pytest.LogCaptureFixture
) -> None:
    shared, path = watch
    told: list[tuple[CodeDamage, ...]] = []

    def leaves(pages: tuple[CodeDamage, ...]) -> None:
        raise SystemExit(str(pages[0]))

    shared.listen(leaves, 1.0)
    shared.listen(told.append, 1.0)
    wait_for(lambda: shared.coverage.sweeps >= 1)
    flip(code_of(path)[0] + 40, 0x10)
    wait_for(lambda: told)
    before = shared.coverage.sweeps
    wait_for(lambda: shared.coverage.sweeps > before)
    assert "a listener to damaged code" in caplog.text


def test_pages_that_cannot_be_read_are_told_of_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_names: object) -> frozenset[str]:
        raise MemoryError

    monkeypatch.setattr(code_watch, "_libraries", fails)
    watch = CodeWatch(["no such library"])
    with caplog.at_level(logging.ERROR):
        watch.listen(print, 1.0)
        wait_for(lambda: caplog.records)
        time.sleep(0.2)
        assert len(caplog.records) == 1
    watch.stop()


def test_a_forked_child_begins_anew(watch: tuple[CodeWatch, Path]) -> None:
    """What a thread of the parent was about to change is not gone on with."""
    shared, _ = watch
    shared.listen(print, 1.0)
    wait_for(lambda: shared.coverage.sweeps)
    shared.stop()
    shared.forget_thread()
    assert shared.coverage.nbytes == 0


def run_alone(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
    )


@pytest.mark.slow
@pytest.mark.parametrize("said", ["print(event, flush=True)", "sys.exit()"])
def test_the_process_ends_where_the_policy_says_so(
    tmp_path: Path, digits_baseline: she.Baseline, said: str
) -> None:
    """By status 70, for a supervisor, whatever the user's callback raises; the journal has it."""
    digits_baseline.save(tmp_path / "baseline")
    code = f"""
import sys, time
from pathlib import Path
from tests.integrity.test_code_pages import code_of, flip, loaded_copy
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.integrity import code_watch
path = loaded_copy(Path({str(tmp_path)!r}))
code_watch._SHARED = code_watch.CodeWatch([path.name])
baseline = she.Baseline.load({str(tmp_path / "baseline")!r})
policy = she.Policy(code_budget=1.0, on_code_damage="exit")
def said(event):
    if "runtime_fault" in str(event):
        {said}
model = she.SelfHealingModel(digits_model_path(), baseline, policy=policy, on_event=said)
while code_watch.shared_watch().coverage.sweeps < 1:
    time.sleep(0.01)
flip(code_of(path)[0] + 40, 0x10)
time.sleep(60)
"""
    done = run_alone(code)
    assert done.returncode == 70, done.stderr
    assert ("runtime_fault" in done.stdout) == said.startswith("print")
