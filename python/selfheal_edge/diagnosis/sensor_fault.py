"""The input is stuck, not finite, dead or saturated."""

from __future__ import annotations

from typing import Final

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import MIN_SAMPLES, Diagnosis, Evidence, Symptoms

__all__ = ["sensor_fault"]

_FAULTY_SHARE: Final = 0.75
_FAR: Final = 4.0  # sd above the reference


def sensor_fault(symptoms: Symptoms) -> Diagnosis | None:
    """Tell by the alarms that name a sensor, and by the share of saturated values."""
    raised = {a.signal: a for a in symptoms.alarms}
    if "input_repeats" in raised:
        text = f"{symptoms.repeats + 1} inputs in a row are equal to the bit: stuck"
        fact = Evidence("input_repeats", symptoms.repeats, text)
        return Diagnosis(Cause.SENSOR_FAULT, 1.0, (fact,))
    if "input_nonfinite" in raised:
        value = raised["input_nonfinite"].statistic
        fact = Evidence("input_nonfinite", value, f"{value:.0f} input values are not finite")
        return Diagnosis(Cause.SENSOR_FAULT, 1.0, (fact,))
    if "input_flat" in raised:
        value = raised["input_flat"].statistic
        text = f"{value:.0f} inputs in a row have almost no spread: dead or covered"
        return Diagnosis(Cause.SENSOR_FAULT, 1.0, (Evidence("input_flat", value, text),))
    return _saturated(symptoms)


def _saturated(symptoms: Symptoms) -> Diagnosis | None:
    for column, name in enumerate(symptoms.signals):
        if not name.startswith("input_saturated"):
            continue
        scores = symptoms.since_onset(column)
        if scores.size < MIN_SAMPLES:
            continue
        share = float(np.mean(scores > _FAR))
        if share >= _FAULTY_SHARE:
            text = (
                f"{name} of {share:.0%} of the latest {scores.size} inputs lies more than "
                f"{_FAR:g} sd above the reference: saturated"
            )
            return Diagnosis(Cause.SENSOR_FAULT, share, (Evidence(name, share, text),))
    return None
