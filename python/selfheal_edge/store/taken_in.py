"""Which requests a store's process has taken in: a copy that is left again is refused."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from selfheal_edge.errors import IntegrityError

__all__ = ["TakenIn"]

_MOST_REMEMBERED: Final = 256
_NANOSECOND_DIGITS: Final = 20
_PART: Final = 12
"""Bytes of a request that are remembered: when it was left, and half of what was drawn for it."""


class TakenIn:
    """Which requests were taken in: the latest 256, and when the others were left at the latest.

    Parameters
    ----------
    row
        What `to_bytes` returned: at most 3,084 bytes. None: no request was taken in.

    Raises
    ------
    IntegrityError
        When it is not that.
    """

    def __init__(self, row: bytes | None = None) -> None:
        row = bytes(_PART) if row is None else row
        parts = [row[i : i + _PART] for i in range(0, len(row), _PART)]
        if not 1 <= len(parts) <= 1 + _MOST_REMEMBERED or len(parts[-1]) != _PART:
            raise IntegrityError(f"inbox: expected a readable row, got {len(row)} bytes")
        self._before, self._parts = parts[0], set(parts[1:])

    @classmethod
    def until_now(cls) -> TakenIn:
        """Return what refuses all that was left before now."""
        return cls(time.time_ns().to_bytes(_PART - 4, "big") + bytes(4))

    def why_not(self, name: str) -> str:
        """Return why a request of this name is not to be taken in, or an empty text."""
        part = self._part(name)
        if part in self._parts:
            return "it was taken in before: this is a copy"
        if part <= self._before:
            return (
                f"it is older than {_MOST_REMEMBERED} that were taken in, so it may be a copy; if "
                "it is none, set the clock and leave it again"
            )
        return ""

    def add(self, names: Iterable[str]) -> None:
        """Remember more of them; of many the oldest are remembered by their time alone."""
        self._parts.update(map(self._part, names))
        for part in sorted(self._parts)[:-_MOST_REMEMBERED]:
            self._parts.remove(part)
            self._before = part

    def to_bytes(self) -> bytes:
        """Return the row."""
        return b"".join([self._before, *sorted(self._parts)])

    @staticmethod
    def _part(name: str) -> bytes:
        left = int(name[:_NANOSECOND_DIGITS]).to_bytes(9, "big")[-8:]
        return left + bytes.fromhex(name[_NANOSECOND_DIGITS + 1 :][:8])
