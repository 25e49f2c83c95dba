"""When damage that no repair could undo is tried again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from selfheal_edge.integrity.weights import CorruptBlock

__all__ = ["Backoff"]

_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries, in predictions: each twice as long as the one before, up to 64 times.

    What a repair lacked (memory, a descriptor) may come back at any time, so they do not grow
    without end.
    """

    first: int
    """The first pause."""
    pause: int
    """The next one."""
    at: int = 0
    """The prediction of the next try."""
    resisting: frozenset[tuple[str, int]] = frozenset()
    """Image and block of what the latest try could not restore."""

    @classmethod
    def starting_with(cls, pause: int) -> Backoff:
        """Return one that has put off nothing."""
        return cls(pause, pause)

    def put_off(self, prediction: int, corrupt: Iterable[CorruptBlock] | None = None) -> Backoff:
        """Return what follows a try that failed; `corrupt` is what resisted it, if that is new."""
        resisting = self.resisting
        if corrupt is not None:
            resisting = frozenset((b.image, b.block) for b in corrupt)
        longer = min(2 * self.pause, _MOST * self.first)
        return Backoff(self.first, longer, prediction + self.pause, resisting)

    def holds(self, corrupt: Iterable[CorruptBlock], prediction: int) -> bool:
        """Whether all of these blocks are known to resist, and it is too early to try again."""
        return prediction < self.at and self.resisting.issuperset(
            (b.image, b.block) for b in corrupt
        )

    def cleared(self) -> Backoff:
        """Return what follows when nothing resists any more."""
        return replace(self, resisting=frozenset(), pause=self.first)
