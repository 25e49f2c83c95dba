"""The mix of classes has moved, and each class looks as it did."""

from __future__ import annotations

import numpy as np

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.symptoms import (
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
    Verdict,
    sureness,
)

__all__ = ["label_shift"]


def label_shift(symptoms: Symptoms) -> Verdict:
    """Compare predicted classes with the calibration's, and inputs with those of their class."""
    window = symptoms.window
    if window is None or window.answers is None:
        return None
    ratio = window.mix_ratio
    if ratio < 1:
        return RuledOut(Cause.LABEL_SHIFT, "classes come as often as in calibration")
    if not window.is_same_by_class:
        return RuledOut(
            Cause.LABEL_SHIFT,
            f"inputs of each class have moved as well, by {window.visible:.2f} spreads, those of "
            f"the class that came more often by {window.newcomers:.2f}",
        )
    priors, errors = window.new_priors
    grown = int(np.argmax(priors - window.profile.priors))
    shrunk = int(np.argmin(priors - window.profile.priors))
    was = window.profile.priors
    text = (
        f"class {grown} now makes up {priors[grown]:.0%} ± {errors[grown]:.0%} "
        f"(calibration: {was[grown]:.0%}), class {shrunk} {priors[shrunk]:.0%} "
        f"({was[shrunk]:.0%})"
    )
    same = f"inputs of each class look as in calibration, to {window.visible:.2f} spreads"
    return Diagnosis(
        Cause.LABEL_SHIFT,
        sureness(1.1 * ratio),
        (
            Evidence("mix", window.mixed, text),
            Evidence("visible", window.visible, same),
        ),
    )
