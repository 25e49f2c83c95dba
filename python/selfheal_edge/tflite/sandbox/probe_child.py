"""The program that tries model files: imports a runtime once, forks for every candidate.

It is run by path, as a script of its own, and imports nothing of this package: the package's
compiled core has no business in a process that is meant to die. It talks JSON lines over an
inherited socket; a model arrives as a file descriptor beside its request.

The process at the other end of the socket owns this one: when that end closes, or that process
ends, this one ends, and the kernel ends the candidate with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

_KEPT = (1 << 22, 8000)  # bytes of the candidate's status, and of what it says
_TICK_S = 0.02
_SHORT_TICK_S = 0.002
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve requests until the other end of the socket closes."""
    # Both survive exec: a caller that ignores SIGCHLD would make our waitpid fail.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    channel = socket.socket(fileno=int(sys.argv[1]))
    owner = _open_pidfd(os.getppid())
    watched: list[Any] = [channel, *owner]
    pending = b""
    module: Any = None
    answer: dict[str, Any]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if channel not in ready:
            return 0
        message, fds, _, _ = socket.recv_fds(channel, 65536, 1)
        if not message:
            return 0
        pending += message
        if not pending.endswith(b"\n"):
            continue
        request = json.loads(pending)
        pending = b""
        if module is None:
            sys.path[:] = request["sys_path"]
            try:
                module = importlib.import_module(request["module"])
                importlib.import_module("numpy")
                gc.freeze()  # the candidates' own collection skips what the imports made
                answer = {"ready": True}
            except Exception as error:
                answer = {"unavailable": f"{type(error).__name__}: {error}"}
        else:
            try:
                answer = _try(module, request, fds[0], watched)
            finally:
                os.close(fds[0])
        channel.sendall(json.dumps(answer).encode() + b"\n")


def _open_pidfd(pid: int) -> list[int]:
    """Return a descriptor that is readable once the process has ended, where there are such."""
    with contextlib.suppress(AttributeError, OSError):
        return [os.pidfd_open(pid)]
    return []


def _try(module: Any, request: dict[str, Any], model_fd: int, owner: list[Any]) -> dict[str, Any]:
    """Run one candidate under watch; return how it ended.

    Where memory is refused it, a runtime raises what it likes, or crashes. So one that fails runs
    once more with its memory watched and not limited: if it gets further, that was the reason.
    """
    answer = _attempt(module, request, model_fd, owner)
    if answer["ending"] in ("memory", "timeout") or _is_well(answer):
        return answer
    again = _attempt(module, {**request, "is_watched": True}, model_fd, owner)
    if again["ending"] == "memory" or _is_well(again):
        answer["ending"] = "memory"
    return answer


def _is_well(answer: dict[str, Any]) -> bool:
    return bool(answer["ending"] == "exit 0" and answer["stage"] == "done")


def _attempt(
    module: Any, request: dict[str, Any], model_fd: int, owner: list[Any]
) -> dict[str, Any]:
    start = time.monotonic()
    status_r, status_w = os.pipe()
    stderr_r, stderr_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(status_r)
        os.close(stderr_r)
        _candidate(module, request, model_fd, status_w, stderr_w)
    os.close(status_w)
    os.close(stderr_w)
    try:
        ending, status, stderr = _watch(pid, request, (status_r, stderr_r), owner, start)
    finally:
        os.close(status_r)
        os.close(stderr_r)
    lines = status.decode("utf-8", "replace").splitlines()
    error = next((json.loads(line[6:]) for line in lines if line.startswith("error ")), None)
    shapes: list[Any] = next(
        (json.loads(line[7:]) for line in lines if line.startswith("shapes ")), []
    )
    stages = [line for line in lines if not line.startswith(("error ", "shapes "))]
    return {
        "ending": "error" if error and ending == "exit 0" else ending,
        "stage": stages[-1] if stages else "start",
        "error": error,
        "shapes": shapes,
        "stderr": stderr.decode("utf-8", "replace").strip(),
        "seconds": time.monotonic() - start,
    }


def _watch(
    pid: int, request: dict[str, Any], pipes: tuple[int, int], owner: list[Any], start: float
) -> tuple[str, bytes, bytes]:
    """Wait for the candidate, drain its pipes, kill it when it takes too long or too much."""
    deadline = start + request["timeout_s"]
    rss_limit = _resident(os.getpid()) + request["memory_bytes"]
    kept = dict.fromkeys(pipes, b"")
    verdict = ""
    open_ends = list(pipes)
    tick = _SHORT_TICK_S if request.get("is_watched") else _TICK_S
    while open_ends:  # both close when the candidate ends
        ready, _, _ = select.select([*open_ends, *owner], [], [], tick)
        if any(end in ready for end in owner):  # the owner is gone
            os.kill(pid, signal.SIGKILL)
            os._exit(1)
        for fd in ready:
            piece = os.read(fd, 65536)
            kept[fd] = (kept[fd] + piece)[-_KEPT[pipes.index(fd)] :]
            if not piece:
                open_ends.remove(fd)
        if verdict:
            continue
        if time.monotonic() > deadline:
            verdict = "timeout"
        elif _resident(pid) > rss_limit:
            verdict = "memory"
        if verdict:
            os.kill(pid, signal.SIGKILL)
    # Closed pipes without an end: a file that has taken over the process. It gets no time.
    code = _reap(pid, deadline)
    status, stderr = kept[pipes[0]], kept[pipes[1]]
    if not verdict and os.WIFSIGNALED(code):
        number = os.WTERMSIG(code)
        verdict = "timeout" if number == signal.SIGXCPU else f"signal {number}"
    return verdict or f"exit {os.WEXITSTATUS(code)}", status, stderr


