"""What a loop knows that outlives its process, as bytes and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.errors import IntegrityError
from selfheal_edge.loop.learned_repair import ALLOWANCE, LearnedRepair, Putoff
from selfheal_edge.loop.state import Counters, LoopState
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.monitoring.regimes import RegimeTable
from selfheal_edge.repair.certificate import Certificate
from selfheal_edge.store.failures import Failure, failures_from
from selfheal_edge.trial.betting import Evidence

__all__ = ["BUDGET_ROW", "LEARNED_ROWS", "Frozen", "Remembered"]


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
    learned: tuple[LearnedRepair, ...] = ()
    put_off: tuple[Putoff, ...] = ()
    """With predictions left to wait in place of `until`."""
    allowance: float = ALLOWANCE
    named: int = 0
    leaving: tuple[tuple[int, str | None], ...] = ()
    home: int = 0
    condition: str = ""
    """The one of `learned` that serves; empty: none of them does."""
    knows_level: bool = False
    """Whether charts have learned that condition's level, or had tried to."""

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
            state.learned,
            tuple(replace(p, until=max(0, p.until - state.now.prediction)) for p in state.put_off),
            state.allowed,
            state.named,
            state.leaving,
            state.home,
            state.condition,
            bool(state.condition) and state.learning is None,
        )

    def without_learned(self) -> Remembered:
        """Return what holds of another model file: what was learned is of the one before."""
        return replace(self, learned=(), put_off=(), leaving=(), home=0, condition="")

    def with_learned(self, other: Remembered) -> Remembered:
        """Return this with what another one has learned."""
        return replace(
            self,
            learned=other.learned,
            put_off=other.put_off,
            leaving=other.leaving,
            home=other.home,
            condition=other.condition,
            knows_level=other.knows_level,
        )

    def going_on(self, most: int) -> tuple[Remembered, frozenset[int]]:
        """Return what holds where probations go on, and the generations of those that do.

        `most`: `Policy.probation_restarts`. Each is counted, so that no row of crashes goes on.
        """
        on_trial = (r for r in self.learned if not r.is_confirmed and r.restarts < most)
        numbers = frozenset(r.generation for r in on_trial)
        learned = tuple(
            replace(r, restarts=r.restarts + (r.generation in numbers)) for r in self.learned
        )
        return replace(self, learned=learned), numbers

    @property
    def in_service(self) -> int | None:
        """The generation of the learned repair that serves."""
        serving = (r.generation for r in self.learned if r.condition == self.condition)
        return next(serving, None)

    def without_charts(self, *, is_same_calibration: bool = False) -> Remembered:
        """Return what holds where the monitor begins anew: it will hear again what goes on.

        Conditions are told apart by what calibration knows of inputs: with another one, what was
        learned for them leaves.
        """
        gone = () if is_same_calibration else self.learned
        return Remembered(
            self.count,
            self.failures,
            predictions=self.predictions,
            returns=self.returns,
            healed=self.healed,
            learned=self.learned if is_same_calibration else (),
            leaving=(*self.leaving, *((r.generation, r.condition) for r in gone)),
            put_off=self.put_off,
            allowance=self.allowance,
            named=self.named,
            home=self.home,
            condition=self.condition if is_same_calibration else "",
        )

    def unknown(self, generations: Iterable[int]) -> tuple[int, ...]:
        """Return those, of generations that were learned, of which no repair is known."""
        known = {g for r in self.learned for g in (r.generation, r.confirmed)}
        known.update(gone for gone, _ in self.leaving)
        return tuple(sorted(set(generations) - known))

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
            "learned": [_fields_of(repair) for repair in self.learned],
            "put_off": [{**asdict(waits), "cause": waits.cause.value} for waits in self.put_off],
            "allowance": self.allowance,
            "named": self.named,
            "leaving": [list(one) for one in self.leaving],
            "home": self.home,
            "condition": self.condition,
            "knows_level": self.knows_level,
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
                tuple(map(_learned, fields.get("learned", ()))),
                tuple(map(_putoff, fields.get("put_off", ()))),
                float(fields.get("allowance", ALLOWANCE)),
                int(fields.get("named", 0)),
                tuple(
                    (int(number), None if name is None else str(name))
                    for number, name in fields.get("leaving", ())
                ),
                int(fields.get("home", 0)),
                str(fields.get("condition", "")),
                bool(fields.get("knows_level", False)),
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"loop: expected a readable row: {error!r}") from None


def _fields_of(repair: LearnedRepair) -> dict[str, Any]:
    return {
        "condition": repair.condition,
        "diagnosis": repair.diagnosis.to_dict(),
        "generations": list(repair.generations),
        "error": repair.error,
        "harm": repair.harm,
        "evidence": repair.evidence.to_dict(),
        "confirmed": repair.confirmed,
        "labels": repair.labels,
        "seen_last": repair.seen_last,
        "restarts": repair.restarts,
        "certificate": None if repair.certificate is None else repair.certificate.to_dict(),
    }


def _learned(fields: Mapping[str, Any]) -> LearnedRepair:
    generations = tuple(map(int, fields["generations"]))
    if not generations or min(generations) < 1:
        raise ValueError(f"generations: expected numbers of at least 1, got {generations}")
    certificate = fields.get("certificate")
    return LearnedRepair(
        str(fields["condition"]),
        Diagnosis.from_dict(fields["diagnosis"]),
        generations,
        float(fields["error"]),
        Evidence.from_dict(fields["evidence"]),
        harm=float(fields["harm"]),
        confirmed=None if fields["confirmed"] is None else int(fields["confirmed"]),
        labels=int(fields["labels"]),
        seen_last=int(fields["seen_last"]),
        restarts=int(fields.get("restarts", 0)),
        certificate=None if certificate is None else Certificate.from_dict(certificate),
    )


def _putoff(fields: Mapping[str, Any]) -> Putoff:
    numbers = (int(fields[name]) for name in ("until", "pause", "labels"))
    return Putoff(Cause(fields["cause"]), *numbers)


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


BUDGET_ROW: Final = "repair budget"
LEARNED_ROWS: Final = ("conditions", BUDGET_ROW)
"""Names of the rows of what was learned."""


class Frozen(NamedTuple):
    """What a store keeps of a model, all of one moment."""

    known: Remembered
    """By the loop."""
    monitor: Callable[[], bytes] | None
    """Gives the monitor's state, where it has one that can be kept."""
    regimes: RegimeTable | None
    """The operating conditions that the monitor knows."""
    learned: Mapping[str, bytes]
    """By `LEARNED_ROWS`."""
