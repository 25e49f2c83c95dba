"""tflite-runtime, the older runtime: the only one on 32-bit ARM; its last release is 2.14."""

from __future__ import annotations

import importlib

import numpy as np

from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.runtimes.interpreter import InterpreterInstance
from selfheal_edge.tflite.runtimes.protocol import Instance, KernelsChoice, RuntimeName
from selfheal_edge.tflite.sandbox.packages import loaded_version
from selfheal_edge.tflite.sandbox.policy import ProbePolicy

__all__ = ["TfliteRuntime"]


class TfliteRuntime:
    """The installed tflite-runtime; `ImportError` when there is none that works here."""

    name: RuntimeName = "tflite_runtime"

    def __init__(self) -> None:
        self.version = loaded_version(importlib.import_module("tflite_runtime"), self.name)
        if int(np.__version__.split(".")[0]) >= 2:
            # Its extension was built against NumPy 1: it imports, prints a page and then fails.
            raise ImportError(
                f"tflite-runtime {self.version} needs numpy < 2, got numpy {np.__version__}; "
                "install 'selfheal-edge[tflite-runtime]'"
            )
        self._module = importlib.import_module("tflite_runtime.interpreter")

    def build(
        self,
        source_path: str,
        copy: ModelCopy,
        kernels: KernelsChoice,
        num_threads: int,
        probe_policy: ProbePolicy = ProbePolicy(),  # noqa: ARG002, B008 — nothing more is to be tried
    ) -> Instance:
        """Build an instance from the bytes of `copy` as they are at `source_path`, mapping them."""
        return InterpreterInstance(
            self._module,
            self.name,
            source_path,
            copy=copy,
            kernels=kernels,
            num_threads=num_threads,
        )
