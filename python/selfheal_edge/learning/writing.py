"""Make a patch of a head that was learned: bounded, within the output's range, and remembered."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.head import Head, capped, head_changes, into_range
from selfheal_edge.learning.material import Material, Note
from selfheal_edge.learning.patch import InputMap, Patch

__all__ = ["MOST_DISTANCE", "after", "write_head"]

Floats = npt.NDArray[np.float64]

MOST_DISTANCE: Final = 4.0
"""How far a head may lie from golden's (`learning.head.distance`), whatever samples say."""


def after(start: Patch, text: str) -> str:
    """Return what a patch says of itself that extends another one."""
    return f"{start.text}, {text}" if start.text else text


def write_head(
    material: Material,
    head: Head,
    weights: Floats,
    bias: Floats,
    correction: InputMap | None,
    text: str,
    out_of_fold: npt.NDArray[np.int64] | None = None,
) -> Patch | str:
    """Return a patch with this head, or why it cannot be written.

    Parameters
    ----------
    material, head
        Where it is noted; golden's head.
    weights, bias
        In real units, for embeddings as the layer gets them.
    correction
        Of the inputs that the head was learned behind.
    text
        What was done, for the journal.
    out_of_fold
        `Note.out_of_fold`.
    """
    inside = material.embeddings(material.window, correction)
    mean = spread = None
    if material.reference.embeddings is not None:
        mean, spread = material.reference.embeddings.of_mix(material.reference.priors)
    try:
        weights, bias = capped(head, weights, bias, MOST_DISTANCE, mean, spread)
        if inside is not None:
            bias = into_range(head, weights, bias, inside)
        here = None if inside is None or not len(inside) else inside.mean(axis=0)
        changes = head_changes(head, weights, bias, here)
    except ValueError as error:
        return f"the last layer cannot hold what was learned: {error}"
    note = Note(weights, bias, out_of_fold)
    return material.note(Patch(changes, correction, text), note)
