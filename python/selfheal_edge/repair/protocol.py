"""What a repair strategy is given, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from selfheal_edge.integrity.weights import CorruptBlock, Weights
from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch

__all__ = [
    "LearningStrategy",
    "RepairCase",
    "RepairOutcome",
    "RepairTarget",
    "Strategy",
    "is_costly",
]


@dataclass(frozen=True, slots=True)
class RepairCase:
    """What is to be repaired."""

    corrupt: tuple[CorruptBlock, ...] = ()
    """Blocks whose checksum does not hold; none for a trouble outside the weights."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that read a corrupt block."""
        return tuple(dict.fromkeys(m for block in self.corrupt for m in block.modules))


@dataclass(frozen=True, slots=True)
class RepairOutcome:
    """What a strategy did."""

    applied: bool
    """Whether there was anything that it could do; if not, the next strategy is tried."""
    text: str
    """In words, for the journal."""


class RepairTarget(Protocol):
    """The model as a strategy sees it."""

    @property
    def weights(self) -> Weights:
        """Its images, with their snapshots."""
        ...

    def rebuild(self) -> None:
        """Build the runtime's instance anew from the live source bytes, and swap it in."""
        ...

    def move(self) -> str:
        """Serve the active generation from fresh memory, and keep the old unused; say which it is.

        Raises
        ------
        IntegrityError
            When that was done too often: the memory fails in many places.
        """
        ...

    def reload(self) -> None:
        """Write the model file's verified bytes anew, build from them, and guard the result.

        Raises
        ------
        IntegrityError
            When the file's bytes in memory are not what the model was opened with any more.
        """
        ...

    def mark_untrusted(self) -> None:
        """Flag every answer from now on, until the trouble is over."""
        ...


class Strategy(Protocol):
    """One kind of repair."""

    @property
    def name(self) -> str:
        """Its name in `Policy.responses` and in the journal."""
        ...

    @property
    def heals(self) -> bool:
        """Whether it claims to restore the model, so that the claim has to be proven."""
        ...

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
        """Do it, and say what was done."""
        ...


@runtime_checkable
class LearningStrategy(Protocol):
    """One kind of repair that is learned: it writes nothing, and returns what it would write."""

    @property
    def name(self) -> str:
        """Its name in `Policy.responses` and in the journal."""
        ...

    @property
    def learns(self) -> Literal[True]:
        """What tells it from a `Strategy`."""
        ...

    def propose(self, material: Material, start: Patch) -> Patch | str:
        """Extend a patch, or say in words why not.

        Parameters
        ----------
        material
            What is known of the condition.
        start
            What strategies before this one have made; golden's, that changes nothing, at first.
        """
        ...


def is_costly(strategy: LearningStrategy) -> bool:
    """Return whether one takes seconds, so that it is asked once and last (`is_costly = True`)."""
    return bool(getattr(strategy, "is_costly", False))
