"""Notices of the runtimes are held back; everything else arrives, in order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfheal_edge.tflite.runtimes import native_stderr as chatter
from selfheal_edge.tflite.runtimes.native_stderr import without_chatter


@contextlib.contextmanager
def stderr_to(path: Path) -> Iterator[Path]:
    """Exchange the descriptor within a test: a fixture would come before pytest's own exchange."""
    saved = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield path
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_notices_are_held_back(tmp_path: Path) -> None:
    with stderr_to(tmp_path / "stderr") as stderr:
        with without_chatter():
            os.write(
                2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nsomething else\n"
            )
            os.write(2, b"ERROR: this matters\nW0000 00:00 ignored\n")
        os.write(2, b"INFO: not ours\n")
        assert stderr.read_bytes() == b"something else\nERROR: this matters\nINFO: not ours\n"


def test_nested(tmp_path: Path) -> None:
    with stderr_to(tmp_path / "stderr") as stderr:
        with without_chatter():
            os.write(2, b"one\n")
            with without_chatter():
                os.write(2, b"two\nINFO: x\n")
        assert stderr.read_bytes() == b"one\ntwo\n"


def fail() -> None:
    with without_chatter():
        os.write(2, b"before\n")
        raise ZeroDivisionError


def test_errors_pass(tmp_path: Path) -> None:
    with stderr_to(tmp_path / "stderr") as stderr:
        with pytest.raises(ZeroDivisionError):
            fail()
        os.write(2, b"after\n")
        assert stderr.read_bytes() == b"before\nafter\n"


def test_stderr_is_closed() -> None:
    saved = os.dup(2)
    os.close(2)
    try:
        with without_chatter():
            pass
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_nowhere_to_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stderr_to(tmp_path / "stderr") as stderr:

        def refuse(_: str) -> None:
            raise FileNotFoundError("No usable temporary directory found")

        monkeypatch.setattr(chatter, "nameless_file", refuse)
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
        with without_chatter():
            os.write(2, b"INFO: heard\n")
        assert stderr.read_bytes() == b"INFO: heard\n"
        if before:
            assert len(os.listdir("/proc/self/fd")) == before
