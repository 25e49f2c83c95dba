"""Search for the few bits that hurt a model most, as an attacker with labelled data would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["FoundFlip", "search_bits"]


class FoundFlip(NamedTuple):
    """One flip of a searched attack."""

    offset: int
    """Byte in the image."""
    bit: int
    score: float
    """Mean score of the right class once it and all before it are flipped."""


def search_bits(
    score: Callable[[], float],
    live: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    *,
    flips: int,
    candidates: int = 64,
    bits: Sequence[int] = (7, 6),
    seed: int | None = None,
) -> list[FoundFlip]:
    """Find harmful flips greedily: of many candidates keep the worst, then look for the next.

    Progressive bit search (Rakin, He and Fan, 2019) ranks candidates by gradients; here nothing but
    answers is seen, so candidates are drawn at random and tried.

    Parameters
    ----------
    score
        Runs the model; the lower, the more harm: mean score of the right classes, or accuracy.
    live
        The image that executes, writable; it is as before afterwards.
    offsets
        Bytes to attack.
    flips
        Length of the attack.
    candidates
        Tries for each flip; each costs one call of `score`.
    bits
        Which bits of a byte; the high ones of an int8 weight hurt most.
    seed
        None draws from the operating system.

    References
    ----------
    Rakin, He and Fan, "Bit-Flip Attack: Crushing Neural Network with Progressive Bit Search",
    ICCV 2019.
    """
    rng = np.random.default_rng(seed)
    found: list[FoundFlip] = []
    try:
        for _ in range(flips):
            worst: FoundFlip | None = None
            for _ in range(candidates):
                offset, bit = int(rng.choice(offsets)), int(rng.choice(bits))
                live[offset] ^= np.uint8(1 << bit)
                try:
                    now = score()
                finally:
                    live[offset] ^= np.uint8(1 << bit)
                if worst is None or now < worst.score:
                    worst = FoundFlip(offset, bit, now)
            assert worst is not None
            live[worst.offset] ^= np.uint8(1 << worst.bit)
            found.append(worst)
    finally:
        for flip in found:
            live[flip.offset] ^= np.uint8(1 << flip.bit)
    return found
