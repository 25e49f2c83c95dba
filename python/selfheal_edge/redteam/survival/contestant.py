"""What lives a device's life: one model, and what is done for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.clock import SimulatedClock

__all__ = ["NAMES", "OWNER", "Answers", "Asked", "Contestant", "Costs", "Told"]

NAMES: Final = ("defended", "undefended", "naive", "operator")
"""Of all that compete, the one that is judged first."""
OWNER: Final = "owner"
"""The honest source of labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a contestant said to n inputs."""

    outputs: Raw
    """Raw output 0, shape (n, *its shape)."""
    labels: npt.NDArray[np.int64]
    """Shape (n,); -1 where there are no classes."""
    trusted: npt.NDArray[np.bool_]
    """Whether it stands by its answer, shape (n,)."""
    ids: npt.NDArray[np.int64]
    """What feedback names them by, shape (n,)."""


class Asked(NamedTuple):
    """An input whose label a contestant would like to know."""

    id: int
    input: Raw | None
    answers: tuple[int, ...] = ()


class Told(NamedTuple):
    """Something that a contestant noticed or did."""

    prediction: int
    """Predictions that it had answered before."""
    kind: str
    """As `EventKind` has it: ``"alarm"``, ``"diagnosis"``, ``"repair"`` …"""
    cause: str | None = None
    outcome: str | None = None
    strategy: str | None = None


@dataclass(slots=True)
class Costs:
    """What a contestant has cost so far."""

    cpu_seconds: float = 0.0
    """Of everything that it did."""
    memory_bytes: int = 0
    """Beside the runtime's own."""
    flash_bytes: int = 0
    """Written."""


class Contestant(Protocol):
    """A device under attack. One thread."""

    name: str
    clock: SimulatedClock
    folder: Path
    """Its flash: the model's file, and a store where it has one."""
    told: list[Told]
    predictions: int

    @property
    def model_file(self) -> Path:
        """The file that it starts from."""
        ...

    @property
    def store_file(self) -> Path | None:
        """What it keeps across restarts; None where it keeps nothing."""
        ...

    def serve(self, raw: Raw) -> Answers:
        """Answer n inputs, shape (n, *sample), one after the other; the clock goes on meanwhile."""
        ...

    def run_aside(self, raw: Raw) -> Raw:
        """Return the raw outputs that it would give now, unseen by it: for the one who judges."""
        ...

    def serves(self) -> str:
        """Name what serves now: ``"golden"``, or something that was learned."""
        ...

    def hour_begins(self) -> None:
        """Do what is done by the hour."""
        ...

    def is_worried(self) -> bool:
        """Whether it says of itself that something is wrong, or that it tries something."""
        ...

    def wanted(self, limit: int) -> Sequence[Asked]:
        """Return inputs whose label it would like to know."""
        ...

    def feedback(self, label: Any, id: int, source: str, *, authenticated: bool = False) -> bool:
        """Tell it a label; return whether it took it in.

        A class; of a regressor the numbers that were right; of an autoencoder whether its input was
        normal.
        """
        ...

    def memory(self, image: str = "executing") -> npt.NDArray[np.uint8] | None:
        """Return a writable view of live bytes, to be dropped at once; None where it has none.

        Parameters
        ----------
        image
            ``"source"``, ``"packed"``, ``"executing"`` (whichever of them runs), ``"input"``; of
            the defended model ``"tables"``, ``"parity"`` and ``"snapshots"`` as well: the largest
            stretch of these that guards what executes.
        """
        ...

    def report(self) -> dict[str, Any]:
        """Return what an attacker sees who reads every health report."""
        ...

    def restart(self, *, clean: bool) -> None:
        """Start anew: after `close`, or after the power went."""
        ...

    def costs(self) -> Costs:
        """Return what it has cost so far."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...
