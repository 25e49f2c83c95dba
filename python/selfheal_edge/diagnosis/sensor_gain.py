"""Gain and offset of the sensor have changed, from one input to the next."""

from __future__ import annotations

from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import (
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
    sureness,
)

__all__ = ["sensor_gain"]

_MISFIT: Final = 0.35
_SUDDEN: Final = 0.5


def sensor_gain(symptoms: Symptoms) -> Verdict:
    """Fit one gain and one offset to all channels, and look how suddenly they came.

    Sudden light is the same map: the inputs do not tell the two apart. Both are to be
    corrected alike, and neither is to be learned from at once.
    """
    window = symptoms.window
    if window is None:
        return None
    gain, offset, misfit = window.affine
    if misfit > _MISFIT:
        return RuledOut(
            Cause.SENSOR_FAULT,
            f"one gain and offset leave {misfit:.0%} of the change unexplained",
        )
    if window.sudden < _SUDDEN:
        return RuledOut(Cause.SENSOR_FAULT, "gain or offset moved slowly, as light and ageing do")
    kind = "gain" if abs(gain - 1) > window.offset_in_spreads else "offset"
    text = (
        f"gain {gain:.2f} and offset {offset:+.3g} explain {1 - misfit:.0%} of the change, "
        "which came at once: the sensor, or sudden light"
    )
    return Diagnosis(
        Cause.SENSOR_FAULT,
        sureness(1.1 * min(_MISFIT / max(misfit, 0.05), 3.0)),
        (Evidence("affine", gain, text),),
        kind,
    )
