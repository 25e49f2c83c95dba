"""Code is swept too: flips in pages of a loaded library, a private copy made for the test."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import time
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


def loaded_copy(folder: Path) -> Path:
    """Load a private copy of some small extension module; nothing ever runs in it."""
    files = Path(np.__file__).parent.rglob("*.so")
    small = min((f for f in files if f.stat().st_size > 1 << 15), key=lambda f: f.stat().st_size)
    copy = folder / f"private_{os.getpid()}_{folder.name}.so"
    shutil.copyfile(small, copy)
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


def test_the_process_ends_where_the_policy_says_so(
    tmp_path: Path, digits_baseline: she.Baseline
) -> None:
    """By status 70, for a supervisor; the journal has it first."""
    digits_baseline.save(tmp_path / "baseline")
    code = f"""
import time
from pathlib import Path
from tests.integrity.test_code_pages import code_of, flip, loaded_copy
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path
from selfheal_edge.integrity import code_watch
path = loaded_copy(Path({str(tmp_path)!r}))
code_watch._SHARED = code_watch.CodeWatch([path.name])
baseline = she.Baseline.load({str(tmp_path / "baseline")!r})
policy = she.Policy(code_budget=1.0, on_code_damage="exit")
said = lambda event: print(event, flush=True)
model = she.SelfHealingModel(digits_model_path(), baseline, policy=policy, on_event=said)
while code_watch.shared_watch().coverage.sweeps < 1:
    time.sleep(0.01)
flip(code_of(path)[0] + 40, 0x10)
time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
    )
    assert done.returncode == 70, done.stderr
    assert "runtime_fault" in done.stdout
