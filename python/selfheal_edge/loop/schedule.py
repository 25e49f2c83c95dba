"""What is done every so many predictions or seconds, whichever comes first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["PeriodicTrigger"]


@dataclass(frozen=True, slots=True)
class PeriodicTrigger:
    """Tells when something is due."""

    predictions: int | None
    """Due after this many; None: predictions do not matter."""
    seconds: float | None
    """Due after this long; None: time does not matter."""
    next_prediction: int | None = None
    """Due from this prediction on, if predictions matter; None before the first `restarted`."""
    next_second: float = math.inf
    """Due from this time on; never before the first `restarted`."""

    def restarted(self, prediction: int, now: float) -> PeriodicTrigger:
        """Return a trigger that counts from here."""
        after = None if self.predictions is None else prediction + self.predictions
        until = math.inf if self.seconds is None else now + self.seconds
        return replace(self, next_prediction=after, next_second=until)

    def is_due(self, prediction: int, now: float) -> bool:
        """Whether it is time."""
        by_number = self.next_prediction is not None and prediction >= self.next_prediction
        return by_number or now >= self.next_second
