"""Damage to weights as radiation, stray writes, searched attacks and failing cells leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.bit_search import search_bits

__all__ = ["CORRUPTIONS", "Corruption", "Hits"]

Hits: TypeAlias = "tuple[tuple[int, int], ...]"
"""Offsets in an image, and what is flipped of the byte there: an exclusive or."""

_SEARCHED: Final = 5
_CANDIDATES: Final = 12
_TIMES: Final = 2  # after the second one the weights are moved away from the cell


class Corruption(NamedTuple):
    """One way in which weights get damaged."""

    kind: str
    hits: Callable[
        [npt.NDArray[np.int64], npt.NDArray[np.uint8], Callable[[], float], np.random.Generator],
        Sequence[Hits],
    ]
    """Offsets of weights, the live image, a score of it that harm lowers, and chance, to the hits
    of each round; rounds are healed one after the other. The image is as before afterwards."""


def _one_bit(
    offsets: npt.NDArray[np.int64],
    _: npt.NDArray[np.uint8],
    __: Callable[[], float],
    rng: np.random.Generator,
) -> Sequence[Hits]:
    return [((int(rng.choice(offsets)), 1 << int(rng.integers(8))),)]


def _run(
    offsets: npt.NDArray[np.int64],
    live: npt.NDArray[np.uint8],
    _: Callable[[], float],
    rng: np.random.Generator,
) -> Sequence[Hits]:
    """Overwrite a few to some dozens of bytes that lie together."""
    length = int(rng.integers(6, 48))
    start = int(rng.integers(max(1, len(offsets) - length)))
    hit = offsets[start : start + length]
    hit = hit[hit - hit[0] < length]  # within one region
    new = rng.integers(256, size=len(hit)).astype(np.uint8)
    return [tuple((int(at), int(live[at] ^ byte)) for at, byte in zip(hit, new, strict=True))]


def _searched(
    offsets: npt.NDArray[np.int64],
    live: npt.NDArray[np.uint8],
    score: Callable[[], float],
    rng: np.random.Generator,
) -> Sequence[Hits]:
    seed = int(rng.integers(2**31))
    found = search_bits(score, live, offsets, flips=_SEARCHED, candidates=_CANDIDATES, seed=seed)
    return [tuple((flip.offset, 1 << flip.bit) for flip in found)]


def _failing_cell(
    offsets: npt.NDArray[np.int64],
    _: npt.NDArray[np.uint8],
    __: Callable[[], float],
    rng: np.random.Generator,
) -> Sequence[Hits]:
    """Flip the same bit again after each time that it was healed."""
    hit = ((int(rng.choice(offsets)), 1 << int(rng.integers(8))),)
    return [hit] * _TIMES


CORRUPTIONS: Final = (
    Corruption("one bit", _one_bit),
    Corruption("run", _run),
    Corruption("searched", _searched),
    Corruption("failing cell", _failing_cell),
)
"""Their kinds are those that a diagnosis names."""
