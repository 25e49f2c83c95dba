"""What keeps a medium from being written: SQLite tells of I/O errors, and not of which."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from selfheal_edge.store.status import StoreStatus

__all__ = ["is_out_of_reach", "status_of"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# A limit on sizes is met by what a commit would have written, not by a first byte.
_FURTHER: Final = 64 * 1024


def status_of(error: BaseException, path: str) -> StoreStatus:
    """Return what keeps the store at `path` from being written, where `error` came of it.

    Where the error does not say it, one byte is written beside the store, as far into a file as the
    log's next commit would be, and removed again.
    """
    causes = [cause for cause in (error, error.__cause__) if cause is not None]
    text = " ".join(map(str, causes))
    if "is full" in text:
        return "full"
    if "readonly" in text or "unable to open" in text or is_out_of_reach(path):
        return "read-only"
    numbers = {getattr(cause, "errno", None) for cause in causes} - {None}
    numbers = numbers or {_probed(path)}
    if numbers & _FULL:
        return "full"
    return "read-only" if numbers & _READ_ONLY else "failing"


def is_out_of_reach(path: str) -> bool:
    """Whether the store or its log is there, and this process may not read or write it."""
    files = path, f"{path}-wal"
    return any(os.path.exists(f) and not os.access(f, os.R_OK | os.W_OK) for f in files)


def _probed(path: str) -> int | None:
    """Return the number of the error that writing beside the store meets; None: it meets none."""
    beside = f"{path}.probe"
    try:
        offset = os.stat(f"{path}-wal").st_size + _FURTHER
    except OSError:
        offset = _FURTHER
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(descriptor, b"\0", offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)
    return None
