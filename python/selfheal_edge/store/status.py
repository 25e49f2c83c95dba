"""What a store says of itself: for `health`, which loads no database for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["StoreState", "StoreStatus"]

StoreStatus = Literal["ok", "full", "read-only", "failing"]


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a store says of itself."""

    path: str
    status: StoreStatus
    """``"ok"``, or what keeps it from being written: ``"full"`` (the medium, or the store's own
    cap), ``"read-only"``, or ``"failing"``. It is tried again with growing pauses."""
    problem: str | None
    """Why nothing is written now, in words, or None."""
    refused: str | None
    """Why the file that was there at the start is not used, or None."""
    nbytes: int
    """Bytes of file and log."""
    max_bytes: int
    """The cap on them: `Policy.store_bytes`."""
    bytes_written: int
    """Bytes given to the medium since the start."""
    bytes_today: int
    """And in the latest 24 hours, by this process and those before it."""
    bytes_per_day: int
    """The cap on them: `Policy.store_bytes_per_day`; what has not come due waits in memory."""
    waiting: int
    """Events that wait in memory."""
    lost: int
    """Events that memory had no room for; the journal says how many, and where."""
    commits: int
    """Commits since the store was made."""
    seconds_since_commit: float | None
    """Age of the latest commit of this process; None before the first."""
    seq: int
    """Number of the journal's next event."""
    head: str
    """The chain's hash up to there, events that wait included, in hexadecimal."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}
