"""The list of causes that can be told, the cheapest and surest questions first."""

from __future__ import annotations

from typing import Final, Protocol

from selfheal_edge.diagnosis.covariate_drift import covariate_drift
from selfheal_edge.diagnosis.runtime_fault import runtime_fault
from selfheal_edge.diagnosis.sensor_fault import sensor_fault
from selfheal_edge.diagnosis.symptoms import Diagnosis, Symptoms
from selfheal_edge.diagnosis.weight_corruption import weight_corruption

__all__ = ["QUESTIONS", "Question"]


class Question(Protocol):
    """A check for one cause."""

    def __call__(self, symptoms: Symptoms, /) -> Diagnosis | None:
        """Return the cause with its evidence, or None where the symptoms do not speak for it."""
        ...


QUESTIONS: Final[tuple[Question, ...]] = (
    weight_corruption,
    runtime_fault,
    sensor_fault,
    covariate_drift,
)
