"""Whether answers may be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from selfheal_edge.tflite.session import Session

__all__ = ["Trust"]


class Trust:
    """Why answers are flagged, if they are: a verdict, a doubt that waits, or a repair that runs.

    Parameters
    ----------
    session
        Whose turn the answers are given in.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_marked = False
        self._doubts = self._cleared = 0
        self.repairing = 0
        """Repairs that go on: answers given meanwhile are flagged, that of the turn at their end
        too. Raised before a `try`, lowered in its `finally`: what a signal's handler raises comes
        between the calls of a context manager written in Python, and would leave it raised."""

    @property
    def holds(self) -> bool:
        """Whether answers may be relied on."""
        return not (self._is_marked or self.repairing) and self._cleared == self._doubts

    def mark(self) -> None:
        """Flag every answer from now on."""
        self._is_marked = True

    def restore(self) -> None:
        """Flag answers no more: the model is proven to be what it was, or the trouble is over."""
        self._is_marked = False

    def doubt(self) -> None:
        """Flag every answer until `look` has ended that begins after this; in the turn."""
        self._doubts += 1

    @contextmanager
    def look(self) -> Iterator[None]:
        """Look at all that is doubted up to now; what is wrong then is marked meanwhile."""
        with self._turn:
            seen = self._doubts
        try:
            yield
        finally:
            with self._turn:
                self._cleared = seen

    @property
    def _turn(self) -> AbstractContextManager[None]:
        return self._session.inference_lock
