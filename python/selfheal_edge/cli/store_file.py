"""Open the store that a command is about, and the key that it is given."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from selfheal_edge.store.changes import Changes
from selfheal_edge.store.database import Database
from selfheal_edge.store.generations import StoredGenerations
from selfheal_edge.store.keys import read_key

__all__ = ["DirectStore", "place_and_key", "reading"]

# The serving process trims the journal to its policy at its next commit; a command drops nothing.
_ALL_BYTES: Final = 1 << 40


class DirectStore:
    """A store without a thread that writes: a command's own, or a reader's copy."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.get, self.items = database.get, database.items
        self.block, self.block_names = database.block, database.block_names
        self.generations = StoredGenerations(self)

    def commit(self, changes: Changes) -> None:
        """Make changes durable, all or none."""
        self._database.commit(changes, keep_journal_bytes=_ALL_BYTES)


def place_and_key(arguments: argparse.Namespace) -> tuple[Path, bytes | None]:
    """Return the store's path and the bytes of its key.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        When there is no such file, or it may not be read; for the key.
    """
    path = Path(arguments.store)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a store, got no such file")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path}: expected a file that this user may read")
    return path, read_key(arguments.key, "--key")


@contextlib.contextmanager
def reading(arguments: argparse.Namespace) -> Iterator[Database]:
    """Open a copy of the store, which a serving process goes on to write.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        As `place_and_key`.
    StoreVersionError, IntegrityError, StoreError
        When it is newer, does not verify, or is no store.
    """
    path, key = place_and_key(arguments)
    with Database.read_copy(path, key) as database:
        yield database
