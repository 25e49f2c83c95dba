"""The list of causes that can be told, the cheapest and surest questions first."""

from __future__ import annotations

from typing import Final, Protocol

from selfheal_edge.diagnosis.adversarial_input import adversarial_input
from selfheal_edge.diagnosis.concept_drift import concept_drift
from selfheal_edge.diagnosis.covariate_drift import covariate_drift
from selfheal_edge.diagnosis.label_shift import label_shift
from selfheal_edge.diagnosis.no_cause import no_cause
from selfheal_edge.diagnosis.poisoning import poisoning
from selfheal_edge.diagnosis.resource_attack import resource_attack
from selfheal_edge.diagnosis.runtime_fault import runtime_fault
from selfheal_edge.diagnosis.sensor_fault import sensor_fault
from selfheal_edge.diagnosis.sensor_gain import sensor_gain
from selfheal_edge.diagnosis.symptoms import Symptoms, Verdict
from selfheal_edge.diagnosis.weight_corruption import weight_corruption

__all__ = ["QUESTIONS", "QUICK_QUESTIONS", "Question"]


class Question(Protocol):
    """A check for one cause."""

    def __call__(self, symptoms: Symptoms, /) -> Verdict:
        """Return the cause with its evidence, what rules it out, or None for nothing to say."""
        ...


QUICK_QUESTIONS: Final[tuple[Question, ...]] = (
    # Certain, and for nothing: integrity and known answers.
    weight_corruption,
    runtime_fault,
    # What was recorded: troubles that come back, labels that contradict.
    resource_attack,
    poisoning,
    concept_drift,
    # What a sound sensor never shows.
    sensor_fault,
)
"""Questions that need few inputs, and no inference."""

QUESTIONS: Final[tuple[Question, ...]] = (
    *QUICK_QUESTIONS,
    # The shape of the shift, and extra inferences.
    adversarial_input,
    label_shift,
    no_cause,
    sensor_gain,
    covariate_drift,
)
