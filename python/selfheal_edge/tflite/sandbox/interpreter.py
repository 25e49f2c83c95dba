"""The Python that runs the child process, and the environment that it gets."""

from __future__ import annotations

import os
import sys
from typing import Final

from selfheal_edge.errors import ProbeError
from selfheal_edge.text import quoted

__all__ = ["ADVICE", "child_environment", "find_interpreter"]

_CHECKING_HEAP: Final = "libc_malloc_debug.so.0"
ADVICE: Final = (
    "a probe needs a Python interpreter: name one with ProbePolicy(python=...) or "
    "multiprocessing.set_executable(...), or load the file unprobed with ProbePolicy(vouched=...)"
)


def find_interpreter(named: str | None) -> str:
    """Return the Python that runs the child process.

    Raises
    ------
    ProbeError
        With advice, where there is none: to start an application that embeds Python once more
        could do anything.
    """
    if named is not None:
        return named
    spawn = sys.modules.get("multiprocessing.spawn")  # who told it which Python has imported it
    told = None if spawn is None else spawn.get_executable()
    found = os.fsdecode(told or sys.executable or "")
    name = os.path.basename(found).casefold()
    is_own = not told or found == sys.executable
    if (is_own and getattr(sys, "frozen", False)) or not ("python" in name or "pypy" in name):
        raise ProbeError(
            f"expected sys.executable to be a Python interpreter, got {quoted(found)}: {ADVICE}"
        )
    return found


def child_environment() -> dict[str, str]:
    """Return the helper's environment: one thread, and a heap that checks itself.

    A kernel that writes past the end of its memory may live through one probe and kill the next
    process. glibc's checking heap turns that into an abort here; elsewhere these are ignored.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        preload = filter(None, [os.environ.get("LD_PRELOAD"), _CHECKING_HEAP])
        environment |= {"MALLOC_CHECK_": "3", "LD_PRELOAD": ":".join(preload)}
    return environment
