"""Prove that a repair restored the model, and repeat it while new damage comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.weights import CorruptBlock, Weights
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget, Strategy
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["REPEATS", "Proof", "RepairAttempts", "prove_restored"]

REPEATS: Final = 3
"""Times that a repair is applied again because new damage came."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a repair held what it claimed."""

    held: bool
    text: str


def prove_restored(
    weights: Weights,
    known: KnownAnswers,
    answer: Callable[[Sequence[Sequence[Array]]], list[list[Array]]],
) -> Proof:
    """Check every byte, then ask the known answers and compare bit for bit.

    Parameters
    ----------
    weights
        The images to check.
    known
        Questions and exact answers of the state that should be back.
    answer
        Runs the model without touching its state.
    """
    corrupt = weights.check()
    if corrupt:
        return Proof(False, f"{len(corrupt)} block(s) are still corrupt")
    if not known.matches(answer(known.inputs)):
        return Proof(False, "every checksum holds, but the known answers are wrong")
    return Proof(True, f"every checksum holds and {len(known.inputs)} known answers are exact")


class RepairAttempts:
    """Applies strategies and has them proven.

    While bits go on flipping, a strategy or its proof sees flips that are younger than the repair.
    Those say nothing against it, and nothing larger would hold any better: they are repaired too.

    Parameters
    ----------
    target
        What strategies are applied to.
    prove
        Checks every byte and every known answer.
    """

    def __init__(self, target: RepairTarget, prove: Callable[[], Proof]) -> None:
        self._target = target
        self._prove = prove
        self.repeated = 0
        """Times that a strategy was applied again."""

    def apply(self, strategy: Strategy, case: RepairCase) -> tuple[RepairOutcome, RepairCase]:
        """Apply a strategy, again if new damage made it refuse to build; return the case at last.

        Raises
        ------
        Exception
            The strategy's own.
        """
        for _ in range(REPEATS):
            try:
                return strategy.apply(self._target, case), case
            except IntegrityError:
                fresh = self._newer_than(case)
                if not fresh:
                    raise
                case = RepairCase((*case.corrupt, *fresh))
                self.repeated += 1
        return strategy.apply(self._target, case), case

    def prove(self, strategy: Strategy, case: RepairCase) -> Proof:
        """Prove a strategy that was applied; apply it again to what is damaged only now."""
        proof = self._prove()
        for _ in range(REPEATS):
            if proof.held:
                break
            fresh = self._newer_than(case)
            if not fresh:
                break
            outcome, case = self.apply(strategy, RepairCase(fresh))
            if not outcome.applied:
                break
            self.repeated += 1
            proof = self._prove()
        return proof

    def _newer_than(self, case: RepairCase) -> tuple[CorruptBlock, ...]:
        """Return what is corrupt now, unless some of it was before: a strategy has left that."""
        fresh = self._target.weights.check()
        before = {(b.image, b.block) for b in case.corrupt}
        return () if any((b.image, b.block) in before for b in fresh) else fresh
