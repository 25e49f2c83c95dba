"""Code is swept too: flips in pages of a loaded library, a private copy made for the test."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from selfheal_edge import _core

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
