"""What `guard.py` measures: models with inputs and baselines, and what takes its turn."""

from __future__ import annotations

import atexit
import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

import harness
import selfheal_edge as she
from selfheal_edge.tflite.runtimes.protocol import Array

MODULES: Final = {
    "litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
}
MODELS: Final = (*harness.TINY_MODELS, "mobilenet_v1_025_128_uint8")
MADE: Final = ("dense", "convolutional", "branches", "upsampling", "transposed")
OTHERS: Final = (
    "resnet8_cifar10_float32",
    "kws_dscnn_dynamic_range",
    "hello_world_int8",
    *(f"open_batch_{kind}" for kind in MADE),
)
"""What users bring beside: float models, hybrid ones, and Keras' with an open batch, made here."""
INPUTS: Final = 256

Runtime = Literal["litert", "tflite_runtime"]
Serve = Callable[[Array], object]


@cache
def _made(kind: str) -> Path:
    """Write a model of the tests' into a folder that goes with this process."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.made_models import open_batch  # noqa: PLC0415 — beside the benchmarks, not installed

    folder = Path(tempfile.mkdtemp(prefix="selfheal-made-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / f"{kind}.tflite"
    path.write_bytes(open_batch(kind))
    return path


@dataclass(frozen=True)
class Case:
    """One model under one runtime."""

    runtime: Runtime
    model: str

    @property
    def path(self) -> Path:
        """The model's file."""
        if self.model.startswith("open_batch_"):
            return _made(self.model.removeprefix("open_batch_"))
        return harness.SHARED / "models" / f"{self.model}.tflite"

    @property
    def label(self) -> str:
        """What its rows begin with."""
        return f"{self.runtime} {self.model}"

    @cached_property
    def inputs(self) -> list[Array]:
        """Different inputs, to be taken in order: the same few again and again are an alarm."""
        details = self.interpreter().get_input_details()[0]
        rng = np.random.default_rng(0)
        if np.dtype(details["dtype"]).kind == "f":
            shape = (INPUTS, *details["shape"])
            return list(rng.standard_normal(shape).astype(details["dtype"]))
        limits = np.iinfo(details["dtype"])
        rows = rng.integers(
            limits.min, limits.max + 1, (INPUTS, *details["shape"]), dtype=details["dtype"]
        )
        return list(rows)

    @cached_property
    def baseline(self) -> she.Baseline:
        """Calibrated on just these inputs, so that nothing is up."""
        return self._calibrated(None)

    def _calibrated(self, embedding: Literal[False] | None) -> she.Baseline:
        return she.calibrate(
            self.path,
            np.concatenate(self.inputs),
            runtime=self.runtime,
            false_alarm_interval=1e9,
            embedding=embedding,
            seed=0,
        )

    @cached_property
    def without_embedding(self) -> she.Baseline | None:
        """The same without the tap; None where there is none."""
        return None if self.baseline.embedding is None else self._calibrated(False)

    def open(
        self, baseline: she.Baseline, monitor: she.PerformanceMonitor | None = None, **policy: Any
    ) -> she.SelfHealingModel:
        """Return the guarded model."""
        return she.SelfHealingModel(
            self.path,
            baseline,
            runtime=self.runtime,
            monitor=monitor,
            policy=she.Policy(**policy),
        )

    def interpreter(self, kernels: str = "default") -> Any:
        """Return the runtime's own interpreter, one thread."""
        module = importlib.import_module(MODULES[self.runtime])
        options = {}
        if kernels == "builtin":
            resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            options["experimental_op_resolver_type"] = resolver
        interpreter = module.Interpreter(model_path=str(self.path), num_threads=1, **options)
        interpreter.allocate_tensors()
        return interpreter


class Raw:
    """The three calls that `predict` replaces."""

    def __init__(self, case: Case, kernels: str = "default") -> None:
        self.interpreter = case.interpreter(kernels)
        self.source = self.interpreter.get_input_details()[0]["index"]
        self.sink = self.interpreter.get_output_details()[0]["index"]

    def window(self, chunk: Sequence[Array]) -> None:
        """Serve some inputs, as a user's loop does."""
        interpreter, source, sink = self.interpreter, self.source, self.sink
        for x in chunk:
            interpreter.set_tensor(source, x)
            interpreter.invoke()
            interpreter.get_tensor(sink)

    def one(self, x: Array) -> object:
        """Serve one input."""
        self.interpreter.set_tensor(self.source, x)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.sink)


def window_of(serve: Serve) -> Callable[[Sequence[Array]], None]:
    """Return a loop around a function of one input."""

    def window(chunk: Sequence[Array]) -> None:
        for x in chunk:
            serve(x)

    return window
