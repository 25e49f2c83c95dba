"""What a loop knows that outlives its process, as bytes and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.errors import IntegrityError
from selfheal_edge.loop.state import Counters, LoopState
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.monitoring.regimes import RegimeTable
from selfheal_edge.store.failures import Failure, failures_from

__all__ = ["Frozen", "Remembered"]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is taken over from the process before: `LoopState` without what memory alone has."""

    count: Counters = field(default_factory=Counters)
    failures: tuple[Failure, ...] = ()
    trouble: Diagnosis | None = None
    pending: tuple[Alarm, ...] = ()
    recovered_at: int = 0
    pause: int = 0
    """Predictions between two looks at a trouble that goes on; 0: as for the first."""
    backoff: int = 0
    """Predictions of the next pause between two tries; likewise."""
    predictions: int = 0
    """Predictions since the store was made."""
    returns: tuple[int, ...] = ()
    """As in `LoopState`: a restart buys no forgetting."""
    healed: tuple[tuple[str, int], ...] = ()
    """Likewise."""

    @classmethod
    def of(cls, state: LoopState, predictions: int) -> Remembered:
        """Return what is to be remembered of a state."""
        return cls(
            state.count,
            state.failures,
            state.trouble,
            state.pending,
            state.recovered_at,
            state.pause,
            state.backoff.pause,
            predictions,
            state.returns,
            tuple((one.image, one.offset) for one in state.healed),
        )

    def without_charts(self) -> Remembered:
        """Return what holds where the monitor begins anew: it will hear again what goes on."""
        return Remembered(
            self.count,
            self.failures,
            predictions=self.predictions,
            returns=self.returns,
            healed=self.healed,
        )

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` takes."""
        trouble = self.trouble
        fields = {
            "count": asdict(self.count),
            "failures": [f.to_dict() for f in self.failures],
            "trouble": None if trouble is None else trouble.to_dict(),
            "pending": [asdict(alarm) for alarm in self.pending],
            "recovered_at": self.recovered_at,
            "pause": self.pause,
            "backoff": self.backoff,
            "predictions": self.predictions,
            "returns": list(self.returns),
            "healed": [list(place) for place in self.healed],
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Remembered:
        """Read what `to_bytes` returned.

        Raises
        ------
        IntegrityError
            When it is not that.
        """
        try:
            fields = json.loads(data)
            return cls(
                Counters(**{name: int(n) for name, n in fields["count"].items()}),
                failures_from(fields["failures"]),
                None if fields["trouble"] is None else Diagnosis.from_dict(fields["trouble"]),
                tuple(map(_alarm, fields["pending"])),
                int(fields["recovered_at"]),
                int(fields["pause"]),
                int(fields["backoff"]),
                int(fields["predictions"]),
                tuple(map(int, fields.get("returns", ()))),
                tuple((str(image), int(at)) for image, at in fields.get("healed", ())),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"loop: expected a readable row: {error!r}") from None


def _alarm(fields: dict[str, Any]) -> Alarm:
    return Alarm(
        str(fields["signal"]),
        int(fields["direction"]),
        float(fields["magnitude"]),
        int(fields["onset"]),
        float(fields["statistic"]),
        float(fields["threshold"]),
        int(fields["earliest"]),
        bool(fields["since_start"]),
        None if fields.get("label") is None else int(fields["label"]),
        str(fields.get("detail", "")),
    )


Frozen: TypeAlias = tuple[Callable[[], bytes] | None, Remembered, RegimeTable | None]
"""What gives the monitor's state, where it has one that can be kept, what the loop knows, and the
operating conditions that the monitor knows, all of one moment."""
