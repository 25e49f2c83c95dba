"""Change a store: by its own hand where no process serves, else by asking the one that does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfheal_edge.cli.store_file import DirectStore
from selfheal_edge.store.database import Database
from selfheal_edge.store.inbox import Inbox
from selfheal_edge.store.journal import Event, EventKind
from selfheal_edge.store.writer_lock import OtherWriterError

__all__ = ["Change", "Made", "make"]

_MOST_BYTES: Final = 1 << 40


@dataclass(frozen=True)
class Change:
    """One change, as it is done and as it is asked for."""

    kind: str
    fields: Mapping[str, Any]
    outcome: str
    """What the journal says of it."""
    act: Callable[[DirectStore, bytes], None]
    """Does it, given the journal's record of it, in one commit."""


@dataclass(frozen=True)
class Made:
    """What became of it."""

    request: str | None
    """The id of the request that was left; None: it is done."""
    words: str


def make(path: Path, key: bytes | None, change: Change) -> Made:
    """Do it, or leave a signed request where a process has the store open.

    Raises
    ------
    IntegrityError, StoreError
        When the store does not verify or cannot be written.
    ValueError, OSError
        When the request cannot be left.
    """
    outcome = f"{change.outcome}, by a command"
    record = Event(0, time.monotonic(), time.time(), EventKind.REQUEST, outcome=outcome)
    try:
        with Database.create_or_open(path, key, max_bytes=_MOST_BYTES) as database:
            change.act(DirectStore(database), record.to_record())
    except OtherWriterError as error:
        left = Inbox(path, key).leave(change.kind, change.fields)
        return Made(left, f"{error}; a signed request was left for it: {left}")
    return Made(None, change.outcome)
