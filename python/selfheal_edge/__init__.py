"""Self-healing TFLite models for edge devices: monitor, detect, diagnose, repair, prove."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from selfheal_edge import errors
from selfheal_edge._core import (
    Adwin,
    Cusum,
    Ddm,
    Eddm,
    Ewma,
    HddmA,
    HddmW,
    Kswin,
    Moments,
    MonitorBank,
    PageHinkley,
    Reference,
    RingBuffer,
    average_run_length,
    crc32c,
    cusum_threshold,
    ewma_average_run_length,
    ewma_limit,
    shewhart_average_run_length,
    shewhart_limit,
    update_channels,
)

if TYPE_CHECKING:
    from selfheal_edge import redteam
    from selfheal_edge.calibration.calibrate import calibrate
    from selfheal_edge.causes import Cause
    from selfheal_edge.diagnosis.diagnoser import AttackDiagnoser, Diagnoser
    from selfheal_edge.diagnosis.feedback import Feedback
    from selfheal_edge.diagnosis.registry import Question
    from selfheal_edge.diagnosis.symptoms import (
        Alternative,
        Diagnosis,
        Evidence,
        RuledOut,
        Symptoms,
    )
    from selfheal_edge.ensemble.answers import (
        EnsembleHealth,
        EnsemblePrediction,
        EnsemblePredictions,
    )
    from selfheal_edge.ensemble.committee import SelfHealingEnsemble
    from selfheal_edge.health import Health, HealthState, Prediction, Predictions
    from selfheal_edge.learning.feedback import FeedbackReceipt
    from selfheal_edge.learning.sources import FeedbackSource
    from selfheal_edge.model import SelfHealingModel
    from selfheal_edge.monitoring.baseline import Baseline
    from selfheal_edge.monitoring.drift_detector import DriftDetector
    from selfheal_edge.monitoring.monitor import Alarm, Monitor, PerformanceMonitor
    from selfheal_edge.monitoring.signals import Measurement
    from selfheal_edge.policy import Policy
    from selfheal_edge.repair import (
        ModelRepairKit,
        RepairCase,
        RepairOutcome,
        RepairTarget,
        Strategy,
    )
    from selfheal_edge.repair.budget import RepairBudget
    from selfheal_edge.store.journal import Event, EventKind
    from selfheal_edge.tflite.flip_check import FlipEffort
    from selfheal_edge.tflite.sandbox.policy import ProbePolicy

    __version__: str

__all__ = [
    "Adwin",
    "Alarm",
    "Alternative",
    "AttackDiagnoser",
    "Baseline",
    "Cause",
    "Cusum",
    "Ddm",
    "Diagnoser",
    "Diagnosis",
    "DriftDetector",
    "Eddm",
    "EnsembleHealth",
    "EnsemblePrediction",
    "EnsemblePredictions",
    "Event",
    "EventKind",
    "Evidence",
    "Ewma",
    "Feedback",
    "FeedbackReceipt",
    "FeedbackSource",
    "FlipEffort",
    "HddmA",
    "HddmW",
    "Health",
    "HealthState",
    "Kswin",
    "Measurement",
    "ModelRepairKit",
    "Moments",
    "Monitor",
    "MonitorBank",
    "PageHinkley",
    "PerformanceMonitor",
    "Policy",
    "Prediction",
    "Predictions",
    "ProbePolicy",
    "Question",
    "Reference",
    "RepairBudget",
    "RepairCase",
    "RepairOutcome",
    "RepairTarget",
    "RingBuffer",
    "RuledOut",
    "SelfHealingEnsemble",
    "SelfHealingModel",
    "Strategy",
    "Symptoms",
    "__version__",
    "average_run_length",
    "calibrate",
    "crc32c",
    "cusum_threshold",
    "errors",
    "ewma_average_run_length",
    "ewma_limit",
    "redteam",
    "shewhart_average_run_length",
    "shewhart_limit",
    "update_channels",
]

# Detectors are worth importing alone: what needs more than the core is loaded when first named.
_LAZY = {
    "Alarm": "monitoring.monitor",
    "Alternative": "diagnosis.symptoms",
    "AttackDiagnoser": "diagnosis.diagnoser",
    "Baseline": "monitoring.baseline",
    "Cause": "causes",
    "Diagnoser": "diagnosis.diagnoser",
    "Diagnosis": "diagnosis.symptoms",
    "DriftDetector": "monitoring.drift_detector",
    "EnsembleHealth": "ensemble.answers",
    "EnsemblePrediction": "ensemble.answers",
    "EnsemblePredictions": "ensemble.answers",
    "Event": "store.journal",
    "EventKind": "store.journal",
    "Evidence": "diagnosis.symptoms",
    "Feedback": "diagnosis.feedback",
    "FeedbackReceipt": "learning.feedback",
    "FeedbackSource": "learning.sources",
    "FlipEffort": "tflite.flip_check",
    "Health": "health",
    "HealthState": "health",
    "Measurement": "monitoring.signals",
    "ModelRepairKit": "repair",
    "Monitor": "monitoring.monitor",
    "PerformanceMonitor": "monitoring.monitor",
    "Policy": "policy",
    "Prediction": "health",
    "Predictions": "health",
    "ProbePolicy": "tflite.sandbox.policy",
    "Question": "diagnosis.registry",
    "RepairBudget": "repair.budget",
    "RepairCase": "repair",
    "RepairOutcome": "repair",
    "RepairTarget": "repair",
    "RuledOut": "diagnosis.symptoms",
    "SelfHealingEnsemble": "ensemble.committee",
    "SelfHealingModel": "model",
    "Strategy": "repair",
    "Symptoms": "diagnosis.symptoms",
    "calibrate": "calibration.calibrate",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # importlib.metadata takes longer to import than all the rest.
        return import_module("importlib.metadata").version("selfheal-edge")
    if name == "redteam":
        return import_module("selfheal_edge.redteam")
    if name not in _LAZY:
        raise AttributeError(f"module 'selfheal_edge' has no attribute {name!r}")
    value = getattr(import_module(f"selfheal_edge.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