def _reap(pid: int, deadline: float) -> int:
    while True:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            return code
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.0005)


def _resident(pid: int) -> int:
    """Return the resident bytes of a process, or 0 where that cannot be known."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _data_bytes() -> int:
    """Return the private writable bytes of this process, what RLIMIT_DATA counts."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", "rb") as file:
        return int(next(line for line in file if line.startswith(b"VmData")).split()[1]) * 1024
    return 0


def _candidate(
    module: Any, request: dict[str, Any], model_fd: int, status: int, stderr: int
) -> NoReturn:
    """Load, allocate, invoke, destroy; never return."""
    code = 0
    try:
        _confine(request, stderr)
        _run(module, request, model_fd, status)
    except BaseException as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        kind = "memory" if isinstance(error, MemoryError) else "refused"
        os.write(status, b"error " + json.dumps([kind, text[:1000]]).encode() + b"\n")
    finally:
        os._exit(code)


def _confine(request: dict[str, Any], stderr: int) -> None:
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu = int(request["timeout_s"]) * max(1, request["num_threads"]) + 1
    _lower(resource.RLIMIT_CPU, cpu)
    # Not RLIMIT_AS: that counts the address space which malloc only reserves for each thread.
    if not request.get("is_watched"):
        _lower(resource.RLIMIT_DATA, _data_bytes() + request["memory_bytes"])
    with contextlib.suppress(OSError):
        os.nice(10)


def _lower(which: int, limit: int) -> None:
    hard = resource.getrlimit(which)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (limit, hard))


def _run(module: Any, request: dict[str, Any], model_fd: int, status: int) -> None:
    import numpy as np  # noqa: PLC0415 — imported by `main` from the caller's path

    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    if request["kernels"] == "compiled":
        _run_compiled(f"{folder}/{model_fd}", request["num_threads"], status)
        return
    path = f"{folder}/{model_fd}"
    options: dict[str, Any] = {"num_threads": request["num_threads"], "model_path": path}
    if not os.path.exists(path):  # no /proc
        del options["model_path"]
        os.lseek(model_fd, 0, os.SEEK_SET)
        with open(model_fd, "rb", closefd=False) as file:
            options["model_content"] = file.read()
    if request["kernels"] == "builtin":
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = resolver
    os.write(status, b"load\n")
    interpreter = module.Interpreter(**options)
    os.write(status, b"allocate\n")
    _allocate(interpreter, request["shapes"], status)
    os.write(status, b"invoke\n")
    rng = np.random.default_rng(0)
    for fill in ("zeros", "noise"):
        for detail in interpreter.get_input_details():
            dtype = np.dtype(detail["dtype"])
            shape = detail["shape"]
            if dtype.kind in "SUO":
                value = np.full(shape, b"", dtype=object)
            elif fill == "zeros":
                value = np.zeros(shape, dtype)
            elif dtype.kind not in "iu" or dtype.itemsize > 2:  # wide integers count or index
                value = np.ones(shape, dtype)
            else:
                raw = rng.integers(0, 256, int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
                value = raw.view(dtype).reshape(shape)
            interpreter.set_tensor(detail["index"], value)
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError):
            if fill == "zeros":
                raise
            break  # a kernel that refuses noise as an index does what it should
        for detail in interpreter.get_output_details():
            interpreter.get_tensor(detail["index"])
    os.write(status, b"destroy\n")
    del interpreter
    gc.collect()
    os.write(status, b"done\n")


def _allocate(interpreter: Any, shapes: list[Any], status: int) -> None:
    """Allocate tensors, for inputs of other shapes if there are any; then tell all shapes."""
    for index, shape in shapes:
        interpreter.resize_tensor_input(index, shape)
    interpreter.allocate_tensors()
    if shapes:
        found = [[int(d["index"]), d["shape"].tolist()] for d in interpreter.get_tensor_details()]
        with open(status, "wb", closefd=False) as pipe:  # more than a pipe takes at once
            pipe.write(b"shapes " + json.dumps(found).encode() + b"\n")


def _run_compiled(path: str, num_threads: int, status: int) -> None:
    litert = importlib.import_module("ai_edge_litert.compiled_model")
    import numpy as np  # noqa: PLC0415 — imported by `main` from the caller's path

    cache = os.memfd_create("selfheal-candidate-packed")
    cpu = litert.CpuOptions(
        num_threads=num_threads, xnnpack_weight_cache_path=f"/proc/self/fd/{cache}"
    )
    os.write(status, b"load\n")
    model = litert.CompiledModel.from_file(
        path,
        options=litert.Options(
            hardware_accelerators=litert.HardwareAccelerator.CPU, cpu_options=cpu
        ),
    )
    os.write(status, b"allocate\n")
    inputs = model.create_input_buffers(0)
    outputs = model.create_output_buffers(0)
    os.write(status, b"invoke\n")
    for index, buffer in enumerate(inputs):
        size = model.get_input_buffer_requirements(index, 0)["buffer_size"]
        buffer.write(np.zeros(size, np.int8))
    model.run_by_index(0, inputs, outputs)
    os.write(status, b"destroy\n")
    del inputs, outputs, model
    gc.collect()
    os.write(status, b"done\n")


if __name__ == "__main__":
    sys.exit(main())
