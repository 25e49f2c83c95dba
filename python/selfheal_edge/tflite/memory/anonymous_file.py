"""Files without a name: in memory where the system gives such, and nowhere else if it can be."""

from __future__ import annotations

import contextlib
import os
from typing import Final

__all__ = ["anonymous_file", "descriptor_path", "temporary_file"]

_MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108 — names in it are random, files are this user's


def descriptor_path(fd: int) -> str | None:
    """Return a path by which code in this process can open `fd` anew; None without /proc."""
    path = f"/proc/self/fd/{fd}"
    return path if os.path.exists(path) else None


def anonymous_file(name: str) -> tuple[int, bool]:
    """Return the descriptor of an empty file without a name, and whether it can be sealed.

    A kernel may be too old for files in memory, and a sandbox may refuse them: then it is a
    temporary file, in memory if there is a folder for that, that only this user can open and whose
    name is gone already.
    """
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), True
    fd, path = temporary_file()
    os.unlink(path)
    return fd, False


def temporary_file() -> tuple[int, str]:
    """Return descriptor and path of an empty file that only this user can open."""
    folder = _MEMORY_FOLDER if os.access(_MEMORY_FOLDER, os.W_OK | os.X_OK) else None
    import tempfile  # noqa: PLC0415 — 0.4 MiB, for systems without files in memory

    return tempfile.mkstemp(prefix="selfheal-", dir=folder)
