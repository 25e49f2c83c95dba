"""Bytes of the weights that were wrong: what a diagnosis of the next ones is told of them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HealedByte"]


class HealedByte(NamedTuple):
    """A byte that was wrong."""

    image: str
    offset: int
    mask: int = 0
    """The exclusive or with what it should have been; 0 where a restart has forgotten it."""
    prediction: int = 0
    """Predictions before it was found."""
