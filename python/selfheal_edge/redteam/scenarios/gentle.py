"""Harmless variations: what keeps a stream from repeating a pool that is too small for it."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.redteam.scenarios.domain import Domain, Real

__all__ = ["vary"]

_FRAMES: Final = 0.04
"""How far a spectrogram moves in time, of its length."""
_NOISE: Final = 0.02
"""Of the unit."""


def vary(real: Real, domain: Domain, rng: np.random.Generator) -> Real:
    """Return slightly other samples of the same scenes.

    All get noise of 2 % of their unit, but values at an end of the range stay there: what is dark
    or saturated stays so. Spectrograms move by some frames as well. Anything more, a gain of some
    percent or a shift by a pixel, is a drift for some models.
    """
    varied = real
    if domain.kind == "spectrogram":
        n, frames = np.arange(len(real))[:, None], real.shape[1]
        most = round(_FRAMES * frames)
        steps = rng.choice((-1, 1), n.shape) * rng.integers(min(1, most), most + 1, n.shape)
        # The edge's own values go on beyond it.
        varied = real[n, np.clip(np.arange(frames) + steps, 0, frames - 1)]
    noise = _NOISE * domain.unit
    is_inside = (varied > domain.low + noise) & (varied < domain.high - noise)
    trembling = domain.inside(varied + noise * rng.normal(size=real.shape))
    return np.where(is_inside, trembling, varied)
