"""Prove that a repair restored the model, and repeat it while new damage comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from selfheal_edge.errors import IntegrityError
from selfheal_edge.integrity.weights import CorruptBlock
from selfheal_edge.log import logger
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.repair import RepairCase, RepairOutcome, RepairTarget, Strategy
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["REPEATS", "Proof", "RepairAttempt", "RepairAttempts"]

REPEATS: Final = 3
"""Times that a repair is applied again because new damage came."""

Answer: TypeAlias = Callable[[Sequence[Sequence[Array]]], list[list[Array]]]


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a repair held what it claimed."""

    held: bool
    text: str


@dataclass(frozen=True, slots=True)
class RepairAttempt:
    """A strategy was applied and, if it claims to heal, held to its proof."""

    name: str
    applied: bool
    text: str
    """What was done, or why not."""
    case: RepairCase = field(default_factory=RepairCase)
    """What was repaired: new damage may have come meanwhile."""
    held: bool | None = None
    """What the proof said; None for a strategy that claims nothing."""
    proof: str = ""
    failed: bool = False
    """Whether it raised, which `text` tells."""
    repeats: int = 0
    """Times that it was applied again."""


class RepairAttempts:
    """Applies strategies and has them proven.

    While bits go on flipping, a strategy or its proof sees flips that are younger than the repair.
    Those say nothing against it, and nothing larger would hold any better: they are repaired too.

    Parameters
    ----------
    target
        What strategies are applied to.
    known
        Questions and exact answers, by the generation that they are of; looked up at every proof.
    answer
        Runs the model without touching its state.
    """

    def __init__(
        self, target: RepairTarget, known: Mapping[int, KnownAnswers], answer: Answer
    ) -> None:
        self._target = target
        self._known = known
        self._answer = answer
        self._repeated = 0

    def attempt(self, strategy: Strategy, case: RepairCase) -> RepairAttempt:
        """Apply a strategy and have its claim proven; what it raises is told, not passed on."""
        before, proof = self._repeated, None
        try:
            outcome, case = self._apply(strategy, case)
            if outcome.applied and strategy.heals:
                proof = self._prove_repeatedly(strategy, case)
        except Exception as error:
            logger().warning("%s failed", strategy.name, exc_info=error)
            repeats = self._repeated - before
            text = f"{type(error).__name__}: {error}"
            return RepairAttempt(strategy.name, False, text, case, failed=True, repeats=repeats)
        return RepairAttempt(
            strategy.name,
            outcome.applied,
            outcome.text,
            case,
            held=None if proof is None else proof.held,
            proof="" if proof is None else proof.text,
            repeats=self._repeated - before,
        )

    def prove(self) -> Proof:
        """Check every byte, then ask the known answers and compare bit for bit."""
        weights = self._target.weights
        known = self._known[weights.origin(weights.active)]
        if corrupt := weights.check():
            return Proof(False, f"{len(corrupt)} block(s) are still corrupt")
        if not known.matches(self._answer(known.inputs)):
            return Proof(False, "every checksum holds, but the known answers are wrong")
        return Proof(True, f"every checksum holds and {len(known.inputs)} known answers are exact")

    def _apply(self, strategy: Strategy, case: RepairCase) -> tuple[RepairOutcome, RepairCase]:
        """Apply a strategy, anew where new damage kept it from building; return outcome and case.

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
                self._repeated += 1
        return strategy.apply(self._target, case), case

    def _prove_repeatedly(self, strategy: Strategy, case: RepairCase) -> Proof:
        """Prove a strategy that was applied; apply it again to what is damaged only now."""
        proof = self.prove()
        for _ in range(REPEATS):
            if proof.held:
                break
            fresh = self._newer_than(case)
            if not fresh:
                break
            outcome, case = self._apply(strategy, RepairCase(fresh))
            if not outcome.applied:
                break
            self._repeated += 1
            proof = self.prove()
        return proof

    def _newer_than(self, case: RepairCase) -> tuple[CorruptBlock, ...]:
        """Return what is corrupt now; nothing where the strategy left older damage."""
        fresh = self._target.weights.check()
        before = {(b.image, b.block) for b in case.corrupt}
        return () if any((b.image, b.block) in before for b in fresh) else fresh
