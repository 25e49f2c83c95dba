"""Ids of predictions that are given once: reserved in the store before any of them is."""

from __future__ import annotations

import contextlib
import threading
from typing import Final

from selfheal_edge.errors import IntegrityError, StoreError
from selfheal_edge.loop.updates import CLOSED
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.store import Store

__all__ = ["PredictionIds"]

# A start has so many ids to give, and a store lasts a million starts.
_A_START: Final = 1 << 42
_MOST: Final = 1 << 63
_OF_AN_EXCHANGE: Final = 1 << 24
_LONGEST_WAIT: Final = 0.5


class PredictionIds:
    """Where the ids of one start begin.

    Parameters
    ----------
    store
        Where they are reserved.
    row
        What the store has in `ROW`: where they may begin. None: it has reserved none yet.
    drawn
        A number below 2^62, where the ids of a new store's predictions begin, and those of a start
        at which nothing can be written.
    """

    ROW: Final = ("ids", "next")

    def __init__(self, store: Store, row: bytes | None, drawn: int) -> None:
        self._store = store
        self._drawn = drawn
        self._next = drawn if row is None else int.from_bytes(row, "little")
        if self._next >= _MOST - 2 * _A_START:
            self._next = drawn
        self._is_reserved = False
        self._is_decided = threading.Event()

    def begin(self) -> None:
        """Have them reserved by the store's thread, beside what else a start does."""
        if not self._is_decided.is_set():
            self._store.soon(self._reserve)

    def first(self) -> int:
        """Return where this start's ids begin; none of them is ever given again.

        Where the store has no thread, the calling one reserves them. Where that cannot be, or the
        medium takes longer than all else at a start, they are drawn.
        """
        if not self._store.has_thread and not self._is_decided.is_set():
            with contextlib.suppress(StoreError, IntegrityError):  # `health.store` says it
                self._reserve()
        self._is_decided.wait(_LONGEST_WAIT)
        return self._next if self._is_reserved else self._drawn

    def skip(self, count: int) -> None:
        """Begin behind so many that were given, and those that an exchange goes on to give."""
        self._next += count + _OF_AN_EXCHANGE
        self._drawn += count + _OF_AN_EXCHANGE

    def _reserve(self) -> None:
        try:
            following = (self._next + _A_START).to_bytes(8, "little")
            self._store.commit(Changes([Row(*self.ROW, following), Row(*CLOSED, b"0")]))
            self._is_reserved = True
        finally:
            self._is_decided.set()
