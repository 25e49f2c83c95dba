"""What a guard holds beside the runtime, in sizes of the model's file, by setting.

`memory_report()` of an int8 classifier of dense layers that is made here, 3.6 MB, large enough that
weights outweigh all else, and of the largest model beside the project.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

import harness
import selfheal_edge as she
from made_classifiers import int8_classifier
from selfheal_edge.tflite.session import Session

FEATURES: Final = 256
WIDTHS: Final = (1536, 2048, 10)
SETTINGS: Final[dict[str, tuple[dict[str, Any], float | None]]] = {
    "snapshots=False": ({"snapshots": False}, 2.5),
    "default": ({}, 4.0),
    "hot_spare=True": ({"hot_spare": True}, None),
    "parity_blocks=2": ({"parity_blocks": 2}, None),
}
"""Each with what it may hold at most."""
FIXED: Final = (
    "references, charts and history",
    "signals",
    "pool, quarantine and questions",
    "hot path",
    "known answers",
    "input image",
)
FIXED_NAME: Final = "of these for signals, charts, pool and questions"
"""Parts that grow with inputs and classes, up to budgets of bytes, and not with the weights."""


def made(folder: Path) -> Path:
    """Write the classifier."""
    rng = np.random.default_rng(0)
    layers, before = [], FEATURES
    for width in WIDTHS:
        layers.append((rng.normal(0, before**-0.5, (before, width)), np.zeros(width)))
        before = width
    inputs = rng.normal(0, 1, (64, FEATURES))
    path = folder / "dense.tflite"
    path.write_bytes(int8_classifier(layers, inputs, [1, FEATURES], 4 / 127, 0))
    return path


def rows_of(label: str, path: Path, samples: int) -> list[harness.Row]:
    """Open the model under each setting."""
    size = path.stat().st_size
    rows = [harness.Row(f"{label}: file", size, "bytes", None, False)]
    session = Session(path)
    spec = session.instance.inputs[0]
    session.close()
    limits = np.iinfo(spec.dtype)
    rng = np.random.default_rng(1)
    shape = (samples, *spec.shape[1:])
    inputs = rng.integers(limits.min, limits.max + 1, shape, dtype=spec.dtype)
    baseline = she.calibrate(path, inputs, seed=0)
    for name, (policy, target) in SETTINGS.items():
        with she.SelfHealingModel(path, baseline, policy=she.Policy(**policy)) as model:
            report = model.memory_report()
        total = report.pop("total")
        rows.append(harness.Row(f"{label}: {name}", total / size, "files", target, False))
        fixed = sum(held for part, held in report.items() if part in FIXED)
        rows.append(
            harness.Row(f"{label}: {name}, {FIXED_NAME}", fixed / size, "files", None, False)
        )
        grows = (total - fixed) / size
        if target is not None and grows < target:
            rows.append(
                harness.Row(
                    f"{label}: {name}, file from which the target is met",
                    fixed / (target - grows) / 1e6,
                    "MB",
                    None,
                    False,
                )
            )
    return rows


def main() -> None:
    options = harness.arguments(__doc__)
    samples = 64 if options.quick else 256
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of("dense layers, int8", made(Path(folder)), samples)
    beside = harness.SHARED / "models" / "mobilenet_v1_025_128_uint8.tflite"
    if beside.exists():
        rows += rows_of("MobileNet v1 0.25, uint8", beside, samples)
    harness.report(rows, options.json)


if __name__ == "__main__":
    main()
