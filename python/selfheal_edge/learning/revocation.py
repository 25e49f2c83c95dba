"""What became of a revocation: of a source's word, or of predictions that taught something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Revocation"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """What became of one revocation; true where there was anything to take back."""

    source: str | None
    ids: tuple[int, ...]
    """The predictions that were named."""
    text: str
    """What became of it, for a person."""
    samples: tuple[int, ...] = ()
    """Predictions whose samples the trusted pool had."""
    labels: int = 0
    """Labels that trials, charts and diagnoses do not count any more."""
    taken_back: tuple[int, ...] = ()
    """Generations that were learned from it, or may have been: they are gone."""
    learned_again: tuple[int, ...] = ()
    """Generations on probation that stand for some of them, learned without it."""

    def __bool__(self) -> bool:
        return bool(self.samples or self.labels or self.taken_back)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "source": self.source,
            "ids": list(self.ids),
            "samples": list(self.samples),
            "labels": self.labels,
            "taken_back": list(self.taken_back),
            "learned_again": list(self.learned_again),
            "text": self.text,
        }
