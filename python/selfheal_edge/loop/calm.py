"""When a trouble that signals tell of is over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["CALM", "Calm"]

CALM: Final = 64
"""Predictions, as of the calm that the monitor asks for itself."""
_MOST: Final = 8 * CALM


@dataclass(frozen=True, slots=True)
class Calm:
    """How long signals have to look as always before a trouble that they tell of is over.

    What comes in waves is named while it pauses, and a pause looks like the end. So 64 predictions
    have to follow on the name; a trouble that is back before they are over needs as many beyond
    the signals' own calm, and twice as many each time that it is back.
    """

    until: int = 0
    """The prediction before which nothing ends the trouble that was named last."""
    since: int | None = None
    """The prediction at which signals were found settled; None while they are not."""
    more: int = 0
    """Predictions for which they have to stay so."""

    @property
    def ends_at(self) -> int:
        """The prediction at which the trouble is over, if signals stay as they are."""
        return max(self.until, (self.since or 0) + self.more)

    @property
    def broken(self) -> Calm:
        """What is asked for once signals that had settled have moved again."""
        return replace(self, since=None, more=min(max(CALM, 2 * self.more), _MOST))
