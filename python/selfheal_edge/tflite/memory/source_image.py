"""Our own copy of a model file, in memory that a runtime can map and that cannot shrink."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os

from selfheal_edge.tflite.memory.anonymous_file import (
    anonymous_file,
    descriptor_path,
    temporary_file,
)

__all__ = ["SourceImage"]

_F_ADD_SEALS = getattr(fcntl, "F_ADD_SEALS", 1033)
_F_SEAL_SHRINK = getattr(fcntl, "F_SEAL_SHRINK", 2)
_F_SEAL_GROW = getattr(fcntl, "F_SEAL_GROW", 4)


class SourceImage:
    """The bytes that an interpreter reads, shared with it page by page.

    On Linux they live in an anonymous memory file that is sealed against shrinking and growing:
    no process can truncate it under a running interpreter, and no other user can open it. Where the
    system has no such files, or a sandbox refuses them, they live in a temporary file that only
    this user may read. Its name is gone at once; only where a runtime could not open it without one
    (no /proc), when the image is closed.

    Parameters
    ----------
    data
        The model file.

    Notes
    -----
    Memory: one page-rounded copy of the file. What is written through `view` is what the
    interpreter reads next.
    """

    def __init__(self, data: bytes) -> None:
        self.nbytes = len(data)
        self._path: str | None = None
        self._fd = self._create(data)
        self._map = mmap.mmap(self._fd, self.nbytes)

    def _create(self, data: bytes) -> int:
        fd, is_sealable = anonymous_file("selfheal-model")
        if descriptor_path(fd) is None:  # no way to it for a runtime, which wants a path
            os.close(fd)
            (fd, self._path), is_sealable = temporary_file(), False
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            if is_sealable:
                fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_GROW)
        except BaseException:
            os.close(fd)
            if self._path is not None:
                os.unlink(self._path)
            raise
        return fd

    @property
    def path(self) -> str:
        """A path under which a runtime in this process can open the bytes."""
        return f"/proc/self/fd/{self._fd}" if self._path is None else self._path

    @property
    def view(self) -> memoryview:
        """The live bytes, writable; release it before `close`."""
        return memoryview(self._map)

    def read(self) -> bytes:
        """Return a copy of the live bytes."""
        return self._map[:]

    def close(self) -> None:
        """Unmap and forget the bytes; an interpreter that has mapped them keeps its own mapping."""
        if self._fd < 0:
            return
        with contextlib.suppress(BufferError):  # a view outlives us: its owner frees the map
            self._map.close()
        os.close(self._fd)
        self._fd = -1
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def __del__(self) -> None:
        """Release what the caller did not close."""
        if hasattr(self, "_map"):
            self.close()
