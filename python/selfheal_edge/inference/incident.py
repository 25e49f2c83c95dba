"""What an inference reports to the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.monitoring.monitor import Alarm

__all__ = ["Incident"]


@dataclass(frozen=True, slots=True)
class Incident:
    """What came up at an inference."""

    number: int
    """Predictions so far."""
    damage: tuple[CorruptBlock, ...] = ()
    """Found before the inference, which has not run yet."""
    error: BaseException | None = None
    """The runtime failed with this; there is no answer yet."""
    alarms: tuple[Alarm, ...] = ()
    again: Callable[[], object] | None = None
    """Takes the answer anew, from a model that was healed meanwhile."""
