"""Prove that a repair restored the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfheal_edge.baseline import KnownAnswers
from selfheal_edge.tflite.protocol import Array
from selfheal_edge.weights import Weights

__all__ = ["Proof", "prove_restored"]


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
