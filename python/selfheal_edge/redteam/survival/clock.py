"""A clock that a simulation sets: thirty days take minutes."""

from __future__ import annotations

from typing import Final

__all__ = ["DAY", "HOUR", "SimulatedClock"]

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR


class SimulatedClock:
    """Seconds since the device was first started, as the device sees them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds

    def jump(self, seconds: float) -> None:
        """Set the clock forward or, with less than 0, back: an attacker on the network does."""
        self.seconds += seconds
