"""A state that is written every minute and seldom as a whole: what has changed of it.

A monitor's state is 50 KiB and more, most of which never changes (references, thresholds) or
changes slowly. Three rows hold it: what it was before anything was seen; what has changed since
then, as of some commit; and what has changed since that. The last one is the one that is written
every minute, the second when the last has grown. Differences are exclusive ors, compressed.

A row is never removed: what was removed is wiped from the file at once, which writes the whole log
back. Each names by a mark the state that it is a difference to; one whose state is no longer there
is of before, and the state that was kept since is newer.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import IntegrityError
from selfheal_edge.store.seal import Seal

__all__ = ["KeptState"]

_MARK: Final = 8
# SQLite writes whole pages, and rewrites a row in place where its size has not changed.
_STEP: Final = 1016
_SPARE: Final = 4 * _STEP
# The difference is written anew, as large as it has grown, until it pays to write a base.
_GROWN: Final = 1.25
_MOST_BYTES: Final = 64 << 20

Rows = dict[str, bytes]


def _bytes(blob: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(blob, np.uint8)


def _difference(blob: bytes, other: bytes) -> bytes:
    """Return what makes `blob` of `other`, of any lengths."""
    difference: npt.NDArray[Any] = _bytes(blob).copy()
    shared = min(len(blob), len(other))
    difference[:shared] ^= _bytes(other)[:shared]
    return difference.tobytes()


def _packed(mark: bytes, blob: bytes, before: int = 0) -> bytes:
    """Compress; padded to the length `before`, if it fits, else to some pages more than it takes.

    A row of the same length is overwritten in place, and of its pages those that have changed. What
    pads it stands before, since the row's tag stands behind.
    """
    found = zlib.compress(blob, 9)
    head = mark + len(found).to_bytes(4, "little")
    needed = len(head) + len(found)
    padding = before - needed if needed <= before else -needed % _STEP + _SPARE
    return b"".join([head, bytes(padding), found])


def _unpacked(row: bytes, what: str) -> tuple[bytes, bytes]:
    size = int.from_bytes(row[_MARK : _MARK + 4], "little")
    try:
        unpack = zlib.decompressobj()
        found = unpack.decompress(row[len(row) - size :], _MOST_BYTES)
    except zlib.error as error:
        raise IntegrityError(f"{what}: expected a readable row: {error}") from None
    return row[:_MARK], found


class KeptState:
    """The rows of one state.

    Parameters
    ----------
    name
        Of the rows, which are ``NAME.origin``, ``NAME.base`` and ``NAME``.
    origin
        The state of one that has seen nothing.
    """

    def __init__(self, name: str, origin: bytes) -> None:
        self._name = name
        self._origin = origin
        self._is_origin_kept = False
        self._base: bytes | None = None
        self._least = 0
        self._lengths: dict[str, int] = {}

    def rows(self, blob: bytes, *, whole: bool = False) -> Rows:
        """Return the rows to write for a state, by name.

        Parameters
        ----------
        blob
            The state.
        whole
            Have no difference left to a state of before: for the last one.
        """
        rows: Rows = {}
        if not self._is_origin_kept:
            rows[f"{self._name}.origin"] = _packed(bytes(_MARK), self._origin)
            self._is_origin_kept = True
        if not whole and self._base is not None:
            row, size = self._row(self._name, self._base, blob)
            self._least = min(size, self._least or size)
            if size <= _GROWN * self._least:
                return {**rows, self._name: row}
        self._base, self._least = blob, 0
        row, _ = self._row(f"{self._name}.base", self._origin, blob)
        rows[f"{self._name}.base"] = row
        if self._name not in self._lengths:  # its place is beside the others, in the same page
            rows[self._name], _ = self._row(self._name, blob, blob)
        return rows

    def _row(self, name: str, before: bytes, blob: bytes) -> tuple[bytes, int]:
        """Return the row of a difference, and how much of it is not padding."""
        row = _packed(_mark_of(before), _difference(blob, before), self._lengths.get(name, 0))
        self._lengths[name] = len(row)
        return row, int.from_bytes(row[_MARK : _MARK + 4], "little")

    @property
    def memory_bytes(self) -> int:
        """Bytes of the two states that are kept."""
        return len(self._origin) + len(self._base or b"")

    def renamed(self, name: str) -> KeptState:
        """Return the same under another name, of which nothing is written yet."""
        return KeptState(name, self._origin)

    @classmethod
    def found(cls, name: str, rows: Mapping[str, bytes]) -> tuple[KeptState, bytes] | None:
        """Return what goes on from rows, and the state that they hold; None where they hold none.

        Raises
        ------
        IntegrityError
            When they do not belong together.
        """
        if f"{name}.origin" not in rows or f"{name}.base" not in rows:
            return None
        _, state = _unpacked(rows[f"{name}.origin"], name)
        kept = cls(name, state)
        kept._is_origin_kept = True
        kept._lengths = {row: len(value) for row, value in rows.items()}
        mark, difference = _unpacked(rows[f"{name}.base"], name)
        if mark != _mark_of(state):
            raise IntegrityError(f"{name}: expected what belongs to the rows before it")
        state = _difference(difference, state)
        if name in rows:
            mark, difference = _unpacked(rows[name], name)
            if mark == _mark_of(state):
                state = _difference(difference, state)
        return kept, state


def _mark_of(blob: bytes) -> bytes:
    return Seal.block(blob)[:_MARK]
