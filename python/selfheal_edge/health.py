"""What a model says of itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.integrity.code_watch import CodeCoverage
from selfheal_edge.integrity.protected_share import ProtectedShare
from selfheal_edge.monitoring.monitor import Alarm
from selfheal_edge.monitoring.performance import Performance, not_estimable
from selfheal_edge.store.failures import Failure
from selfheal_edge.store.status import StoreState
from selfheal_edge.text import MESSAGE, shown
from selfheal_edge.tflite.coverage.table import Coverage, CoverageTable
from selfheal_edge.tflite.runtimes.protocol import Array
from selfheal_edge.tflite.session import Fingerprint

__all__ = [
    "UNTELLING",
    "CoverageSummary",
    "DetectionLatency",
    "Health",
    "HealthState",
    "Prediction",
    "Predictions",
]

UNTELLING: Final = {
    Cause.WEIGHT_CORRUPTION: "the weights are damaged, and what a damaged model says means nothing",
    Cause.RUNTIME_FAULT: "the runtime is at fault, and what it says means nothing",
    Cause.ADVERSARIAL_INPUT: "inputs that are made to mislead a model are made to look sure",
    Cause.POISONING: "labels are not to be relied on",
}
"""Troubles during which no estimate of `Health.performance` means anything, each with the reason.
"""


class HealthState(str, Enum):
    """Whether a model's answers may be relied on."""

    HEALTHY = "healthy"
    UNTRUSTED = "untrusted"
    CLOSED = "closed"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class CoverageSummary:
    """How the model is guarded, in one line; the table is `SelfHealingModel.weights.coverage`."""

    worst: Coverage
    """The worst coverage of any weight."""
    weight_bytes: dict[Coverage, int]
    """Bytes of weights and biases by coverage."""
    bytes: dict[Coverage, int]
    """Bytes of the whole file by coverage."""
    reason: str
    """Why this runtime and these kernels."""

    @classmethod
    def of(cls, table: CoverageTable, reason: str) -> CoverageSummary:
        """Sum up a table."""
        return cls(table.worst, table.weight_bytes_by_coverage, table.bytes_by_coverage, reason)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with coverages by name."""
        return {
            "worst": self.worst.value,
            "weight_bytes": {c.value: n for c, n in self.weight_bytes.items()},
            "bytes": {c.value: n for c, n in self.bytes.items()},
            "reason": self.reason,
        }

    def __str__(self) -> str:
        parts = [f"{n} bytes {c.value}" for c, n in self.weight_bytes.items() if n]
        reason = shown(self.reason, MESSAGE)
        return f"{self.worst.value}: weights {', '.join(parts) or 'none'}; {reason}"


@dataclass(frozen=True, slots=True)
class DetectionLatency:
    """How long damage to weights that execute goes unseen, at most."""

    predictions: int | None
    """Predictions that may come from a damaged byte before it is found; 0: every byte is checked
    before each. None: nothing is checked at predictions."""
    seconds: float | None
    """The same in seconds, where one prediction follows the other at once; None where an inference
    was not timed."""

    def __str__(self) -> str:
        if self.predictions is None:
            return "nothing is checked at predictions"
        seconds = "" if self.seconds is None else f", {self.seconds * 1e3:.3g} ms without a pause"
        return f"{self.predictions} predictions{seconds}"


@dataclass(frozen=True, slots=True)
class Health:
    """A model's state at one moment."""

    state: HealthState
    trouble: Cause | None
    """Cause of the trouble that goes on."""
    generation: int
    """The saved state of the weights that is active; 0 is golden."""
    coverage: CoverageSummary
    protected_share: ProtectedShare
    """Which share of the bytes that can influence an answer is watched, as counted when it was
    first asked for."""
    fingerprint: Fingerprint
    predictions: int
    alarms: int
    """Alarms of the monitor, those during a known trouble included."""
    corrupt_blocks: int
    """Corrupt blocks found, ever."""
    guard_repairs: int
    """Damages to checksum tables, parity and snapshots that were mended."""
    repairs: int
    """Repairs that were proven."""
    failed_repairs: int
    """Repairs that were applied and did not hold."""
    detection_latency: DetectionLatency
    """How long damage to weights that execute goes unseen: what `Policy.scrub_bytes_per_predict` or
    `integrity_budget` buys."""
    sweeps: int
    """Complete sweeps over all guarded bytes."""
    nonfinite: int
    """Input values that were NaN or infinite."""
    code: CodeCoverage | None = None
    """How the code that runs the model is swept; None where `Policy.code_budget` is 0."""
    failures: tuple[Failure, ...] = ()
    """What was tried on this device and did not hold, also before a restart."""
    store: StoreState | None = None
    """What the store says of itself; None without one."""
    condition: str = ""
    """The condition whose learned repair serves; empty: golden serves, or what the user chose."""
    on_probation: bool = False
    """Whether that repair is not confirmed."""
    budget: tuple[float, float] | None = None
    """Repairs that may be learned now, and seconds of CPU time for them; None where a model cannot
    learn."""
    threshold: float | None = None
    """Of an autoencoder: the reconstruction error (mean square of the answer less the input, in
    real units) above which an input counts as abnormal. 99 % of calibration lie below; where a
    repair serves that confirmed normals have taught, its own. None for other models."""
    performance: Performance = field(default_factory=partial(not_estimable, "nothing was served"))
    """How well the model does on its latest inferences, with an interval: estimated when `health`
    is read."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with enumerations by name."""
        data = {name: getattr(self, name) for name in self.__slots__}
        return {
            **data,
            "state": self.state.value,
            "trouble": None if self.trouble is None else self.trouble.value,
            "coverage": self.coverage.to_dict(),
            "protected_share": asdict(self.protected_share),
            "detection_latency": asdict(self.detection_latency),
            "code": None if self.code is None else asdict(self.code),
            "fingerprint": self.fingerprint.to_dict(),
            "failures": [failure.to_dict() for failure in self.failures],
            "store": None if self.store is None else self.store.to_dict(),
            "performance": self.performance.to_dict(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One answer, and what to make of it."""

    id: int
    """Unique, also across restarts: below 2**63."""
    output: Array | dict[str, Array]
    """What `predict` returns."""
    label: int | None
    """Most likely class, of a detector that of its surest detection; None for a model without
    classes, where the answer is no number, and where no detection has a score of 0.5."""
    confidence: float | None
    """Its probability."""
    trusted: bool
    """False while a trouble goes on that no repair has ended, for values that are NaN or infinite,
    and where the sweep that was due before it was left out, since the weights were being looked at
    or healed in the background."""
    verified: Literal["before", "around"] | None
    """Whether every byte of the weights that execute was compared right before the inference, or
    before and after it with nothing repaired between; None where that is not known, as where some
    execute from copies that nothing watches. `Policy.verify` asks for it."""
    quarantined: bool
    """Whether its input is suspect: nothing is learned from it unless a person releases it. A
    bounded number of suspects is put into quarantine, to be looked at."""
    alarms: tuple[Alarm, ...]
    """Alarms that this inference raised, usually none."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The answers to a batch of n samples, and what to make of each."""

    ids: npt.NDArray[np.int64]
    """`Prediction.id` of each: shape (n,), in the order of the samples. Other threads' inferences
    may lie between two."""
    output: Array | dict[str, Array]
    """What `predict` returns for the batch."""
    labels: npt.NDArray[np.int64] | None
    """Most likely class of each, -1 where `Prediction.label` is None: shape (n,); None for a model
    without classes."""
    confidence: npt.NDArray[np.float64] | None
    """Its probability, NaN without a label: shape (n,); None likewise."""
    trusted: npt.NDArray[np.bool_]
    """As `Prediction.trusted`, of each: shape (n,)."""
    verified: tuple[Literal["before", "around"] | None, ...]
    """As `Prediction.verified`, of each: n entries."""
    quarantined: npt.NDArray[np.bool_]
    """As `Prediction.quarantined`, of each: shape (n,)."""
    alarms: tuple[tuple[Alarm, ...], ...]
    """Alarms that each inference raised: n tuples, usually empty."""

    def __len__(self) -> int:
        return len(self.ids)
