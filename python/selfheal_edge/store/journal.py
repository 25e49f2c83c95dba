"""The record of all that happened and why."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol, overload

from selfheal_edge import _core
from selfheal_edge.causes import Cause
from selfheal_edge.errors import IntegrityError
from selfheal_edge.log import logger
from selfheal_edge.text import MESSAGE, shown

__all__ = ["Event", "EventKind", "Journal", "Records"]


class EventKind(str, Enum):
    """What an event tells of."""

    OPENED = "opened"
    COMMISSIONED = "commissioned"
    ALARM = "alarm"
    DIAGNOSIS = "diagnosis"
    REPAIR = "repair"
    ROLLBACK = "rollback"
    SNAPSHOT = "snapshot"
    TRIAL = "trial"
    PROBATION = "probation"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    REVERTED = "reverted"
    REVOKED = "revoked"
    RECOVERED = "recovered"
    REGIME = "regime"
    REQUEST = "request"
    ASLEEP = "asleep"
    AWAKE = "awake"
    REPLACED = "replaced"
    STORE = "store"
    LOST = "lost"
    CLOSED = "closed"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    seq: int
    """Number of the event, from 0, without gaps; with a store, since the store was made. Where
    memory had no room for it, of the event that says so."""
    monotonic: float
    """Seconds on a clock that never jumps."""
    wall: float
    """Seconds since 1970 on a clock that may."""
    kind: EventKind
    cause: Cause | None = None
    """What the diagnosis named."""
    evidence: tuple[str, ...] = ()
    strategy: str | None = None
    outcome: str | None = None
    prediction: int = 0
    """Predictions before it; with a store, since the store was made."""
    details: Mapping[str, Any] | None = None
    """What a machine may read of it, as plain data: a diagnosis with its evidence in numbers and
    the causes that were ruled out."""
    hash: str = ""
    """The journal's hash up to and with it, in hexadecimal: a receiver of number and hash notices
    a journal that was cut or changed. Empty without a store, and where memory had no room."""

    def __post_init__(self) -> None:
        """Make all texts fit to be shown: they name what files name."""
        for name in ("strategy", "outcome"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, _fit(text))
        object.__setattr__(self, "evidence", tuple(map(_fit, self.evidence)))

    def __str__(self) -> str:
        parts = [f"#{self.seq} after {self.prediction} predictions: {self.kind}"]
        parts += [str(p) for p in (self.cause, self.strategy, self.outcome) if p]
        return ", ".join(parts) + (f" ({'; '.join(self.evidence)})" if self.evidence else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with kind and cause by name."""
        return {
            "seq": self.seq,
            "monotonic": self.monotonic,
            "wall": self.wall,
            "kind": self.kind.value,
            "cause": None if self.cause is None else self.cause.value,
            "evidence": list(self.evidence),
            "strategy": self.strategy,
            "outcome": self.outcome,
            "prediction": self.prediction,
            "details": None if self.details is None else dict(self.details),
            "hash": self.hash,
        }

    def to_record(self) -> bytes:
        """Return the body of its record in the store's journal, which knows number and hash."""
        fields = {k: v for k, v in self.to_dict().items() if k not in ("seq", "hash")}
        return json.dumps({k: v for k, v in fields.items() if v not in (None, [])}).encode()

    @classmethod
    def from_record(cls, seq: int, hash_: bytes, body: bytes) -> Event:
        """Read what `to_record` returned.

        Raises
        ------
        IntegrityError
            When the body is not one, or of a newer release.
        """
        try:
            fields = json.loads(body)
            cause = fields.get("cause")
            return cls(
                seq,
                float(fields.get("monotonic", 0.0)),
                float(fields.get("wall", 0.0)),
                EventKind(fields["kind"]),
                None if cause is None else Cause(cause),
                tuple(map(str, fields.get("evidence", ()))),
                fields.get("strategy"),
                fields.get("outcome"),
                int(fields.get("prediction", 0)),
                _details(fields.get("details")),
                hash_.hex(),
            )
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise IntegrityError(f"record {seq}: expected an event: {error!r}") from None


def _fit(text: str) -> str:
    is_plain = type(text) is str and len(text) <= MESSAGE and text.isprintable()
    return text if is_plain else shown(text, MESSAGE)


def _details(fields: object) -> dict[str, Any] | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise TypeError(f"details: expected an object, got {type(fields).__name__}")
    return fields


class Records(Protocol):
    """Where records outlive the process: a `Store`."""

    def append(self, body: bytes) -> tuple[int, bytes]:
        """Have a record written soon; return its number and the chain's hash. Waits for nothing."""
        ...


class Journal:
    """A bounded, ordered record of events; the oldest are dropped first.

    Parameters
    ----------
    capacity
        Events kept.
    on_event
        Called by `deliver` with every event, in order; what it raises is logged, not passed on.
    clock
        Monotonic seconds; `time.monotonic` unless a test brings its own.
    records
        Where every event is written as well, and what numbers them; None: memory alone.
    """

    def __init__(
        self,
        capacity: int,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] | None = None,
        records: Records | None = None,
    ) -> None:
        self._records = records
        self.predictions_before = 0
        """Predictions of earlier starts."""
        self._events: deque[Event] = deque(maxlen=capacity)
        self._on_event = on_event
        self._clock = time.monotonic if clock is None else clock
        self._next = 0
        self._undelivered: deque[Event] = deque(maxlen=capacity)
        self._delivering = _core.FairLock()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return tuple(self._events)[index]

    @property
    def is_telling(self) -> bool:
        """Whether the calling thread tells events just now: then it is inside of `on_event`."""
        return bool(self._delivering.mine)

    def add(
        self,
        kind: EventKind,
        prediction: int,
        *,
        cause: Cause | None = None,
        evidence: tuple[str, ...] = (),
        strategy: str | None = None,
        outcome: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Event:
        """Record an event, to be told to `on_event` by the next `deliver`."""
        event = Event(
            self._next,
            self._clock(),
            time.time(),
            kind,
            cause,
            evidence,
            strategy,
            outcome,
            self.predictions_before + prediction,
            details,
        )
        if self._records is not None:
            seq, head = self._records.append(event.to_record())
            event = replace(event, seq=seq, hash=head.hex())
        self._next += 1
        self._events.append(event)
        if self._on_event is not None:
            self._undelivered.append(event)
        return event

    def deliver(self) -> None:
        """Call `on_event` with every event since the last call, once a call's work is done.

        A callback may use the model, which may cause further events: those are told in the same
        call, but never more than the journal holds, so that it ends.
        """
        left = self._undelivered.maxlen or 0
        while self._undelivered and left and not self.is_telling:
            with self._delivering.attempt() as is_mine:
                if not is_mine:
                    return  # the thread that has it looks once more before it ends
                left = self._deliver(left)

    # A function of its own: in Python 3.13, what a signal's handler raises at the end of a `while`
    # loop right inside of a `with` passes by the end of that `with`.
    def _deliver(self, left: int) -> int:
        while self._undelivered and left:
            left -= 1
            self._tell(self._undelivered.popleft())
        return left

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # the user's callback must not take the model down
            logger().exception("on_event failed for %s", event)
