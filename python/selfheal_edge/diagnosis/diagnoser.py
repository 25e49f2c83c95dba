"""Find out what an alarm means: the cheapest and surest questions first."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelClosedError
from selfheal_edge.monitoring.monitor import Alarm

__all__ = ["AttackDiagnoser", "Cause", "Diagnosis", "Evidence", "Symptoms", "diagnose_with"]

_log = logging.getLogger("selfheal_edge")

_RECENT: Final = 32
_MIN_RECENT: Final = 8
_FAULTY_SHARE: Final = 0.75
_MOVED: Final = 4.0


class Cause(str, Enum):
    """What a diagnosis names."""

    WEIGHT_CORRUPTION = "weight_corruption"
    """Bytes of the model are not what they were."""
    RUNTIME_FAULT = "runtime_fault"
    """The weights are sound, and the known answers are wrong all the same."""
    SENSOR_FAULT = "sensor_fault"
    """The input is stuck, saturated, dead or not finite."""
    COVARIATE_DRIFT = "covariate_drift"
    """The inputs have moved, and the sensor works."""
    LABEL_SHIFT = "label_shift"
    """Classes come in other proportions."""
    CONCEPT_DRIFT = "concept_drift"
    """The same inputs mean something else; only feedback can tell."""
    ADVERSARIAL_INPUT = "adversarial_input"
    """Inputs were made to mislead the model."""
    POISONING = "poisoning"
    """Feedback or the trusted pool was tampered with."""
    RESOURCE_ATTACK = "resource_attack"
    """Healing is provoked again and again."""
    UNKNOWN = "unknown"
    """The evidence does not suffice; the response is the mildest safe one."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that a diagnosis rests on."""

    name: str
    value: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause, how sure we are, and why."""

    cause: Cause
    confidence: float
    """0 to 1."""
    evidence: tuple[Evidence, ...]

    def __str__(self) -> str:
        facts = "; ".join(str(e) for e in self.evidence)
        return f"{self.cause.value} ({self.confidence:.0%}): {facts}"


@dataclass(frozen=True, slots=True)
class Symptoms:
    """What the loop knows when it asks."""

    alarms: tuple[Alarm, ...] = ()
    signals: tuple[str, ...] = ()
    scores: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """Normal scores of the latest predictions, oldest first, shape (n, signals)."""
    count: int = 0
    """Predictions so far; the last row of `scores` is number `count`."""
    repeats: int = 0
    """Equal inputs in a row."""
    corrupt_blocks: int = 0
    corrupt_regions: tuple[str, ...] = ()
    known_answers_right: bool | None = None
    """None when they were not asked."""


def _shift(scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return mean shift in standard errors, and the share of samples on its side."""
    finite = scores[np.isfinite(scores)]
    if finite.size < 2:
        return 0.0, 0.0
    mean = float(finite.mean())
    same_side = float(np.mean(np.sign(finite) == np.sign(mean)))
    return mean * math.sqrt(finite.size), same_side


