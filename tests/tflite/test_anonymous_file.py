"""Models load where the system refuses files in memory, and where there is no /proc."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import open_files
from tests.tflite.support import RUNTIMES

from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.memory import anonymous_file as files
from selfheal_edge.tflite.memory import source_image
from selfheal_edge.tflite.memory.source_image import SourceImage

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and memory files are Linux's")
MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}


def refuse(*_: object) -> int:
    raise PermissionError(1, "Operation not permitted")


@linux
def test_no_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse)
    image = SourceImage(b"some bytes")
    assert os.stat(image.path).st_nlink == 0  # it has no name
    assert Path(image.path).read_bytes() == b"some bytes"
    assert os.stat(image.path).st_mode & 0o777 == 0o600
    image.view[0:4] = b"SOME"
    assert Path(image.path).read_bytes() == b"SOME bytes"
    image.close()


@linux
@pytest.mark.parametrize("in_memory", [True, False])
def test_no_proc(monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    if not in_memory:
        monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(source_image, "descriptor_path", lambda _: None)
    descriptors = open_files()
    image = SourceImage(b"some bytes")
    assert Path(image.path).read_bytes() == b"some bytes"
    assert os.stat(image.path).st_mode & 0o777 == 0o600
    path = image.path
    image.close()
    assert not os.path.exists(path)
    assert open_files() == descriptors


def test_no_other_user_can_open_what_has_a_name() -> None:
    fd, path = files.temporary_file()
    try:
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        assert os.path.samestat(os.fstat(fd), os.stat(path))
    finally:
        os.close(fd)
        os.unlink(path)


# Refuses one system call with EPERM, for itself and its children, and then inspects a model.
SANDBOXED = """
import ctypes, os, struct, sys

number, model = int(sys.argv[1]), sys.argv[2]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]

program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit(77)
try:
    os.memfd_create("x")
except PermissionError:
    from selfheal_edge.cli import main
    sys.exit(main(["inspect", model]))
sys.exit(78)
"""


@linux
@pytest.mark.skipif(not RUNTIMES, reason="no TFLite runtime is installed")
@pytest.mark.skipif(platform.machine() not in MEMFD_CREATE, reason="another system call number")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "prctl"), reason="no prctl")
def test_a_sandbox_that_refuses_files_in_memory() -> None:
    number = str(MEMFD_CREATE[platform.machine()])
    command = [sys.executable, "-c", SANDBOXED, number, str(digits_model_path())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        pytest.skip("system calls cannot be refused here")
    assert (done.returncode, done.stderr) == (0, "")
    guarded = next(line for line in done.stdout.splitlines() if line.startswith("guarded"))
    assert "executing: weights" in guarded
    if "litert" in RUNTIMES:
        assert "making a file in memory failed: Operation not permitted" in guarded
