"""Things that are done every so many predictions or seconds, whichever comes first."""

from __future__ import annotations

import math

__all__ = ["Beat"]


class Beat:
    """Tells when something is due.

    Parameters
    ----------
    predictions
        Due after this many; None: predictions do not matter.
    seconds
        Due after this long; None: time does not matter.
    """

    def __init__(self, predictions: int | None, seconds: float | None) -> None:
        self._predictions = predictions
        self._seconds = seconds
        self.next_prediction: int | None = predictions
        """Due from this prediction on, if predictions matter."""
        self.next_second = math.inf
        """Due from this time on; never before the first `start`."""

    def start(self, prediction: int, now: float) -> None:
        """Begin to count."""
        if self._predictions is not None:
            self.next_prediction = prediction + self._predictions
        if self._seconds is not None:
            self.next_second = now + self._seconds

    def due(self, prediction: int, now: float) -> bool:
        """Return whether it is time, and start anew if so."""
        late = now >= self.next_second or (
            self.next_prediction is not None and prediction >= self.next_prediction
        )
        if late:
            self.start(prediction, now)
        return late