class AttackDiagnoser:
    """Name the cause of an alarm, with evidence.

    Parameters
    ----------
    min_confidence
        Below it the answer is `Cause.UNKNOWN`.

    Notes
    -----
    Order of questions: integrity of weights and runtime (certain), sensor sanity (stuck, not
    finite, saturated, flat), then which signals moved and for how many of the samples.
    """

    def __init__(self, min_confidence: float = 0.6) -> None:
        if not 0.0 <= min_confidence <= 1.0:
            raise ValueError(f"min_confidence: expected 0 to 1, got {min_confidence}")
        self.min_confidence = min_confidence

    def diagnose(self, symptoms: Symptoms) -> Diagnosis:
        """Return the most likely cause of `symptoms`."""
        for question in (self._integrity, self._sensor, self._drift):
            diagnosis = question(symptoms)
            if diagnosis is not None:
                if diagnosis.confidence >= self.min_confidence:
                    return diagnosis
                return Diagnosis(Cause.UNKNOWN, diagnosis.confidence, diagnosis.evidence)
        facts = tuple(
            Evidence(a.signal, a.direction * a.magnitude, f"alarm: {a}") for a in symptoms.alarms
        )
        return Diagnosis(Cause.UNKNOWN, 0.0, facts)

    def _integrity(self, symptoms: Symptoms) -> Diagnosis | None:
        if symptoms.corrupt_blocks:
            where = ", ".join(symptoms.corrupt_regions[:3]) or "the graph"
            fact = Evidence(
                "corrupt_blocks",
                symptoms.corrupt_blocks,
                f"{symptoms.corrupt_blocks} block(s) fail their checksum, in {where}",
            )
            return Diagnosis(Cause.WEIGHT_CORRUPTION, 1.0, (fact,))
        if symptoms.known_answers_right is False:
            fact = Evidence(
                "known_answers", 0.0, "all checksums hold, but the known answers are wrong"
            )
            return Diagnosis(Cause.RUNTIME_FAULT, 1.0, (fact,))
        return None

    def _sensor(self, symptoms: Symptoms) -> Diagnosis | None:
        raised = {a.signal: a for a in symptoms.alarms}
        if "input_repeats" in raised:
            text = f"{symptoms.repeats + 1} inputs in a row are equal to the bit: stuck"
            fact = Evidence("input_repeats", symptoms.repeats, text)
            return Diagnosis(Cause.SENSOR_FAULT, 1.0, (fact,))
        if "input_nonfinite" in raised:
            value = raised["input_nonfinite"].statistic
            fact = Evidence("input_nonfinite", value, f"{value:.0f} input values are not finite")
            return Diagnosis(Cause.SENSOR_FAULT, 1.0, (fact,))
        if "input_flat" in raised:
            value = raised["input_flat"].statistic
            text = f"{value:.0f} inputs in a row have almost no spread: dead or covered"
            return Diagnosis(Cause.SENSOR_FAULT, 1.0, (Evidence("input_flat", value, text),))
        return self._saturated(symptoms)

    def _saturated(self, symptoms: Symptoms) -> Diagnosis | None:
        for column, name in enumerate(symptoms.signals):
            if not name.startswith("input_saturated"):
                continue
            scores = self._since_onset(symptoms, column)
            if scores.size < _MIN_RECENT:
                continue
            share = float(np.mean(scores > _MOVED))
            if share >= _FAULTY_SHARE:
                text = (
                    f"{name} of {share:.0%} of the latest {scores.size} inputs lies more than "
                    f"{_MOVED:g} sd above the reference: saturated"
                )
                return Diagnosis(Cause.SENSOR_FAULT, share, (Evidence(name, share, text),))
        return None

    def _drift(self, symptoms: Symptoms) -> Diagnosis | None:
        moved: list[Evidence] = []
        confidence = 0.0
        for column, name in enumerate(symptoms.signals):
            if not name.startswith("input_"):
                continue
            scores = self._since_onset(symptoms, column)
            if scores.size < _MIN_RECENT:
                continue
            errors, same_side = _shift(scores)
            if abs(errors) >= _MOVED:
                text = (
                    f"{name} has moved by {errors / math.sqrt(scores.size):+.2f} sd over "
                    f"{scores.size} inputs, {same_side:.0%} of them on that side"
                )
                moved.append(Evidence(name, errors, text))
                confidence = max(confidence, same_side)
        if not moved:
            return None
        return Diagnosis(Cause.COVARIATE_DRIFT, confidence, tuple(moved))

    def _since_onset(self, symptoms: Symptoms, column: int) -> npt.NDArray[np.float64]:
        """Return a signal's scores since the change began, as the alarms estimate it."""
        if symptoms.scores.shape[0] == 0:
            return np.empty(0)
        onset = min((a.onset for a in symptoms.alarms), default=symptoms.count - _RECENT)
        span = max(_MIN_RECENT, min(symptoms.count - onset, len(symptoms.scores)))
        return symptoms.scores[-span:, column]


def diagnose_with(diagnoser: AttackDiagnoser, symptoms: Symptoms) -> Diagnosis:
    """Ask a diagnoser; where the user's breaks down, ours, for a repair must go on.

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
        _log.warning("the diagnoser failed", exc_info=True)
        return AttackDiagnoser().diagnose(symptoms)
    return diagnosis
