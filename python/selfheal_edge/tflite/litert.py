"""LiteRT (`ai-edge-litert`), today's TFLite runtime."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path
from typing import Final

from selfheal_edge._core import RuntimeRefusedError, require_litert
from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.chatter import without_chatter
from selfheal_edge.tflite.compiled import CompiledInstance
from selfheal_edge.tflite.interpreter import InterpreterInstance
from selfheal_edge.tflite.probe import probe
from selfheal_edge.tflite.protocol import Instance, KernelsChoice, RuntimeName
from selfheal_edge.tflite.rewrite import ModelCopy

__all__ = ["LiteRt"]

_REASONS_KEPT: Final = 64


class LiteRt:
    """The installed LiteRT; `ImportError` when there is none.

    Default kernels run in a compiled model whose packed weights are ours; where that cannot be,
    in an `Interpreter`, and the instance's `note` says why.
    """

    name: RuntimeName = "litert"

    def __init__(self) -> None:
        with without_chatter():
            self._module = importlib.import_module("ai_edge_litert.interpreter")
        self.version = version("ai-edge-litert")
        self._library = str(Path(self._module.__file__ or "").with_name("libLiteRt.so"))
        self._refusals: dict[tuple[str, int], str] = {}

    def build(
        self, source_path: str, copy: ModelCopy, kernels: KernelsChoice, num_threads: int
    ) -> Instance:
        """Build an instance from the bytes of `copy` as they are at `source_path`, mapping them."""
        note = ""
        if kernels == "default":
            note = self._unsuitable(source_path, copy, num_threads)
            if not note:
                try:
                    return CompiledInstance(
                        self._module,
                        self._library,
                        self.version,
                        source_path,
                        copy=copy,
                        num_threads=num_threads,
                    )
                except RuntimeRefusedError as error:
                    # Not remembered: bytes that were damaged meanwhile give another image, and
                    # the next build from sound ones is a compiled model again.
                    note = str(error)
            note = f"packed weights cannot be owned: {note}"
        return InterpreterInstance(
            self._module,
            self.name,
            source_path,
            copy=copy,
            kernels=kernels,
            num_threads=num_threads,
            note=note,
        )

    def _unsuitable(self, source_path: str, copy: ModelCopy, num_threads: int) -> str:
        """Return why a model can never be compiled here; empty when it can. Remembered."""
        key = (copy.model.sha256, num_threads)
        if key in self._refusals:
            return self._refusals[key]
        reason = ""
        try:
            require_litert(library=self._library, version=self.version)
            if any(tensor.is_variable for tensor in copy.model.tensors):
                reason = "LiteRT compiles no models that keep a state"
            else:
                # Compiling runs other code than the interpreter, some of which aborts the process.
                probe(copy.model.data, "litert", "compiled", num_threads)
                if self._has_open_outputs(source_path, copy):
                    # It would compile, and hand out buffers of which a part was written.
                    reason = "the shape of an output follows from values"
        except (RuntimeRefusedError, ModelFormatError) as error:
            reason = str(error)
        if len(self._refusals) < _REASONS_KEPT:
            self._refusals[key] = reason
        return reason

    def _has_open_outputs(self, source_path: str, copy: ModelCopy) -> bool:
        instance = InterpreterInstance(
            self._module, self.name, source_path, copy=copy, kernels="builtin", num_threads=1
        )
        try:
            return instance.has_open_outputs
        finally:
            instance.close()
