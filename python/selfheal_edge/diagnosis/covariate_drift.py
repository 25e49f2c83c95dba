"""The inputs have moved, and the sensor works."""

from __future__ import annotations

import math
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import (
    MIN_SAMPLES,
    Diagnosis,
    Evidence,
    Symptoms,
    shift_of,
)

__all__ = ["covariate_drift"]

_MOVED: Final = 4.0  # standard errors


def covariate_drift(symptoms: Symptoms) -> Diagnosis | None:
    """Tell which signals of the input have moved since the onset, and for how many samples."""
    moved: list[Evidence] = []
    confidence = 0.0
    for column, name in enumerate(symptoms.signals):
        if not name.startswith("input_"):
            continue
        scores = symptoms.since_onset(column)
        if scores.size < MIN_SAMPLES:
            continue
        errors, same_side = shift_of(scores)
        if abs(errors) >= _MOVED:
            text = (
                f"{name} has moved by {errors / math.sqrt(scores.size):+.2f} sd over "
                f"{scores.size} inputs, {same_side:.0%} of them on that side"
            )
            moved.append(Evidence(name, errors, text))
            confidence = max(confidence, same_side)
    if not moved:
        return None
    return Diagnosis(Cause.COVARIATE_DRIFT, confidence, tuple(moved))
