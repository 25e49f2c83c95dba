"""Make a patch of a head that was learned: bounded, within the output's range, and remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from selfheal_edge.learning.head import Head, capped, head_changes, into_range, with_room
from selfheal_edge.learning.material import Material, Note
from selfheal_edge.learning.patch import InputMap, Patch

__all__ = ["MOST_DISTANCE", "after", "correct_inputs", "write_head"]

MOST_DISTANCE: Final = 4.0
"""How far a head may lie from golden's (`learning.head.distance`), whatever samples say."""


def after(start: Patch, text: str) -> str:
    """Return what a patch says of itself that extends another one."""
    return f"{start.text}, {text}" if start.text else text


def correct_inputs(
    material: Material, start: Patch, correction: InputMap, text: str
) -> Patch | str:
    """Return a patch that corrects inputs, and is otherwise as another one; or why there is none.

    An autoencoder's answer is compared with what came in: its last layer undoes what is corrected.
    """
    note = material.noted(start)
    if not material.reconstructs:
        patch = Patch(start.changes, correction, after(start, text))
        return patch if note is None else material.note(patch, note)
    if material.head is None or note is None or len(note.bias) != material.window[0].size:
        return "there is no last layer that could undo a correction of the inputs"
    if (correction.gain == 0).any():
        return "a channel that says nothing cannot be given back"
    shape = material.reference.inputs.shape[1:]
    along = [1] * len(shape)
    along[correction.axis] = -1
    gain, offset = (
        np.broadcast_to(part.astype(np.float64).reshape(along), shape).ravel()
        for part in (correction.gain, correction.offset)
    )
    undone = replace(note, weights=note.weights / gain[:, None], bias=(note.bias - offset) / gain)
    return write_head(material, material.head, undone, correction, after(start, text))


def write_head(
    material: Material,
    head: Head,
    note: Note,
    correction: InputMap | None,
    text: str,
) -> Patch | str:
    """Return a patch with this head, and inner layers; or why it cannot be written.

    Parameters
    ----------
    material, head
        Where it is noted; golden's head.
    note
        What is known of it.
    correction
        Of the inputs that the head was learned behind.
    text
        What was done, for the journal.
    """
    weights, bias = note.weights, note.bias
    inside = material.embeddings(material.window, correction, note.inner)
    mean = spread = None
    if material.reference.embeddings is not None:
        mean, spread = material.reference.embeddings.of_mix(material.reference.priors)
    try:
        weights, bias = capped(head, weights, bias, MOST_DISTANCE, mean, spread)
        if inside is not None:
            bias = into_range(head, weights, bias, inside)
        here = None if inside is None or not len(inside) else inside.mean(axis=0)
        written = head
        room: tuple[tuple[int, bytes], ...] = ()
        if inside is not None and head.is_regression:
            written, room = with_room(head, head.logits(inside, weights, bias))
        changes = (*head_changes(written, weights, bias, here), *room)
    except ValueError as error:
        return f"the last layer cannot hold what was learned: {error}"
    patch = Patch(tuple(sorted((*note.inner, *changes))), correction, text)
    return material.note(patch, replace(note, weights=weights, bias=bias))
