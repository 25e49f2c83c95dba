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
    from selfheal_edge.diagnosis.diagnoser import AttackDiagnoser, Cause, Diagnosis
    from selfheal_edge.health import Health, Prediction
    from selfheal_edge.model import SelfHealingModel
    from selfheal_edge.monitoring.baseline import Baseline
    from selfheal_edge.monitoring.drift_detector import DriftDetector
    from selfheal_edge.monitoring.monitor import Alarm, PerformanceMonitor
    from selfheal_edge.policy import Policy
    from selfheal_edge.repair import ModelRepairKit
    from selfheal_edge.store.journal import Event
    from selfheal_edge.tflite.sandbox.policy import ProbePolicy

    __version__: str

__all__ = [
    "Adwin",
    "Alarm",
    "AttackDiagnoser",
    "Baseline",
    "Cause",
    "Cusum",
    "Ddm",
    "Diagnosis",
    "DriftDetector",
    "Eddm",
    "Event",
    "Ewma",
    "HddmA",
    "HddmW",
    "Health",
    "Kswin",
    "ModelRepairKit",
    "Moments",
    "MonitorBank",
    "PageHinkley",
    "PerformanceMonitor",
    "Policy",
    "Prediction",
    "ProbePolicy",
    "Reference",
    "RingBuffer",
    "SelfHealingModel",
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
    "AttackDiagnoser": "diagnosis.diagnoser",
    "Baseline": "monitoring.baseline",
    "Cause": "diagnosis.diagnoser",
    "Diagnosis": "diagnosis.diagnoser",
    "DriftDetector": "monitoring.drift_detector",
    "Event": "store.journal",
    "Health": "health",
    "ModelRepairKit": "repair",
    "PerformanceMonitor": "monitoring.monitor",
    "Policy": "policy",
    "Prediction": "health",
    "ProbePolicy": "tflite.sandbox.policy",
    "SelfHealingModel": "model",
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
