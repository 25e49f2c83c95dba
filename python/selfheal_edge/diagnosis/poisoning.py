"""Feedback is false: one source contradicts answers that the others confirm."""

from __future__ import annotations

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.contradictions import contradictions_of, stands_out
from selfheal_edge.diagnosis.symptoms import (
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
    sureness,
)

__all__ = ["poisoning"]


def poisoning(symptoms: Symptoms) -> Verdict:
    """Compare the sources of feedback with each other."""
    window = symptoms.window
    rate = 0.05 if window is None else window.profile.error_rate
    found = contradictions_of(symptoms.feedback, rate)
    if found is None or found.only_errors:
        return None
    if not stands_out(found):
        return RuledOut(Cause.POISONING, "all sources contradict answers about equally often")
    mine = found.rates[found.sources.index(found.suspect)]
    text = (
        f"{found.suspect} contradicts {mine:.0%} of answers, all sources together "
        f"{found.rate:.0%}: {found.apart:.1f} standard errors more than the others"
    )
    facts = [Evidence("apart", found.apart, text)]
    if found.support == found.support:  # it is a number
        said = f"other sources confirm {found.support:.0%} of its labels nearby"
        facts.append(Evidence("support", found.support, said))
    return Diagnosis(Cause.POISONING, sureness(found.apart / 3.0 * 1.1), tuple(facts), "one source")
