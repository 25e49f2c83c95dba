"""What inputs mean has changed: all sources contradict answers on inputs that look ordinary."""

from __future__ import annotations

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.contradictions import contradictions_of, is_excessive, stands_out
from selfheal_edge.diagnosis.symptoms import (
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
    sureness,
)

__all__ = ["concept_drift"]


def concept_drift(symptoms: Symptoms) -> Verdict:
    """Look whether feedback contradicts answers more than the model's own errors explain."""
    window = symptoms.window
    rate = 0.05 if window is None else window.profile.error_rate
    found = contradictions_of(symptoms.feedback, rate)
    if found is None:
        return None
    if found.only_errors:
        fact = Evidence(
            "rate", found.rate, "hardly a label agrees: errors alone are reported, if there are any"
        )
        return Diagnosis(
            Cause.CONCEPT_DRIFT,
            0.15,
            (fact,),
            wanted="labels of answers that are right as well: how often tells errors from change",
        )
    if not is_excessive(found):
        return RuledOut(
            Cause.CONCEPT_DRIFT, f"{found.rate:.0%} of labels contradict answers, as usual"
        )
    if stands_out(found):
        return RuledOut(Cause.CONCEPT_DRIFT, f"{found.suspect} contradicts answers, others do not")
    if len(found.sources) < 2:
        fact = Evidence("rate", found.rate, f"{found.rate:.0%} of one source's labels contradict")
        return Diagnosis(
            Cause.CONCEPT_DRIFT,
            0.5,
            (fact,),
            wanted="ten labels of another source would tell concept drift from poisoning",
        )
    text = (
        f"{found.rate:.0%} of {found.items} labels contradict answers on inputs that look as "
        f"always ({rate:.0%} in calibration), alike from {len(found.sources)} sources"
    )
    fact = Evidence("rate", found.rate, text)
    return Diagnosis(Cause.CONCEPT_DRIFT, max(0.7, sureness(found.excess / 2.6 * 1.1)), (fact,))
