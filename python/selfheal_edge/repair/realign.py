"""Bring inputs and embedding back to where golden learned them, without any label."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.learning.alignment import (
    align_embedding,
    align_inputs,
    folded,
    unexplained_shift,
)
from selfheal_edge.learning.head import Head
from selfheal_edge.learning.material import LEAST_WINDOW, Material, Note
from selfheal_edge.learning.patch import InputMap, Patch
from selfheal_edge.learning.writing import correct_inputs, write_head

__all__ = ["Realign"]

_INPUT_PART: Final = 0.75
_ALL_CHANNELS: Final = frozenset({"gain", "offset", "noisy"})
"""Kinds of sensor fault that leave what the sensor saw in what it sends."""
_EMBEDDING_PART: Final = 1.0
"""Of the way; tuned on drifts that score nothing (docs/learning.md)."""
_PULL: Final = 16  # inputs that a window's moments are pulled to calibration's by
_LEAST_SHIFT: Final = 0.2
_LEAST_SHIFT_WITH_LABELS: Final = 0.1  # where labels will judge what comes of it


class Realign:
    """Map each feature's, then each embedding dimension's, mean and spread onto calibration's.

    Parameters
    ----------
    embedding
        Whether the embedding is aligned as well.
    """

    learns: Final = True

    def __init__(self, *, embedding: bool = True) -> None:
        self._embedding = embedding
        self.name = "realign" if embedding else "realign_inputs"

    def propose(self, material: Material, start: Patch) -> Patch | str:
        """Align the inputs with a table, the embedding with the head's weights.

        Not on a stream whose embeddings are as in calibration but for the mix of classes; and
        without labels not where that mix moved, for then means move as well, with no drift at all.
        """
        reason = _why_not(material)
        if reason:
            return reason
        reference = material.reference
        correction = start.inputs
        if correction is None and material.can_correct_inputs:
            whole = 1.0 if material.reconstructs else _INPUT_PART  # what is left is error there
            part = _part(whole, material)
            correction = align_inputs(reference, material.window, material.shares, part)
        head, note = material.head, material.noted(start)
        if not self._embedding or head is None or note is None or reference.embeddings is None:
            return _with_inputs(material, start, correction)
        return _with_embedding(material, head, note, correction)


def _why_not(material: Material) -> str:
    count = len(material.window)
    if count < LEAST_WINDOW:
        return f"{count} inputs of at least {LEAST_WINDOW}"
    if material.cause is Cause.SENSOR_FAULT and material.kind not in _ALL_CHANNELS:
        return "what a broken sensor sends says nothing of the condition"
    if material.cause is Cause.LABEL_SHIFT:
        return "the mix of classes moved, not the inputs of a class"
    if material.is_mix_in_doubt:
        return "the mix of classes moved, or may have, and labels do not tell how"
    before = material.embeddings(material.window)
    if before is not None and material.reference.embeddings is not None:
        shift = unexplained_shift(material.reference, before)
        least = _LEAST_SHIFT_WITH_LABELS if len(material.labelled) else _LEAST_SHIFT
        if shift < least:
            return f"embeddings are as in a mix of calibration's classes (shift {shift:.2f})"
    return ""


def _part(whole: float, material: Material) -> float:
    count = len(material.window)
    return whole * count / (count + _PULL)


def _with_inputs(material: Material, start: Patch, correction: InputMap | None) -> Patch | str:
    if correction is None or correction is start.inputs:
        return "there is nothing that can be aligned"
    return correct_inputs(material, start, correction, "inputs aligned")


def _with_embedding(
    material: Material, head: Head, note: Note, correction: InputMap | None
) -> Patch | str:
    inside = material.embeddings(material.window, correction)
    if inside is None:
        return "there is no embedding"
    part = _part(_EMBEDDING_PART, material)
    gain, offset = align_embedding(material.reference, inside, material.shares, part)
    weights, bias = folded(note.weights, note.bias, gain, offset)
    text = "embedding aligned" if correction is None else "inputs and embedding aligned"
    return write_head(material, head, Note(weights, bias), correction, text)
