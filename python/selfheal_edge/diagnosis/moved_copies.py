"""Copies of inputs that were moved by one step: what was crafted to the element misses on them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import Floats, Layout
from selfheal_edge.diagnosis.profile import Profile

__all__ = ["COST", "MOST_COST", "count_of", "moved_copies", "raw_copies"]

COST: Final = "moved"
"""Name of the bound that says what answers from copies cost calibration's accuracy."""
MOST_COST: Final = 0.01
"""Accuracy that they may cost."""


def count_of(layout: Layout) -> int:
    """Return how many copies there are of an input; 0 where neighbours are not alike."""
    return 2 * len(layout.smooth)


def moved_copies(layout: Layout, x: Floats) -> Floats:
    """Return inputs moved by one step each way along every smooth axis; edges are repeated.

    Parameters
    ----------
    layout
        What inputs are made of.
    x
        Shape (n, *layout.shape), in real units.

    Returns
    -------
    numpy.ndarray
        Shape (copies, n, *layout.shape).
    """
    copies = []
    for axis in layout.smooth:
        size = x.shape[axis + 1]
        copies.append(np.take(x, [0, *range(size - 1)], axis + 1))
        copies.append(np.take(x, [*range(1, size), size - 1], axis + 1))
    return np.stack(copies) if copies else np.empty((0, *x.shape), np.float32)


def raw_copies(profile: Profile, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same of raw inputs, shape (n, ...), as raw inputs: shape (copies, n, ...)."""
    layout = profile.layout
    x = inputs.reshape(len(inputs), *layout.shape)
    copies = moved_copies(layout, x)
    return np.asarray(copies.reshape(len(copies), *inputs.shape), inputs.dtype)
