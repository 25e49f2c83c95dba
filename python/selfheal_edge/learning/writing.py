"""Make a patch of a head that was learned: bounded, within the output's range, and remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from selfheal_edge.learning.head import Head, capped, head_changes, into_range, with_room
from selfheal_edge.learning.material import Material, Note
from selfheal_edge.learning.patch import InputMap, Patch

__all__ = ["MOST_DISTANCE", "after", "write_head"]

MOST_DISTANCE: Final = 4.0
"""How far a head may lie from golden's (`learning.head.distance`), whatever samples say."""


def after(start: Patch, text: str) -> str:
    """Return what a patch says of itself that extends another one."""
    return f"{start.text}, {text}" if start.text else text


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
