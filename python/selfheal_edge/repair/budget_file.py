"""A budget's file, which all processes of a device share."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from selfheal_edge.errors import StoreVersionError
from selfheal_edge.hashing import equal_secrets, hmac_sha256, sha256

__all__ = ["BudgetFile", "KeptBudget"]

_FORMAT: Final = "selfheal-edge repair budget"
_VERSION: Final = 1
_BYTES: Final = 512
"""Of the file, always: one sector, which a power cut leaves as it was or as it is."""
_PATIENCE_S: Final = 0.1
_PAUSE_S: Final = 0.002
_BOOT: Final = "/proc/sys/kernel/random/boot_id"


@dataclass(slots=True)
class KeptBudget:
    """What the file says, and where it goes."""

    left: tuple[float, float] | None
    """Repairs and seconds; None for a file that was just made."""
    filled: float | None
    """Of the monotonic clock, when they were filled last; None: in another life of the machine."""
    file: BudgetFile
    fd: int

    def write(self, left: Sequence[float], filled: float | None) -> None:
        """Write what is left, and wait until it is there.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        data = self.file.encode(left, filled)
        if os.pwrite(self.fd, data, 0) != len(data):
            raise OSError(errno.ENOSPC, "no room for the budget's file")
        os.fdatasync(self.fd)


class BudgetFile:
    """Reads and writes the file, one process at a time.

    Parameters
    ----------
    path
        Of the file.
    key
        Authenticates it; None for none.
    """

    def __init__(self, path: str | os.PathLike[str], key: bytes | None) -> None:
        self.path: Final = os.fspath(path)
        self._key = key
        try:
            with open(_BOOT, encoding="ascii") as file:
                self._boot = file.read().strip()
        except (OSError, UnicodeDecodeError):
            self._boot = ""

    @contextmanager
    def held(self) -> Iterator[KeptBudget]:
        """Keep other processes out meanwhile.

        Raises
        ------
        OSError
            When the file can be neither read nor made, another process keeps it, or it is of
            another size and so another file.
        StoreVersionError
            When a newer release has written it.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + _PATIENCE_S
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise
                time.sleep(_PAUSE_S)
            yield self._read(fd)
        finally:
            os.close(fd)  # which ends the lock

    def look(self) -> KeptBudget | None:
        """Return what the file says, without keeping other processes out; None: not to be had."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._read(fd)
        except OSError:
            return None
        finally:
            os.close(fd)

    def encode(self, left: Sequence[float], filled: float | None) -> bytes:
        """Return the file's bytes."""
        body = json.dumps(
            {
                "format": _FORMAT,
                "version": _VERSION,
                "boot": self._boot,
                "left": list(left),
                "filled": filled,
            }
        ).encode()
        line = self._tag(body) + b" " + body
        return line.ljust(_BYTES - 1) + b"\n"

    def _tag(self, body: bytes) -> bytes:
        digest = sha256(body) if self._key is None else hmac_sha256(self._key, body)
        return digest.hex().encode()

    def _read(self, fd: int) -> KeptBudget:
        size = os.fstat(fd).st_size
        if size not in (0, _BYTES):  # whatever it is, it is not to be written over
            raise FileExistsError(
                f"{self.path}: expected a budget's file, which has {_BYTES} bytes, got {size} bytes"
            )
        if not size:
            return KeptBudget(None, None, self, fd)
        data = os.pread(fd, _BYTES, 0)
        nothing = KeptBudget((0.0, 0.0), None, self, fd)
        tag, _, body = data.rstrip().partition(b" ")
        try:
            found = json.loads(body)
            if found["format"] != _FORMAT:
                return nothing
            if found["version"] > _VERSION:
                raise StoreVersionError(
                    f"{self.path}: expected a budget of version {_VERSION} at most, got "
                    f"{found['version']}"
                )
            repairs, seconds = map(float, found["left"])
            filled = None if found["filled"] is None else float(found["filled"])
            is_same_boot = found["boot"] == self._boot
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return nothing
        known = all(map(math.isfinite, (repairs, seconds, filled or 0.0)))
        if not known or not equal_secrets(tag, self._tag(body)):
            return nothing
        return KeptBudget((repairs, seconds), filled if is_same_boot else None, self, fd)
