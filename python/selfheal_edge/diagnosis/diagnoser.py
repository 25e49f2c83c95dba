"""Find out what an alarm means: one question after the other, the surest first."""

from __future__ import annotations

from typing import Protocol

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.registry import QUESTIONS, Question
from selfheal_edge.diagnosis.symptoms import Diagnosis, Evidence, Symptoms
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.log import logger

__all__ = ["AttackDiagnoser", "Diagnoser", "diagnose_with"]


class Diagnoser(Protocol):
    """What names causes: `AttackDiagnoser`, or the user's own."""

    def diagnose(self, symptoms: Symptoms) -> Diagnosis:
        """Return the most likely cause; what it raises is logged, and ours answers."""
        ...


class AttackDiagnoser:
    """Name the cause of an alarm, with evidence.

    Parameters
    ----------
    min_confidence
        Below it the answer is `Cause.UNKNOWN`.
    questions
        More causes to ask for, after ours and in this order; see `diagnosis.registry`.

    Notes
    -----
    Order of questions: integrity of weights and runtime (certain), sensor sanity (stuck, not
    finite, saturated, flat), then which signals moved and for how many of the samples.

    Examples
    --------
    >>> import selfheal_edge as she
    >>> she.AttackDiagnoser().diagnose(she.Symptoms(corrupt_blocks=1)).cause
    <Cause.WEIGHT_CORRUPTION: 'weight_corruption'>
    """

    def __init__(
        self, min_confidence: float = 0.6, *, questions: tuple[Question, ...] = ()
    ) -> None:
        if not 0.0 <= min_confidence <= 1.0:
            raise ValueError(f"min_confidence: expected 0 to 1, got {min_confidence}")
        self.min_confidence = min_confidence
        self._questions = (*QUESTIONS, *questions)

    def diagnose(self, symptoms: Symptoms) -> Diagnosis:
        """Return the most likely cause of `symptoms`."""
        for question in self._questions:
            diagnosis = question(symptoms)
            if diagnosis is not None:
                if diagnosis.confidence >= self.min_confidence:
                    return diagnosis
                return Diagnosis(Cause.UNKNOWN, diagnosis.confidence, diagnosis.evidence)
        facts = tuple(
            Evidence(a.signal, a.direction * a.magnitude, f"alarm: {a}") for a in symptoms.alarms
        )
        return Diagnosis(Cause.UNKNOWN, 0.0, facts)


def diagnose_with(diagnoser: Diagnoser, symptoms: Symptoms) -> Diagnosis:
    """Ask a diagnoser; if the user's raises, ask ours, so that the repair goes on.

    Raises
    ------
    ModelClosedError
        When the diagnoser closed the model.
    """
    try:
        diagnosis = diagnoser.diagnose(symptoms)
        if not isinstance(diagnosis, Diagnosis):
            raise TypeError(f"diagnoser: expected a Diagnosis, got {type(diagnosis).__name__}")
    except ModelClosedError:
        raise
    except Exception:
        logger().warning("the diagnoser failed", exc_info=True)
        return AttackDiagnoser().diagnose(symptoms)
    return diagnosis
