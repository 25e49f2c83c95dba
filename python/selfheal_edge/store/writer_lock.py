"""One writer for a file: the second process is told who the first is."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final

from selfheal_edge.errors import StoreError

__all__ = ["OtherWriterError", "WriterLock"]

# A POSIX record lock belongs to the process: it ends with it, however it ends, and a child of
# `fork` does not have it. It does not keep the same process out, so that is counted here.
_HELD: Final[set[tuple[int, int, int]]] = set()


class OtherWriterError(StoreError):
    """A file has a writer already; the message names the process."""


class WriterLock:
    """The right to write `path`, held until `close` or the end of the process.

    Parameters
    ----------
    path
        The file that is written. The lock is a file of its own beside it, with ``.lock`` behind.

    Raises
    ------
    OtherWriterError
        When another process, or another object of this one, has the lock: with its process id. Of a
        hard link, too, where the file system tells `/proc/locks` the numbers that it tells `stat`.
    OSError
        When the lock's file cannot be made.
    """

    def __init__(self, path: str) -> None:
        other = _holder_by_another_name(path)
        if other is not None:
            raise OtherWriterError(
                f"{path}: expected one writer, but the process {other} has it open by another name"
            )
        self._path = f"{path}.lock"
        # Not opened before this is known: closing any descriptor of the file ends the lock.
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(self._path)
            if (os.getpid(), there.st_dev, there.st_ino) in _HELD:
                raise OtherWriterError(f"{path}: expected one writer, but this process has it open")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # another user's
            os.fchmod(self._fd, 0o600)  # whatever is masked
        found = os.fstat(self._fd)
        self._place = (os.getpid(), found.st_dev, found.st_ino)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise OtherWriterError(
                f"{path}: expected one writer, but the process {holder or 'unknown'} has it open"
            ) from None
        _HELD.add(self._place)
        # In place: file systems wait for the medium where a file is cut and written anew.
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            os.pwrite(self._fd, f"{os.getpid():<15}\n".encode(), 0)

    def close(self) -> None:
        """Give the right back; calling it again, or in a child of `fork`, does nothing."""
        if self._place in _HELD and self._place[0] == os.getpid():
            _HELD.discard(self._place)
            os.close(self._fd)


def _holder_by_another_name(path: str) -> int | None:
    """Return which process has a file with more than one name for itself, as SQLite locks it.

    From /proc/locks, since opening and closing the file would end the locks of this process.
    """
    with contextlib.suppress(OSError):  # no such file, or no /proc
        there = os.stat(path)
        if there.st_nlink > 1:
            place = f"{os.major(there.st_dev):02x}:{os.minor(there.st_dev):02x}:{there.st_ino}"
            with open("/proc/locks", encoding="ascii") as locks:
                for line in locks:
                    _, *kind, process, where, _, _ = line.split()
                    if kind == ["POSIX", "ADVISORY", "WRITE"] and where == place:
                        return int(process)
    return None
