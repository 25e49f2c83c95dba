"""The weights are sound, and the known answers are wrong: memory that no checksum sees."""

from __future__ import annotations

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis, Evidence, RuledOut, Symptoms, Verdict

__all__ = ["runtime_fault"]


def runtime_fault(symptoms: Symptoms) -> Verdict:
    """Tell whether the known answers are wrong; asked after the weights."""
    if symptoms.known_answers_right is None:
        return None
    if symptoms.known_answers_right:
        return RuledOut(Cause.RUNTIME_FAULT, "the known answers are exact")
    fact = Evidence("known_answers", 0.0, "all checksums hold, but the known answers are wrong")
    return Diagnosis(Cause.RUNTIME_FAULT, 1.0, (fact,))
