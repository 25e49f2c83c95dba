"""Try a model in a child process first: a file that kills the runtime kills only the child.

Validation refuses what is wrong by itself; what a kernel cannot stand, only the kernel knows.
So a file whose hash is not known is loaded, allocated, invoked and destroyed once in a process
with limits on time and memory, without core dump or terminal, before this process touches it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args

from selfheal_edge.errors import (
    ForkedProcessError,
    ModelFormatError,
    ProbeError,
    ProbeLimitError,
    RuntimeUnavailableError,
)
from selfheal_edge.hashing import sha256
from selfheal_edge.text import quoted, shown
from selfheal_edge.tflite.memory.anonymous_file import anonymous_file
from selfheal_edge.tflite.sandbox.interpreter import ADVICE, child_environment, find_interpreter
from selfheal_edge.tflite.sandbox.known import KernelsName, is_known, known_hashes, mark_known
from selfheal_edge.tflite.sandbox.packages import PACKAGES, RuntimeName
from selfheal_edge.tflite.sandbox.policy import MEMORY_BYTES, MOST_SECONDS, TIMEOUT_S, ProbePolicy
from selfheal_edge.tflite.sandbox.sharing import helpers, sharing_helpers

__all__ = [
    "ProbeResult",
    "Prober",
    "known_hashes",
    "mark_known",
    "probe",
]

_START_TIMEOUT_S: Final = 60.0
_GRACE_S: Final = 5.0
_CHILD: Final = Path(__file__).with_name("probe_child.py")
_DOING: Final = {
    "start": "it was starting",
    "load": "loading the model",
    "allocate": "allocating tensors",
    "invoke": "running the model",
    "destroy": "destroying the interpreter",
    "done": "ending",
}


class ProbeResult(NamedTuple):
    """How one probe ended."""

    ok: bool
    reason: str
    """Empty when ok; otherwise what happened, and during which step."""
    seconds: float
    """Wall time of the probe, without the helper's start."""
    shapes: dict[int, tuple[int, ...]] = {}  # noqa: RUF012 — never changed
    """Of all tensors of subgraph 0, where inputs were given shapes."""
    at_limit: bool = False
    """Whether a limit of the probe ended it."""


def probe(
    data: bytes,
    runtime: RuntimeName,
    kernels: KernelsName = "default",
    num_threads: int = 1,
    policy: ProbePolicy = ProbePolicy(),  # noqa: B008 — immutable
) -> None:
    """Try a model in a child process, unless its hash is known.

    Parameters
    ----------
    data
        The whole file; validate it first (`ModelFile.from_bytes`), that is cheaper and says more.
    runtime, kernels, num_threads
        How it is going to be run: another combination runs other code.
    policy
        Its limits.

    Raises
    ------
    ModelFormatError
        When the runtime refuses the file, crashes, hangs, or reaches a limit.
    RuntimeUnavailableError
        When the runtime is not installed or cannot be imported.
    ProbeError
        When no child could be started: nothing is known about the file then.

    Notes
    -----
    About 0.2 s, nearly all of it Python's start and the runtime's import; within `sharing_helpers`
    that is paid once.
    """
    digest = sha256(data).hex()
    if is_known(digest, runtime, kernels, num_threads):
        return
    with (
        sharing_helpers(),
        Prober(
            runtime,
            kernels=kernels,
            num_threads=num_threads,
            timeout_s=policy.seconds,
            memory_bytes=policy.memory_bytes,
            python=policy.python,
        ) as prober,
    ):
        result = prober.probe(data)
    if not result.ok:
        kind = ProbeLimitError if result.at_limit else ModelFormatError
        raise kind(f"model: {result.reason}")
    mark_known(digest, runtime, kernels, num_threads)


