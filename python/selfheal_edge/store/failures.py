"""What failed on this device: remembered, so that it is not tried again and again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from selfheal_edge.text import MESSAGE, shown

__all__ = ["Failure", "failures_from", "with_failure"]

_MOST: Final = 32


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was tried on this device and did not hold."""

    what: Literal["repair", "generation", "update"]
    """A strategy; weights that were changed on purpose; a model file."""
    name: str
    """The strategy and the cause that it was for; or the SHA-256 of the weights or the file."""
    reason: str
    """Why it did not hold, the latest time."""
    times: int = 1
    prediction: int = 0
    """Predictions before the latest time, since the store was made."""

    def __post_init__(self) -> None:
        """Make texts fit to be shown."""
        object.__setattr__(self, "name", shown(self.name))
        object.__setattr__(self, "reason", shown(self.reason, MESSAGE))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def with_failure(held: tuple[Failure, ...], failed: Failure) -> tuple[Failure, ...]:
    """Return the failures with one more; of many, the oldest goes, repairs before all else."""
    others = [f for f in held if (f.what, f.name) != (failed.what, failed.name)]
    times = sum(f.times for f in held if (f.what, f.name) == (failed.what, failed.name))
    kept = [*others, replace(failed, times=times + failed.times)]
    while len(kept) > _MOST:
        repairs = [f for f in kept if f.what == "repair"]
        kept.remove(repairs[0] if repairs else kept[0])
    return tuple(kept)


def failures_from(rows: Iterable[Mapping[str, Any]]) -> tuple[Failure, ...]:
    """Read what `Failure.to_dict` returned of each.

    Raises
    ------
    ValueError, TypeError, LookupError
        When a row is not one.
    """
    return tuple(
        Failure(
            row["what"],
            str(row["name"]),
            str(row["reason"]),
            int(row["times"]),
            int(row["prediction"]),
        )
        for row in rows
    )
