"""LiteRT (`ai-edge-litert`), today's TFLite runtime."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import version

from selfheal_edge.tflite.chatter import without_chatter
from selfheal_edge.tflite.interpreter import InterpreterInstance
from selfheal_edge.tflite.protocol import Instance, KernelsChoice, RuntimeName
from selfheal_edge.tflite.records import Region

__all__ = ["LiteRt"]


class LiteRt:
    """The installed LiteRT; `ImportError` when there is none."""

    name: RuntimeName = "litert"

    def __init__(self) -> None:
        with without_chatter():
            self._module = importlib.import_module("ai_edge_litert.interpreter")
        self.version = version("ai-edge-litert")

    def build(
        self, source_path: str, regions: Sequence[Region], kernels: KernelsChoice, num_threads: int
    ) -> Instance:
        """Build an instance from the file at `source_path`, whose bytes it maps."""
        return InterpreterInstance(
            self._module,
            self.name,
            source_path,
            regions=regions,
            kernels=kernels,
            num_threads=num_threads,
        )