class Prober:
    """Tries one model after the other in a warm helper process.

    The helper imports the runtime once and forks for each candidate. It starts with the first
    `probe`, ends with `close` (or the `with` block), and ends by itself when this process does.
    Within `sharing_helpers` it is the scope's, and ends with that. Threads may share a prober;
    trials then run one after the other.

    Parameters
    ----------
    runtime, kernels, num_threads
        How the models are going to be run.
    timeout_s
        Wall time for each probe, in seconds.
    memory_bytes
        What a candidate may use beyond what the imported runtime takes.
    python
        As `ProbePolicy.python`.

    Raises
    ------
    ValueError
        When an argument is out of range.
    """

    def __init__(
        self,
        runtime: RuntimeName,
        *,
        kernels: KernelsName = "default",
        num_threads: int = 1,
        timeout_s: float = TIMEOUT_S,
        memory_bytes: int = MEMORY_BYTES,
        python: str | None = None,
    ) -> None:
        if runtime not in PACKAGES:
            raise ValueError(f"runtime: expected {' or '.join(PACKAGES)}, got {runtime!r}")
        if kernels not in get_args(KernelsName):
            raise ValueError(
                f"kernels: expected {' or '.join(get_args(KernelsName))}, got {kernels!r}"
            )
        if num_threads < 1:
            raise ValueError(f"num_threads: expected at least 1, got {num_threads}")
        if not 0 < timeout_s <= MOST_SECONDS:
            raise ValueError(
                f"timeout_s: expected more than 0 and at most {MOST_SECONDS}, got {timeout_s}"
            )
        self._module = f"{PACKAGES[runtime].module}.interpreter"
        self._python = python
        self._helper: _Helper | None = None
        self._lock = threading.Lock()
        self._request = {
            "kernels": kernels,
            "num_threads": int(num_threads),
            "timeout_s": float(timeout_s),
            "memory_bytes": int(memory_bytes),
        }
        self._pid = os.getpid()
        self._closed = False

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    @property
    def pid(self) -> int | None:
        """The helper's process number; None while there is none."""
        return None if self._helper is None else self._helper.pid

    def close(self) -> None:
        """End the helper, if it is this one's alone; safe to call twice."""
        with self._lock:
            self._closed = True
            if self._helper is not None and not self._helper.is_shared:
                self._helper.close()

    def probe(
        self, data: bytes, shapes: Mapping[int, Sequence[int]] = MappingProxyType({})
    ) -> ProbeResult:
        """Try one model.

        Parameters
        ----------
        data
            The whole file.
        shapes
            Shapes to try it with, by the index of inputs; the result then tells all others.

        Raises
        ------
        RuntimeUnavailableError
            When the runtime is not installed or cannot be imported.
        ProbeError
            When the helper could not be started or did not answer, or the prober is closed.
        ForkedProcessError
            In a child made by `fork` from the process that made the prober.
        """
        if os.getpid() != self._pid:
            raise ForkedProcessError("Prober: belongs to the process that made it, not to a fork")
        request = {**self._request, "shapes": [[i, list(s)] for i, s in shapes.items()]}
        with self._lock:
            if self._closed:
                raise ProbeError("Prober: is closed")
            if self._helper is None:
                self._helper = _helper_of(self._module, find_interpreter(self._python))
            answer = self._helper.ask(data, request)
        return _result(answer, request)


