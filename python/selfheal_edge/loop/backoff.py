"""When damage that no repair could undo is tried again."""

from __future__ import annotations

from collections.abc import Iterable

from selfheal_edge.integrity.weights import CorruptBlock

__all__ = ["Retries"]


class Retries:
    """Pauses that double from try to try, counted in predictions.

    Parameters
    ----------
    pause
        The first one.
    """

    at: int = 0
    """The prediction of the next try."""

    def __init__(self, pause: int) -> None:
        self._first = self._pause = pause
        self._resisting: frozenset[tuple[str, int]] = frozenset()  # image and block

    def put_off(self, prediction: int, corrupt: Iterable[CorruptBlock] | None = None) -> None:
        """Take note of a try that failed; `corrupt` is what it could not restore, if new."""
        if corrupt is not None:
            self._resisting = frozenset((b.image, b.block) for b in corrupt)
        self.at = prediction + self._pause
        self._pause *= 2

    def wait_for(self, corrupt: Iterable[CorruptBlock], prediction: int) -> bool:
        """Whether all of these blocks are known to resist, and it is too early to try again."""
        return prediction < self.at and self._resisting.issuperset(
            (b.image, b.block) for b in corrupt
        )

    def clear(self) -> None:
        """Take note that nothing resists any more."""
        self._resisting = frozenset()
        self._pause = self._first
