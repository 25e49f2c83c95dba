"""Nothing that others write to stderr is lost while models open and are rebuilt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import IMPORT_PATH
from tests.tflite.instances import SETUPS

_LEVELS = ("VERBOSE:", "INFO:", "WARNING:", "ERROR:", "I0000", "W0000")
_PROGRAM = """
import os, subprocess, sys, threading
from selfheal_edge.assets import digits_model_path
from selfheal_edge.tflite.session import Session
runtime, kernels, *levels = sys.argv[1:]
done = threading.Event()
logged = 0

def log():
    global logged
    while not done.is_set():
        for level in levels:
            os.write(2, f"{level} line {logged}\\n".encode())
            logged += 1
        done.wait(0.0005)

def start():
    for n in range(200):
        children.append(subprocess.Popen(["/bin/sh", "-c", f"sleep 0.05; echo child {n} >&2"]))
    done.set()

children = []
others = [threading.Thread(target=log), threading.Thread(target=start)]
for thread in others:
    thread.start()
opened = 0
while not done.is_set() or opened < 20:
    session = Session(digits_model_path(), runtime, kernels)
    session.rebuild()
    session.close()
    opened += 1
for thread in others:
    thread.join()
for child in children:
    child.wait()
print(logged, opened)
"""


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS)
def test_lines_of_threads_and_children_all_arrive(setup: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *setup, *_LEVELS],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": IMPORT_PATH, "PATH": os.defpath},
    )
    logged, opened = map(int, done.stdout.split())
    assert opened >= 20
    assert logged > 100
    lines = done.stderr.splitlines()
    expected = {f"{_LEVELS[n % len(_LEVELS)]} line {n}" for n in range(logged)}
    expected |= {f"child {n}" for n in range(200)}
    assert expected - set(lines) == set()
    assert len(lines) == len(expected)  # and the runtimes have said nothing


def test_what_a_library_says_before_it_aborts_is_heard(tmp_path: Path) -> None:
    program = (
        "import ctypes, resource\n"
        "from selfheal_edge import _core\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "c = ctypes.CDLL(None)\n"
        "with _core.QuietStderr():\n"
        "    c.fputs(b'ERROR: no room\\n', ctypes.c_void_p.in_dll(c, 'stderr'))\n"
        "    c.abort()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": IMPORT_PATH, "PATH": os.defpath},
    )
    assert done.returncode == -signal.SIGABRT
    assert done.stderr == "ERROR: no room\n"


def test_lines_that_are_no_notices_are_passed_on(tmp_path: Path) -> None:
    """Errors that a library prints through C's stream in the block, from this thread."""
    program = (
        "import ctypes, os, threading\n"
        "from selfheal_edge import _core\n"
        "c = ctypes.CDLL(None)\n"
        "def say(text):\n"
        "    c.fputs(text, ctypes.c_void_p.in_dll(c, 'stderr'))\n"
        "with _core.QuietStderr(), _core.QuietStderr():\n"
        "    say(b'INFO: mine\\nERROR: mine\\nWARN')\n"
        "    other = threading.Thread(target=say, args=(b'INFO: theirs\\n',))\n"
        "    other.start(); other.join()\n"
        "    say(b'ING: in two parts\\n')\n"
        "    os.write(2, b'INFO: straight\\n')\n"
        "say(b'INFO: later\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": IMPORT_PATH, "PATH": os.defpath},
    )
    lines = ["ERROR: mine", "INFO: theirs", "INFO: straight", "INFO: later"]
    assert done.stderr.splitlines() == lines
