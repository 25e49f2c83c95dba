"""A state that is written every minute and seldom as a whole: what has changed of it.

A monitor's state is 50 KiB and more, most of which never changes (references, thresholds) or
changes slowly. Three rows hold it: what it was before anything was seen; what has changed since
then, as of some commit; and what has changed since that. The last one is the one that is written
every minute, the second when the last has grown. Differences are exclusive ors, compressed.
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
_WORTH: Final = 0.75
_MOST_BYTES: Final = 64 << 20

Rows = dict[str, bytes | None]


def _bytes(blob: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(blob, np.uint8)


def _difference(blob: bytes, other: bytes) -> bytes:
    """Return what makes `blob` of `other`, of any lengths."""
    difference: npt.NDArray[Any] = _bytes(blob).copy()
    shared = min(len(blob), len(other))
    difference[:shared] ^= _bytes(other)[:shared]
    return difference.tobytes()


def _packed(mark: bytes, blob: bytes) -> bytes:
    """Compress; padded to whole pages, so that the next one likely has the same size."""
    found = zlib.compress(blob, 1)
    row = mark + len(found).to_bytes(4, "little") + found
    return row + bytes(-len(row) % _STEP)


def _unpacked(row: bytes, what: str) -> tuple[bytes, bytes]:
    size = int.from_bytes(row[_MARK : _MARK + 4], "little")
    try:
        unpack = zlib.decompressobj()
        found = unpack.decompress(row[_MARK + 4 : _MARK + 4 + size], _MOST_BYTES)
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
        self._base = origin
        self._base_row = 0

    def rows(self, blob: bytes, *, whole: bool = False) -> Rows:
        """Return the rows to write for a state, by name; None removes one.

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
        if not whole and self._base_row:
            row = _packed(_mark_of(self._base), _difference(blob, self._base))
            if len(row) <= _WORTH * self._base_row:
                return {**rows, self._name: row}
        self._base = blob
        base = _packed(_mark_of(self._origin), _difference(blob, self._origin))
        self._base_row = len(base)
        return {**rows, f"{self._name}.base": base, self._name: None}

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
        for row in (f"{name}.base", name):
            if row not in rows:
                continue
            mark, difference = _unpacked(rows[row], row)
            if mark != _mark_of(state):
                raise IntegrityError(f"{row}: expected what belongs to the rows before it")
            state = _difference(difference, state)
        return kept, state


def _mark_of(blob: bytes) -> bytes:
    return Seal.block(blob)[:_MARK]
