"""Keep the runtimes' own chatter out of the user's terminal, and nothing else."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from selfheal_edge.tflite.memory.anonymous_file import nameless_file

__all__ = ["without_chatter"]

_lock = threading.RLock()
_CHATTER = (b"INFO:", b"WARNING:", b"VERBOSE:", b"W0000", b"I0000", b"INFO ", b"WARNING ")


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what a native library writes to stderr, then pass on all but its notices.

    A runtime writes to the file descriptor, below `sys.stderr`, so the descriptor is what has to
    be exchanged; it belongs to the whole process, so lines that other threads write meanwhile are
    kept and written afterwards. Errors of the runtime pass through as well.
    """
    with _lock:
        try:
            saved = os.dup(2)
        except OSError:  # stderr is closed: nobody to bother
            yield
            return
        try:
            # Never on a disk, if it can be: a device's may be flash, or read-only.
            held_file = open(nameless_file("selfheal-chatter")[0], "w+b")  # noqa: SIM115 — closed below
        except OSError:  # nowhere to hold it back: chatter is better than no model
            os.close(saved)
            yield
            return
        with held_file as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                held.seek(0)
                kept = [line for line in held.readlines() if not line.startswith(_CHATTER)]
                if kept:
                    with contextlib.suppress(OSError):
                        os.write(2, b"".join(kept))
