"""Recognise what this device wrote itself: a mark made with a secret that never leaves it."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final

from selfheal_edge.hashing import hmac_sha256

__all__ = ["device_mark"]

_SECRET_BYTES: Final = 32
_OTHERS: Final = 0o077


def _path() -> str:
    folder = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if folder.startswith("~"):
        raise FileNotFoundError("this user has no home")
    return os.path.join(folder, "selfheal-edge", "device-secret")


def _read(path: str) -> bytes | None:
    """Return the secret; None where there is none, or others may have read or written it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        is_private = status.st_uid == os.getuid() and not status.st_mode & _OTHERS
        if not (stat.S_ISREG(status.st_mode) and is_private):
            return None
        secret = file.read(_SECRET_BYTES + 1)
    return secret if len(secret) == _SECRET_BYTES else None


def _make(path: str) -> None:
    """Write a new secret, unless another process does so meanwhile."""
    folder = os.path.dirname(path)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    fresh = os.path.join(folder, f".{os.urandom(8).hex()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(os.urandom(_SECRET_BYTES))
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        os.unlink(fresh)


def device_mark(data: bytes, *, create: bool = False) -> str | None:
    """Return this device's mark for `data`, in hexadecimal; None where it keeps no secret.

    The secret of 32 random bytes lies in ``selfheal-edge/device-secret`` under
    ``$XDG_STATE_HOME`` (``~/.local/state``), readable by its user alone. A device without a place
    to write has none, and trusts no mark.

    Parameters
    ----------
    data
        What is marked.
    create
        Make the secret where there is none yet.
    """
    try:
        path = _path()
        if create and not os.path.exists(path):
            _make(path)
        secret = _read(path)
    except OSError:  # no home, no such file, or nowhere to write
        return None
    return None if secret is None else hmac_sha256(secret, data).hex()
