"""Other answers than the model's own, put where those were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from selfheal_edge.health import Prediction, Predictions
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["Given", "Giver", "with_others"]


class Given(NamedTuple):
    """Another answer to one input."""

    output: Array
    """Of the shape and dtype of the model's own."""
    label: int | None = None
    """None: it names no class."""
    confidence: float | None = None


Giver: TypeAlias = Callable[[Array, Array, bool], Given | None]
"""Returns another answer, given the model's own, the raw input of shape (1, ...), and whether it is
suspect; None: that stays."""


def with_others(
    found: Prediction | Predictions, inputs: Array, give: Giver
) -> Prediction | Predictions:
    """Return predictions with other answers.

    Parameters
    ----------
    found
        What the model says.
    inputs
        Raw inputs, shape (m, ...), of the last m of them: the others stay.
    give
        Gives the answers.
    """
    if isinstance(found.output, dict) or not len(inputs):
        return found
    if isinstance(found, Prediction):
        given = give(found.output, inputs[-1:], found.quarantined)
        return found if given is None else replace(found, **given._asdict())
    if found.labels is None or found.confidence is None:
        return found
    output, labels = found.output.copy(), found.labels.copy()
    confidence = found.confidence.copy()
    rows = output.reshape(len(found), -1)
    behind = len(found) - len(inputs)
    for row in range(behind, len(found)):
        at = row - behind
        given = give(rows[row], inputs[at : at + 1], bool(found.quarantined[row]))
        if given is not None:
            rows[row] = given.output
            labels[row] = -1 if given.label is None else given.label
            confidence[row] = np.nan if given.confidence is None else given.confidence
    return replace(found, output=output, labels=labels, confidence=confidence)
