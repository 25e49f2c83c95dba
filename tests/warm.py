"""Programs in processes of their own, forked from one that has imported what all of them need.

Python's start and the imports take longer than most of what such a program is to show. A program
begins as in ``python -c PROGRAM ARGUMENTS``, and ends as that does: by its end, by `sys.exit`, by
an exception that nothing catches, or killed. What needs options of Python, an environment from the
first instruction, or a process that has imported nothing, starts Python itself.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).resolve().parents[1]
_MOST = 1 << 17  # bytes of a request


class Started:
    """A program that runs; as a context it is killed at the end.

    Attributes
    ----------
    pid
        Of the program's process.
    stdin
        What it reads.
    stdout
        What it prints, as it comes.
    """

    def __init__(
        self, pid: int, stdin: IO[str], stdout: IO[str], stderr: IO[str], ends: IO[str]
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._stderr = stderr
        self._ends = ends
        self._code: int | None = None

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        for file in (self.stdout, self._stderr, self._ends):
            file.close()
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()

    def kill(self) -> None:
        """Kill it as the kernel does: at once. Nothing happens where it has ended."""
        if self._code is None and not select.select([self._ends], [], [], 0)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float = 300.0) -> int:
        """Return how it ended, as `subprocess.Popen.wait` does."""
        if self._code is None:
            if not select.select([self._ends], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a program", timeout)
            self._code = int(self._ends.readline())
        return self._code

    def errors(self) -> str:
        """Return what it has printed on standard error."""
        self._stderr.seek(0)
        return self._stderr.read()


def start(program: str, *arguments: object, env: Mapping[str, str] | None = None) -> Started:
    """Start a program that is spoken with by pipes; `env` is added to the environment."""
    reading, writing = os.pipe()
    with open(writing, "wb") as out:
        return _begin(program, arguments, env, out, open(reading, encoding="utf-8"))


def run(
    program: str,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    timeout: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return that with all that it has printed."""
    out = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 — closed by `Started`
    with _begin(program, arguments, env, out, out) as started:
        code = started.wait(timeout)
        out.seek(0)
        return subprocess.CompletedProcess(
            [program, *map(str, arguments)], code, out.read(), started.errors()
        )


def _begin(
    program: str,
    arguments: tuple[object, ...],
    env: Mapping[str, str] | None,
    out: IO[Any],
    shown: IO[str],
) -> Started:
    stderr = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 — closed by `Started`
    reading, writing = os.pipe()
    heard, said = os.pipe()
    request = {
        "program": program,
        "arguments": [str(argument) for argument in arguments],
        "environment": {**os.environ, **(env or {})},
    }
    try:
        files = [heard, out.fileno(), stderr.fileno(), writing]
        _server().ask(json.dumps(request).encode(), files)
    finally:
        os.close(writing)
        os.close(heard)
    pid = int(_line(reading))
    stdin = open(said, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 — closed by `Started`
    return Started(pid, stdin, shown, stderr, open(reading, encoding="utf-8"))


def _line(descriptor: int) -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        assert piece, "the process that forks programs has ended"
        found += piece
    return found


class _Server:
    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=_ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)]),
                    "OPENBLAS_NUM_THREADS": "1",  # what forks has one thread
                },
            )

    def ask(self, request: bytes, descriptors: list[int]) -> None:
        assert len(request) < _MOST, "a program as long as that belongs into a file"
        socket.send_fds(self._channel, [request], descriptors)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()


@functools.cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.close)
    return server


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for every request; return, in the process that is forked for it, the request."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _MOST, 4)
        if not message:
            sys.exit()
        if os.fork() == 0:  # it waits for the program, and tells how that has ended
            channel.close()
            *standard, told = descriptors
            if (pid := os.fork()) == 0:
                for n, descriptor in enumerate(standard):
                    os.dup2(descriptor, n)
                os.closerange(3, max(descriptors) + 1)
                request: dict[str, Any] = json.loads(message)
                return request
            for descriptor in standard:
                os.close(descriptor)
            os.write(told, b"%d\n" % pid)
            _, status = os.waitpid(pid, 0)
            os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        while _reaped():
            pass


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _import_all() -> None:
    for name in (
        "selfheal_edge.cli",
        "selfheal_edge.calibration.calibrate",
        "selfheal_edge.loop.assembly",
        "selfheal_edge.model",
        "selfheal_edge.redteam",
        "selfheal_edge.store.store",
        "tests.support",  # imports what runtimes there are
    ):
        importlib.import_module(name)


def _main() -> None:
    _import_all()
    assert threading.active_count() == 1
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = ["-c", *request["arguments"]]
    sys.modules["__main__"] = program = types.ModuleType("__main__")
    exec(compile(request["program"], "<string>", "exec"), program.__dict__)


if __name__ == "__main__":
    _main()
