"""LiteRT (`ai-edge-litert`), today's TFLite runtime."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from selfheal_edge._core import RuntimeRefusedError, require_litert
from selfheal_edge.errors import ModelFormatError, ProbeLimitError
from selfheal_edge.text import quoted
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.runtimes.compiled import CompiledInstance
from selfheal_edge.tflite.runtimes.interpreter import InterpreterInstance, litert_interpreter
from selfheal_edge.tflite.runtimes.protocol import (
    Array,
    Instance,
    KernelsChoice,
    RuntimeName,
    TensorSpec,
)
from selfheal_edge.tflite.runtimes.random_inputs import full_range_input
from selfheal_edge.tflite.sandbox.known import is_known, mark_known
from selfheal_edge.tflite.sandbox.packages import loaded_version
from selfheal_edge.tflite.sandbox.policy import ProbePolicy
from selfheal_edge.tflite.sandbox.probe_copy import probe_copy

__all__ = ["LiteRt"]

_FILES_KEPT: Final = 64

_Key: TypeAlias = tuple[str, int]


class LiteRt:
    """The installed LiteRT; `ImportError` when there is none.

    Default kernels run in a compiled model whose packed weights are ours; where that cannot be,
    in an `Interpreter`, and the instance's `note` says why. The first time that a file is compiled
    its answers are compared with an interpreter's, bit by bit; a baseline remembers that it was.

    The `Interpreter` lies in a library of its own, which takes 10 MiB of resident memory: it is
    loaded when something asks for it.
    """

    name: RuntimeName = "litert"

    def __init__(self) -> None:
        package = importlib.import_module("ai_edge_litert")
        self.version = loaded_version(package, self.name)
        self._library = os.path.join(os.path.dirname(package.__file__ or ""), "libLiteRt.so")
        try:
            require_litert(library=self._library, version=self.version)
        except RuntimeRefusedError:
            litert_interpreter()  # what runs then; if it cannot be loaded either, say so now
        self._refusals: dict[_Key, str] = {}

    def build(
        self,
        source_path: str,
        copy: ModelCopy,
        kernels: KernelsChoice,
        num_threads: int,
        probe_policy: ProbePolicy = ProbePolicy(),  # noqa: B008 — immutable
    ) -> Instance:
        """Build an instance from the bytes of `copy` as they are at `source_path`, mapping them."""
        note = ""
        if kernels == "default":
            note = self._unsuitable(source_path, copy, num_threads, probe_policy)
            if not note:
                try:
                    return self._compile(source_path, copy, num_threads)
                except RuntimeRefusedError as error:
                    # Not remembered: bytes that were damaged meanwhile give another image, and
                    # the next build from sound ones is a compiled model again.
                    note = str(error)
            note = f"packed weights cannot be owned: {note}"
        return self._interpret(source_path, copy, kernels, num_threads, note)

    def _interpret(
        self,
        source_path: str,
        copy: ModelCopy,
        kernels: KernelsChoice,
        num_threads: int,
        note: str = "",
    ) -> InterpreterInstance:
        return InterpreterInstance(
            litert_interpreter(),
            self.name,
            source_path,
            copy=copy,
            kernels=kernels,
            num_threads=num_threads,
            note=note,
        )

    def _compile(self, source_path: str, copy: ModelCopy, num_threads: int) -> CompiledInstance:
        compiled = CompiledInstance(
            self._library,
            self.version,
            source_path,
            copy=copy,
            num_threads=num_threads,
        )
        try:
            key = _key(copy, num_threads)
            if not is_known(key[0], "litert", "compared", num_threads):
                reference = self._interpret(source_path, copy, "default", num_threads)
                try:
                    is_equal = _answers_alike(compiled, reference)
                finally:
                    reference.close()
                if not is_equal:
                    self._refusals[key] = "compiled, it answers otherwise than the interpreter does"
                    raise RuntimeRefusedError(self._refusals[key])
                mark_known(key[0], "litert", "compared", num_threads)
        except BaseException:
            compiled.close()
            raise
        return compiled

    def _unsuitable(
        self, source_path: str, copy: ModelCopy, num_threads: int, probe_policy: ProbePolicy
    ) -> str:
        """Return why a model can never be compiled here; empty when it can. Remembered."""
        key = _key(copy, num_threads)
        if key in self._refusals:
            return self._refusals[key]
        reason = ""
        try:
            require_litert(library=self._library, version=self.version)
            reason = _unlike_compiled(copy.model)
            if not reason:
                # Compiling runs other code than the interpreter, some of which aborts the process.
                probe_copy(copy, "litert", "compiled", num_threads, probe_policy)
                is_compared = is_known(key[0], "litert", "compared", num_threads)
                if not is_compared and self._has_open_outputs(source_path, copy):
                    # It would compile, and hand out buffers of which a part was written.
                    reason = "the shape of an output follows from values"
        except ProbeLimitError as error:
            return str(error)  # not remembered: it may pass under another limit
        except (RuntimeRefusedError, ModelFormatError) as error:
            reason = str(error)
        if len(self._refusals) < _FILES_KEPT:
            self._refusals[key] = reason
        return reason

    def _has_open_outputs(self, source_path: str, copy: ModelCopy) -> bool:
        instance = self._interpret(source_path, copy, "builtin", 1)
        try:
            return instance.has_open_outputs
        finally:
            instance.close()


def _key(copy: ModelCopy, num_threads: int) -> _Key:
    return copy.model.sha256, num_threads


def _unlike_compiled(model: ModelFile) -> str:
    """Return what this model needs and a compiled one cannot do; empty if nothing."""
    if any(tensor.is_variable for tensor in model.tensors):
        return "LiteRT compiles no models that keep a state"
    if model.keeps_resources:
        return "it keeps a state in resource variables, and compiling runs it once"
    for tensors in (model.inputs, model.outputs):
        if len({tensor.name for tensor in tensors}) != len(tensors):
            return "two inputs or two outputs have the same name, and LiteRT finds them by name"
    given = {tensor.index for tensor in model.inputs}
    for tensor in model.outputs:
        # The one would be read from the output's buffer; the other is a line on stderr at each run.
        if tensor.index in given or tensor.is_constant:
            kind = "an input" if tensor.index in given else "a constant"
            return f"the output {quoted(tensor.name)} is {kind}, which no operator computes"
    return ""


def _answers_alike(compiled: CompiledInstance, reference: InterpreterInstance) -> bool:
    """Whether both give the same bits: same kernels, so whatever differs was never written."""
    rng = np.random.default_rng(0)
    for fill in (np.zeros, np.ones):
        inputs = [_filled(spec, fill, rng) for spec in reference.inputs]
        try:
            expected = reference.run(inputs) + reference.tapped()
        except (RuntimeError, ValueError):
            continue  # not every kernel takes noise
        try:
            found = compiled.run(inputs) + compiled.tapped()
        except (RuntimeError, ValueError):
            return False
        if any(a.tobytes() != b.tobytes() for a, b in zip(expected, found, strict=True)):
            return False
    return True


def _filled(spec: TensorSpec, fill: Callable[..., Array], rng: np.random.Generator) -> Array:
    """Return inputs as the child process has tried them: a loop may count by what comes in."""
    if fill is np.zeros or spec.dtype.kind not in "iu" or spec.dtype.itemsize > 2:
        return fill(spec.shape, spec.dtype)
    return full_range_input(spec, rng)
