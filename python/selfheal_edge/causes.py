"""The causes that a diagnosis can name."""

from __future__ import annotations

from enum import Enum

__all__ = ["Cause"]


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

    def __str__(self) -> str:
        return str(self.value)