class _Helper:
    """The process that imports one runtime and forks for each candidate."""

    def __init__(self, module: str, python: str, *, is_shared: bool) -> None:
        self.is_shared = is_shared
        self._lock = threading.Lock()
        self._module = module
        self._python = python
        self._pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._stop()

    @property
    def pid(self) -> int | None:
        """The process's number; None while there is none."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process; safe to call twice."""
        with self._lock:
            self._stop()

    def ask(self, data: bytes, request: dict[str, Any]) -> dict[str, Any]:
        """Return what the process says of a candidate; one after the other."""
        with self._lock:
            return self._ask(data, request)

    def _ask(self, data: bytes, request: dict[str, Any]) -> dict[str, Any]:
        if self._process is not None and self._process.poll() is not None:
            self._stop()  # it was killed between two trials
        try:
            channel = self._channel or self._start()
            fd = _memory_file(data)
            try:
                message = json.dumps(request).encode() + b"\n"
                socket.send_fds(channel, [message], [fd])
            finally:
                os.close(fd)
            return _receive(channel, 2 * float(request["timeout_s"]) + _GRACE_S)
        except OSError as error:
            self._stop()
            raise ProbeError(f"the helper process failed: {error}") from error
        except BaseException:
            # Also on KeyboardInterrupt: an answer that was not read must not meet the next request.
            self._stop()
            raise

    def _start(self) -> socket.socket:
        python = self._python
        ours, theirs = socket.socketpair()
        try:
            # With stdin or stdout closed, new descriptors land on 0 to 2, which the child replaces.
            inherited = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
            try:
                self._process = subprocess.Popen(  # noqa: S603 — our own script
                    [python, "-I", "-S", os.fspath(_CHILD), str(inherited)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(inherited,),
                    cwd="/",
                    start_new_session=True,
                    env=child_environment(),
                )
            except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
                raise _no_python(python, error) from error
            finally:
                os.close(inherited)
                theirs.close()
            setup = {"module": self._module, "sys_path": [os.path.abspath(p) for p in sys.path]}
            answer = _first_answer(ours, setup, python)
            if "unavailable" in answer:
                why = answer["unavailable"]
                raise RuntimeUnavailableError(
                    f"runtime: expected {self._module} to be importable, got {why}"
                )
        except BaseException:
            ours.close()
            raise
        self._channel = ours
        return ours

    def _stop(self) -> None:
        channel, process = self._channel, self._process
        self._channel = self._process = None
        if channel is not None:
            channel.close()
        if process is None or os.getpid() != self._pid:
            return
        if channel is None:
            process.kill()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _helper_of(module: str, python: str) -> _Helper:
    """Return a helper: that of the scope, where one like it is shared, or one of its own."""
    shared = helpers.get()
    if shared is None:
        return _Helper(module, python, is_shared=False)
    kind = (os.getpid(), module, python, tuple(sys.path))
    if kind not in shared:
        shared[kind] = _Helper(module, python, is_shared=True)
    helper: _Helper = shared[kind]
    return helper


def _first_answer(channel: socket.socket, setup: dict[str, Any], python: str) -> dict[str, Any]:
    try:
        channel.sendall(json.dumps(setup).encode() + b"\n")
        return _receive(channel, _START_TIMEOUT_S)
    except (OSError, ValueError, ProbeError) as error:
        raise _no_python(python, error) from error


def _no_python(python: str, error: Exception) -> ProbeError:
    return ProbeError(
        f"expected {quoted(python)} to run as a Python interpreter, got {error}: {ADVICE}"
    )


def _memory_file(data: bytes) -> int:
    fd, _ = anonymous_file("selfheal-candidate")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def _receive(channel: socket.socket, timeout_s: float) -> dict[str, Any]:
    channel.settimeout(timeout_s)
    answer = b""
    while not answer.endswith(b"\n"):
        piece = channel.recv(65536)
        if not piece:
            raise ProbeError("the helper process ended without an answer")
        answer += piece
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


def _result(answer: dict[str, Any], request: dict[str, Any]) -> ProbeResult:
    ending, stage, seconds = answer["ending"], answer["stage"], float(answer["seconds"])
    if ending == "exit 0" and stage == "done":
        found = {int(index): tuple(shape) for index, shape in answer["shapes"]}
        return ProbeResult(True, "", seconds, found)
    doing = _DOING.get(stage, stage)
    limit_mib = int(request["memory_bytes"]) / 2**20
    kind, text = answer["error"] or ("", "")
    if kind == "memory" or ending == "memory":
        reason = (
            f"the runtime took more than {limit_mib:g} MiB while {doing}, the limit of a probe: "
            "ProbePolicy(memory_bytes=...) raises it"
        )
    elif ending == "timeout":
        reason = (
            f"the runtime hung: no end within {request['timeout_s']:g} s while {doing}, the limit "
            "of a probe: ProbePolicy(seconds=...) raises it"
        )
    elif kind == "refused":
        reason = f"the runtime refused the file while {doing}: {shown(text, 400)}"
    elif ending.startswith("signal "):
        reason = f"the runtime crashed with {_signal_name(int(ending[7:]))} while {doing}"
    else:
        reason = f"the runtime ended the process ({ending}) while {doing}"
    last = answer["stderr"].splitlines()[-1:] if kind != "refused" else []
    if last:
        reason += f" (it said: {shown(last[0], 300)})"
    at_limit = kind == "memory" or ending in ("memory", "timeout")
    return ProbeResult(False, reason, seconds, at_limit=at_limit)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
