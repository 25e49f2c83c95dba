"""The weights are sound, and the known answers are wrong: memory that no checksum sees."""

from __future__ import annotations

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis, Evidence, Symptoms

__all__ = ["runtime_fault"]


def runtime_fault(symptoms: Symptoms) -> Diagnosis | None:
    """Tell whether the known answers are wrong; asked after the weights."""
    if symptoms.known_answers_right is not False:
        return None
    fact = Evidence("known_answers", 0.0, "all checksums hold, but the known answers are wrong")
    return Diagnosis(Cause.RUNTIME_FAULT, 1.0, (fact,))
