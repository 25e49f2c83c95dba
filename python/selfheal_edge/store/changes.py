"""What one commit changes: rows, records of the journal and blocks, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

__all__ = ["Changes", "Row"]

_MOST_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class Row:
    """A value under a name; None as the value removes the row."""

    area: str
    name: str
    value: bytes | None
    wipes: bool = False
    """Whether no byte of what it replaces may stay, in the log either; always where it removes."""

    def __post_init__(self) -> None:
        """Check the names' lengths."""
        for argument, text in (("area", self.area), ("name", self.name)):
            if not 0 < len(text) <= _MOST_NAME:
                raise ValueError(
                    f"{argument}: expected 1 to {_MOST_NAME} characters, got {len(text)}"
                )


@dataclass(slots=True)
class Changes:
    """What one commit does: all of it or nothing."""

    rows: list[Row] = field(default_factory=list)
    journal: list[bytes] = field(default_factory=list)
    """Bodies of records to append."""
    blocks: list[bytes] = field(default_factory=list)
    """Contents of blocks to keep, under `Seal.block`."""
    dropped_blocks: list[bytes] = field(default_factory=list)
    """Names of blocks to drop."""

    def __bool__(self) -> bool:
        return bool(self.rows or self.journal or self.blocks or self.dropped_blocks)
