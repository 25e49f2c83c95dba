"""Inputs are crafted: answers suffer out of proportion to what the inputs show."""

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
from selfheal_edge.diagnosis.window import Window
from selfheal_edge.monitoring.monitor import MEMBERS_PART

__all__ = ["adversarial_input"]

_DOUBT: Final = 0.75
"""Parts of the limit from which an attack is not ruled out."""


def adversarial_input(symptoms: Symptoms) -> Verdict:
    """Ask whether the visible change explains what became of the answers.

    The device carries calibration inputs into the condition of the window (its light, gain, blur
    and noise) and asks the model about them. Natural changes cost the answers what that shows. Two
    things do not happen by nature: margins that fall further, and answers that are sure among
    neighbours with other labels.
    """
    window = symptoms.window
    if window is None or window.answers is None or window.probe is None:
        return None
    if window.simulated is None:
        fact = Evidence("budget", 0.0, "the model could not be asked: its budget is spent")
        later = "a minute: then the budget allows to ask the model again"
        return Diagnosis(Cause.ADVERSARIAL_INPUT, 0.5, (fact,), wanted=later)
    has_left = window.crafted >= _DOUBT or window.mix_ratio >= 1
    if has_left and window.knows_one_class and len(window.profile.neighbours):
        return _of_one_class(window)
    if window.crafted < _DOUBT:
        return RuledOut(
            Cause.ADVERSARIAL_INPUT,
            f"answers lose what such a change of the inputs costs by itself "
            f"({window.unexplained:+.2f} spreads beside it), and no more of them are sure among "
            "strangers",
        )
    facts: tuple[Evidence, ...] = (
        Evidence(
            "unexplained",
            window.unexplained,
            f"margins have fallen by {window.unexplained:.2f} spreads more than the visible "
            f"change of the inputs explains (harmless changes: up to "
            f"{window.profile.bounds['unexplained']:.2f})",
        ),
        Evidence(
            "harm",
            window.harm,
            f"answers suffer {window.harm:.1f} times what the inputs show "
            f"(harmless changes: up to {window.profile.bounds['harm']:.1f})",
        ),
        Evidence(
            "astray",
            window.astray,
            f"{window.astray:.0%} more answers than natural changes explain are sure among "
            f"neighbours with other labels (by chance: up to {window.most_astray:.0%})",
        ),
        Evidence(
            "undecided",
            window.undecided,
            f"{window.undecided:.0%} more answers than natural changes explain lie on the border "
            f"of two classes (harmless changes: up to {window.most_undecided:.0%})",
        ),
    )
    facts = (
        *facts,
        *(
            Evidence(MEMBERS_PART, alarm.magnitude, f"alarm: {alarm}")
            for alarm in symptoms.alarms
            if alarm.signal == MEMBERS_PART
        ),
    )
    if window.crafted >= 1:  # it costs as many inferences again
        facts = (
            *facts,
            Evidence(
                "control",
                window.control,
                f"putting the fine structure of suspects back in another order gives "
                f"{window.control:+.2f} of margin back, beyond what it gives simulated inputs",
            ),
        )
    return Diagnosis(
        Cause.ADVERSARIAL_INPUT,
        sureness(window.crafted),
        facts,
        _kind(window),
        wanted="" if window.crafted > 1.1 else "a hundred more inputs, or ten of their labels",
    )


def _of_one_class(window: Window) -> Diagnosis:
    label = int(window.profile.priors.argmax())
    text = (
        f"calibration knows class {label} alone: whether other answers are new classes, a drift or "
        "an attack cannot be told"
    )
    fact = Evidence("classes", 1.0, text)
    wanted = "a calibration with five inputs and more of each class that is to come"
    return Diagnosis(Cause.ADVERSARIAL_INPUT, 0.5, (fact,), wanted=wanted)


def _kind(window: Window) -> str:
    if window.asked >= 1:
        return "questions"
    if window.still_cells > 0.02 and window.alone > 0.9:
        return "patch"
    return "crafted"
