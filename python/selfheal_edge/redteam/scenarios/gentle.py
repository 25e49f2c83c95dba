"""Harmless variations: what keeps a stream from repeating a pool that is too small for it."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Domain, Real

__all__ = ["vary"]

_SHIFT: Final = 0.04  # of an axis
_GAINS: Final = (0.01, 0.03)
_VECTOR_NOISE: Final = 0.05  # of the deviation


def vary(real: Real, domain: Domain, rng: np.random.Generator) -> Real:
    """Return slightly other samples of the same scenes.

    Images and spectrograms move by whole pixels or frames, up to 4 % of their size, so that nothing
    is blurred, and their gain changes by some percent, so that what stands at the floor stays
    there. Features get noise of 5 % of their deviation.
    """
    if domain.kind == "vector":
        return domain.inside(real + _VECTOR_NOISE * domain.unit * rng.normal(size=real.shape))
    n = np.arange(len(real)).reshape(-1, *([1] * (real.ndim - 1)))
    places = list(np.ogrid[tuple(slice(0, length) for length in real.shape[1:])])
    for axis in (0, 1) if domain.kind == "image" else (0,):
        length = real.shape[1 + axis]
        most = round(_SHIFT * length)
        steps = rng.choice((-1, 1), n.shape) * rng.integers(min(1, most), most + 1, n.shape)
        # The edge's own values go on beyond it.
        places[axis] = np.clip(places[axis] + steps, 0, length - 1)
    moved = np.asarray(real[tuple([n, *places])])  # noqa: RUF005 — Python 3.10 has no other way
    pivot = domain.low if domain.kind == "image" else domain.centre
    gain = np.exp(rng.choice((-1.0, 1.0), n.shape) * rng.uniform(*_GAINS, n.shape))
    return domain.inside(pivot + (moved - pivot) * gain)
