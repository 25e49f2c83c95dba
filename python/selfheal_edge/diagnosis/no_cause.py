"""Nothing that can be seen has moved: as a false alarm looks."""

from __future__ import annotations

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import Diagnosis, Evidence, Symptoms, Verdict

__all__ = ["NOTHING_MOVED", "no_cause"]

NOTHING_MOVED = "nothing moved"
"""The kind of an unknown cause where inputs and answers look like calibration's."""


def no_cause(symptoms: Symptoms) -> Verdict:
    """Tell whether inputs, answers and the mix of classes look like calibration's."""
    window = symptoms.window
    if window is None:
        return None
    bound = window.profile.bounds
    has_moved = window.visible > 1.3 * bound["visible"] + 0.03
    if has_moved or window.mixed > 1.2 * max(1.0, bound["mixed"]):
        return None
    if window.within_class > 1.5 * bound["within class"]:
        return None
    text = (
        f"inputs look as in calibration, to {window.visible:.2f} spreads, classes come as often, "
        "and answers are as sure: a false alarm, or a change too small to name"
    )
    fact = Evidence("visible", window.visible, text)
    return Diagnosis(
        Cause.UNKNOWN,
        0.9,
        (fact,),
        NOTHING_MOVED,
        wanted="more predictions: if something has moved, it will show",
    )
