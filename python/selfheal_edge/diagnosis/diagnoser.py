"""Find out what an alarm means: one question after the other, the surest first."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.context import context_facts
from selfheal_edge.diagnosis.registry import QUESTIONS, QUICK_QUESTIONS, Question
from selfheal_edge.diagnosis.symptoms import (
    Alternative,
    Diagnosis,
    Evidence,
    RuledOut,
    Symptoms,
)
from selfheal_edge.errors import ModelClosedError
from selfheal_edge.log import logger

__all__ = ["AttackDiagnoser", "Diagnoser", "diagnose_with"]

_WINDOW: Final = 96
"""Inputs since the onset after which the shape of a shift has settled."""
_LEAST: Final = 80
_DOUBT: Final = 0.2
"""A confidence below which a cause is only mentioned."""


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
    Order of questions: integrity of weights and runtime (certain); troubles that come back and
    labels that contradict; sensor sanity (stuck, not finite, flat, lost values, one channel); then,
    from 80 inputs after the onset, the shape of the shift, for which the model is asked up to 120
    extra inferences. The first cause with `min_confidence` is named. One that is likelier than
    not to be there, and less sure than that, makes the answer unknown: what is done about a drift
    would be wrong under an attack.

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
        self._questions = questions

    def diagnose(self, symptoms: Symptoms) -> Diagnosis:
        """Return the most likely cause of `symptoms`, with what changed in the context."""
        found = self._named(symptoms)
        facts = context_facts(symptoms) if symptoms.context else ()
        return replace(found, evidence=(*found.evidence, *facts)) if facts else found

    def _named(self, symptoms: Symptoms) -> Diagnosis:
        window = symptoms.window
        is_early = window is not None and window.inferences < _LEAST
        questions = QUICK_QUESTIONS if is_early else QUESTIONS
        others: list[Alternative] = []
        for question in (*questions, *self._questions):
            verdict = question(symptoms)
            if isinstance(verdict, RuledOut):
                others.append(Alternative(verdict.cause, 0.0, verdict.reason))
                continue
            if verdict is None:
                continue
            if verdict.since is None and symptoms.alarms:
                verdict = replace(verdict, since=symptoms.onset)
            if verdict.confidence >= self.min_confidence:
                return replace(verdict, alternatives=tuple(others))
            reason = "; ".join(str(fact) for fact in verdict.evidence)
            others.append(Alternative(verdict.cause, verdict.confidence, reason))
            if verdict.confidence >= _DOUBT:
                return Diagnosis(
                    Cause.UNKNOWN,
                    verdict.confidence,
                    verdict.evidence,
                    since=verdict.since,
                    alternatives=tuple(others),
                    wanted=verdict.wanted or "a hundred more inputs, or ten of their labels",
                )
        facts = tuple(
            Evidence(a.signal, a.direction * a.magnitude, f"alarm: {a}") for a in symptoms.alarms
        )
        missing = _WINDOW - window.inferences if window is not None and is_early else 0
        return Diagnosis(
            Cause.UNKNOWN,
            0.0,
            facts,
            since=symptoms.onset,
            alternatives=tuple(others),
            wanted=f"{missing} more inputs: the shape of the shift does not show yet"
            if missing
            else "ten labels would tell a change of what inputs mean from one that does no harm",
            more_samples=missing,
        )


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
        # Ours answers from what is certain: it may be the window that cannot be looked at.
        return AttackDiagnoser().diagnose(replace(symptoms, window=None))
    return diagnosis
