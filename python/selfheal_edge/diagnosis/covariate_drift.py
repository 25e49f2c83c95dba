"""The inputs have moved, and the sensor works."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import (
    MIN_SAMPLES,
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
    shift_of,
    sureness,
)
from selfheal_edge.diagnosis.window import Window

__all__ = ["covariate_drift"]

_MOVED: Final = 4.0  # standard errors
_TOLD: Final = 4
_SUDDEN: Final = 0.5


def covariate_drift(symptoms: Symptoms) -> Verdict:
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
    window = symptoms.window
    if window is not None:
        return _seen(window, moved)
    if not moved:
        return RuledOut(Cause.COVARIATE_DRIFT, "no signal of the input has moved")
    return Diagnosis(Cause.COVARIATE_DRIFT, confidence, tuple(moved))


def _seen(window: Window, moved: list[Evidence]) -> Verdict:
    ratio = window.visible / (1.3 * window.profile.bounds["visible"] + 0.03)
    if ratio < 1 and not moved:
        return RuledOut(
            Cause.COVARIATE_DRIFT,
            f"inputs look as in calibration, to {window.visible:.2f} spreads",
        )
    channels = np.argsort(-window.by_channel)[:_TOLD]
    named = ", ".join(f"{n} by {window.by_channel[n]:.1f}" for n in channels)
    facts = [
        Evidence(
            "visible",
            window.visible,
            f"inputs have moved by {window.visible:.2f} spreads (healthy windows: up to "
            f"{window.profile.bounds['visible']:.2f}); most of all channels {named}",
        )
    ]
    pace = "sudden" if window.sudden > _SUDDEN else "gradual"
    return Diagnosis(
        Cause.COVARIATE_DRIFT,
        max(sureness(1.1 * ratio), 0.7 if moved else 0.0),
        (*facts, *moved),
        pace,
    )
