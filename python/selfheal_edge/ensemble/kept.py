"""What a committee's store keeps: weights, labels' sources, the next id."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from selfheal_edge import _core
from selfheal_edge.errors import StateError, StoreError
from selfheal_edge.log import logger
from selfheal_edge.policy import Policy

if TYPE_CHECKING:
    from selfheal_edge.store.keys import KeyArgument
    from selfheal_edge.store.store import Store

__all__ = ["Kept", "open_store"]

_AREA: Final = "ensemble"
_SHARE: Final = "share"
_FACTS: Final = "facts"
_NEXT: Final = "next"
_VERSION: Final = 1
_IDS_A_START: Final = 1 << 32
_MOST_ID: Final = 1 << 62


def open_store(path: str | os.PathLike[str], key: KeyArgument, policy: Policy) -> Store:
    """Open a committee's store; a database is loaded by those alone who ask for one.

    Raises
    ------
    StoreError, StoreVersionError, TypeError, ValueError
        As a model's store.
    """
    from selfheal_edge.store.keys import read_key  # noqa: PLC0415
    from selfheal_edge.store.store import Store  # noqa: PLC0415

    store = Store(
        path,
        read_key(key),
        max_bytes=policy.store_bytes,
        bytes_per_day=policy.store_bytes_per_day,
    )
    store.start()
    return store


class Kept:
    """The rows of one committee.

    Parameters
    ----------
    store
        Where they are.

    Notes
    -----
    Weights and facts are one commit, so that after a crash both are of the same moment. What moved
    weights is written within a minute; what put a member to sleep or woke it is written at once, by
    the store's thread.
    """

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self.problems: list[str] = store.told_of_start

    def _read(self, name: str) -> bytes | None:
        try:
            return self.store.get(_AREA, name)
        except StoreError as error:
            self.problems.append(f"{name} cannot be read: {error}")
            return None

    def take_ids(self, drawn: int) -> int:
        """Return where ids of this start begin: above those of all starts before.

        Parameters
        ----------
        drawn
            Where to begin in a store that has none.
        """
        row = self._read(_NEXT)
        first = drawn if row is None else int.from_bytes(row, "little")
        if not 0 <= first < _MOST_ID:
            first = drawn
        self.store.put(_AREA, _NEXT, (first + _IDS_A_START).to_bytes(8, "little"))
        try:
            self.store.commit()
        except StoreError as error:
            self.problems.append(f"ids may be given again after a restart: {error}")
        return first

    def recall(self) -> tuple[dict[str, Any], _core.FixedShare | None]:
        """Return the facts and weights of the process before; nothing where there are none.

        What cannot be read begins anew, and `problems` says so.
        """
        facts, blob = self._read(_FACTS), self._read(_SHARE)
        if facts is None or blob is None:
            return {}, None
        try:
            found = json.loads(facts)
            if found["version"] > _VERSION:
                raise ValueError(f"a newer release wrote them, as version {found['version']}")
            return found, _core.FixedShare.from_state(blob)
        except (ValueError, LookupError, TypeError, StateError) as error:
            logger().warning("the weights of a committee begin anew", exc_info=True)
            self.problems.append(f"weights begin anew: {error}")
            return {}, None

    def put(
        self,
        share: _core.FixedShare,
        names: Sequence[str],
        digests: Sequence[str],
        facts: dict[str, Any],
        *,
        at_once: bool = False,
    ) -> None:
        """Have all rows written: within a minute, or at once. Returns at once."""
        from selfheal_edge.store.changes import Row  # noqa: PLC0415

        told = {"version": _VERSION, "names": list(names), "models": list(digests), **facts}
        self.store.put_all(
            [
                Row(_AREA, _SHARE, share.state()),
                Row(_AREA, _FACTS, json.dumps(told, sort_keys=True).encode()),
            ]
        )
        if at_once:
            self.store.soon(self.store.commit)
