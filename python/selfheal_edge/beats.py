"""Things that are done every so many predictions or seconds, whichever comes first."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Beat"]


class Beat:
    """Tells when something is due.

    Parameters
    ----------
    predictions
        Due after this many; None: predictions do not matter.
    seconds
        Due after this long; None: time does not matter.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, predictions: int | None, seconds: float | None, clock: Callable[[], float]
    ) -> None:
        self._predictions = predictions
        self._seconds = seconds
        self._clock = clock
        self._count = 0
        self._since: float | None = None  # the clock is first read when it is first asked

    def due(self, predictions: int = 1) -> bool:
        """Count predictions; return whether it is time, and start anew if so."""
        self._count += predictions
        late = self._predictions is not None and self._count >= self._predictions
        if not late and self._seconds is not None:
            now = self._clock()
            if self._since is None:
                self._since = now
            late = now - self._since >= self._seconds
        if late:
            self.restart()
        return late

    def restart(self) -> None:
        """Begin to count anew."""
        self._count = 0
        if self._seconds is not None:
            self._since = self._clock()
