"""Recognise what this device wrote itself: a mark made with a secret that never leaves it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final

__all__ = ["device_mark"]

_SECRET_BYTES: Final = 32
_OTHERS: Final = 0o077


def _path() -> Path:
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(folder) / "selfheal-edge" / "device-secret"


def _read(path: Path) -> bytes | None:
    """Return the secret; None where there is none, or others may have read or written it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        is_private = status.st_uid == os.getuid() and not status.st_mode & _OTHERS
        if not (stat.S_ISREG(status.st_mode) and is_private):
            return None
        secret = file.read(_SECRET_BYTES + 1)
    return secret if len(secret) == _SECRET_BYTES else None


def _make(path: Path) -> None:
    """Write a new secret, unless another process does so meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{secrets.token_hex(8)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
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
        if create and not path.exists():
            _make(path)
        secret = _read(path)
    except (OSError, RuntimeError):  # no home, no such file, or nowhere to write
        return None
    return None if secret is None else hmac.new(secret, data, hashlib.sha256).hexdigest()
