"""The `Interpreter` class that both runtimes share, behind the `Instance` protocol."""

from __future__ import annotations

import ctypes
import importlib
import os
import weakref
from _thread import allocate_lock  # `threading` is for programs that start threads
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from selfheal_edge import _core
from selfheal_edge.errors import (
    ForkedProcessError,
    ModelClosedError,
    ModelFormatError,
    RuntimeUnavailableError,
)
from selfheal_edge.tflite.coverage.rules import BuiltOperator, cover
from selfheal_edge.tflite.coverage.table import CoverageTable
from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.format.records import Region, TensorInfo
from selfheal_edge.tflite.runtimes.protocol import Array, KernelsChoice, RuntimeName, TensorSpec

__all__ = ["InterpreterInstance", "litert_interpreter"]

_NUMBERS: Final = "biufc"
"""Kinds of NumPy dtypes."""
_FILES_KEPT: Final = 64
_settled: dict[tuple[RuntimeName, str], bool] = {}
"""What builtin kernels said of files with open axes."""
_living: weakref.WeakSet[InterpreterInstance] = weakref.WeakSet()


def _forked() -> None:
    """Keep every interpreter in a forked child: its destructor waits for the parent's threads."""
    for instance in _living:
        instance._is_inherited = True
        instance.keep_for_ever()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def litert_interpreter() -> Any:
    """Return `ai_edge_litert.interpreter`.

    Raises
    ------
    RuntimeUnavailableError
        When its extension cannot be loaded: an `ImportError`.
    """
    name = "ai_edge_litert.interpreter"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"runtime: expected {name} to be importable, got {error}"
        ) from None


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        name=str(detail["name"]),
        shape=tuple(int(n) for n in detail["shape"]),
        dtype=np.dtype(detail["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _specs(details: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    """Describe tensors under names that tell them apart, which the file need not give them."""
    specs = [_spec(detail) for detail in details]
    names = [spec.name for spec in specs]
    return tuple(
        replace(spec, name=f"{spec.name}#{i}") if names.count(spec.name) > 1 else spec
        for i, spec in enumerate(specs)
    )


def _build(module: Any, runtime: RuntimeName, path: str, options: Mapping[str, Any]) -> Any:
    try:
        with _core.QuietStderr():
            interpreter = module.Interpreter(model_path=path, **options)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelFormatError(f"model: {runtime} refuses it: {error}") from None
    return interpreter


def _invoke_anew(inner: Any) -> Any:
    inner.ResetVariableTensors()
    return inner.Invoke()


def _has_open_axes(tensors: Iterable[TensorInfo]) -> bool:
    return any(-1 in tensor.shape_signature for tensor in tensors)


def _settled_by_builtin(
    module: Any, runtime: RuntimeName, source_path: str, copy: ModelCopy
) -> bool:
    """Whether builtin kernels, which hide nothing, have every shape before the first run."""
    key = (runtime, copy.model.sha256)
    if key not in _settled:
        twin = InterpreterInstance(
            module, runtime, source_path, copy=copy, kernels="builtin", num_threads=1
        )
        if len(_settled) >= _FILES_KEPT:
            _settled.clear()
        _settled[key] = twin._is_static(lambda: False)
        twin.close()
    return _settled[key]


class InterpreterInstance:
    """One plain interpreter.

    Parameters
    ----------
    module
        `ai_edge_litert.interpreter` or `tflite_runtime.interpreter`.
    runtime
        Its name in this package.
    source_path
        Where the interpreter maps the model from; it keeps the mapping, not the path.
    copy
        What those bytes are, for the coverage table and the taps.
    kernels
        ``"default"`` lets the runtime apply XNNPACK, ``"builtin"`` does not.
    num_threads
        At least 1.
    note
        Why this and not a compiled model; empty where there is no other way.

    Raises
    ------
    ModelFormatError
        With the runtime's own words, when it refuses the file.
    """

    def __init__(
        self,
        module: Any,
        runtime: RuntimeName,
        source_path: str,
        *,
        copy: ModelCopy,
        kernels: KernelsChoice,
        num_threads: int,
        note: str = "",
    ) -> None:
        self.runtime = runtime
        self.kernels = kernels
        self.num_threads = num_threads
        self.note = note
        options: dict[str, Any] = {"num_threads": num_threads}
        if kernels == "builtin":
            resolvers = module.OpResolverType
            options["experimental_op_resolver_type"] = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._build: Callable[[], Any] = partial(_build, module, runtime, source_path, options)
        interpreter = self._interpreter = self._build()
        self._renews = copy.starts_anew and copy.model.keeps_resources
        self._resets = copy.starts_anew and not self._renews and copy.model.keeps_variables
        self._is_inherited = False
        self._lock = allocate_lock()
        _living.add(self)
        inputs = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        self._input_indices = [int(d["index"]) for d in inputs]
        self._output_indices = [int(d["index"]) for d in outputs]
        self.inputs = _specs(inputs)
        self.outputs = _specs(outputs[: copy.own_outputs])
        specs = [_spec(d) for d in outputs]
        self.taps = tuple(specs[i] for i in copy.taps)
        self._tap_indices = [self._output_indices[i] for i in copy.taps]
        del self._output_indices[copy.own_outputs :]
        self._dtypes = {
            int(d["index"]): np.dtype(d["dtype"]) for d in interpreter.get_tensor_details()
        }
        tensors = copy.model.subgraphs[0].tensors
        self._handles = frozenset(t.index for t in tensors if t.type == "RESOURCE")
        self.coverage = self._cover(copy.model.regions)
        self._call = self._fixed_call(
            copy, lambda: _settled_by_builtin(module, runtime, source_path, copy)
        )

    def _cover(self, regions: Sequence[Region]) -> CoverageTable:
        # The only door to "which operators did a delegate take"; both runtimes have it.
        operators = [
            BuiltOperator(int(op["index"]), str(op["op_name"]), tuple(int(i) for i in op["inputs"]))
            for op in self._interpreter._get_ops_details()
        ]
        dtypes = {index: dtype.name for index, dtype in self._dtypes.items()}
        has_delegates = self.kernels == "default"
        return cover(regions, operators, dtypes, self.num_threads, has_delegates=has_delegates)

    @property
    def engine(self) -> _core.Engine | None:
        """The engine that uses fixed addresses; None where a tensor may move."""
        return self._call

    @property
    def images(self) -> Mapping[str, memoryview]:
        """None: what a plain interpreter packs, it packs into memory that no interface shows."""
        return MappingProxyType({})

    @property
    def image_regions(self) -> Mapping[str, tuple[Region, ...]]:
        """None either."""
        return MappingProxyType({})

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once on arrays of exactly the inputs' shapes and dtypes; the results are copies."""
        if self._is_inherited:
            raise ForkedProcessError(
                "model: expected use in the process that opened it, got use in a forked child"
            )
        with self._lock:  # the runtime's own calls, side by side, take the process down
            interpreter = self._open()
            if self._call is not None:
                return self._call(inputs)
            if self._renews:  # resource variables start anew with their interpreter alone
                interpreter = self._interpreter = self._build()
            if self._resets:
                interpreter.reset_all_variables()
            for index, array in zip(self._input_indices, inputs, strict=True):
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            # A scalar comes as a NumPy number, not as an array.
            return [np.asarray(interpreter.get_tensor(index)) for index in self._output_indices]

    def _fixed_call(
        self, copy: ModelCopy, is_settled: Callable[[], bool]
    ) -> _core.InterpreterCall | None:
        """Return an engine that uses fixed addresses; None where a tensor may move.

        `set_tensor` and `get_tensor` look the tensor up, and check and convert arrays, at every
        call: more than a small model's share. Addresses hold as long as nothing reallocates, and
        an invoke does so only for tensors whose shape it finds out itself.
        """
        every = (*copy.model.inputs, *copy.model.outputs[: copy.own_outputs])
        # Values narrower than a byte are unpacked by `get_tensor`, not where they lie.
        if self._renews or any(t.size == 0 or t.bits < 8 for t in every):
            return None
        if not self._is_static(is_settled if _has_open_axes(every) else lambda: True):
            return None
        places: list[list[tuple[int, np.dtype[Any], tuple[int, ...]]]] = []
        variables = [t.index for t in copy.model.tensors if t.is_variable]
        for indices in (self._input_indices, self._output_indices, self._tap_indices, variables):
            ports = []
            for index in indices:
                view = self._view(index)
                if not isinstance(view, np.ndarray) or not view.size:
                    return None  # a scalar comes as a NumPy number: a copy, with no address to keep
                address = int(view.__array_interface__["data"][0])
                if not address:
                    return None
                ports.append((address, view.dtype, view.shape))
            places.append(ports)
        inner = self._interpreter._interpreter
        invoke = partial(_invoke_anew, inner) if self._resets else inner.Invoke
        return _core.InterpreterCall(
            invoke=invoke,
            inputs=places[0],
            outputs=places[1],
            taps=places[2],
            variables=places[3],
        )

    def _is_static(self, is_settled: Callable[[], bool]) -> bool:
        """Whether every shape is settled: then all that operators write to has its memory now.

        What a delegate took has no memory either. It takes static shapes only, but an open axis in
        the file may hide one that is not: `is_settled` tells.
        """
        operators = self._interpreter._get_ops_details()
        results = {int(index) for op in operators for index in op["outputs"]} - self._handles
        if all(map(self._has_memory, results)):
            return True
        return any(op["op_name"] == "DELEGATE" for op in operators) and is_settled()

    def _view(self, index: int) -> Any:
        """Return a tensor's memory as an array of numbers; None where it has none, or no numbers.

        What a RESOURCE or a VARIANT holds are pointers of the runtime's own. NumPy would take them
        for pointers to Python objects, and already the one of a tensor without axes is followed.
        """
        if self._dtypes[index].kind not in _NUMBERS:
            return None
        try:
            return self._interpreter.tensor(index)()
        except (ValueError, RuntimeError):  # allocated while it runs, if at all
            return None

    def _has_memory(self, index: int) -> bool:
        return self._view(index) is not None

    def resized(self, shapes: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        """Return what shapes all tensors of subgraph 0 have if inputs have these.

        Raises
        ------
        ModelFormatError
            When the runtime refuses them. The instance is of no use afterwards, either way.
        """
        self._call = None
        interpreter = self._open()
        try:
            for index, shape in shapes.items():
                interpreter.resize_tensor_input(index, shape)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelFormatError(f"model: {self.runtime} refuses {shapes}: {error}") from None
        details = interpreter.get_tensor_details()
        return {int(d["index"]): tuple(int(n) for n in d["shape"]) for d in details}

    def settled_shapes(self, indices: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
        """Return the shapes of those tensors that have their memory before the first run."""
        views = {index: self._view(index) for index in indices}
        return {i: tuple(np.shape(view)) for i, view in views.items() if view is not None}

    @property
    def has_open_outputs(self) -> bool:
        """Whether the shape of an output or tap follows from values; ask before the first run."""
        return not all(map(self._has_memory, (*self._output_indices, *self._tap_indices)))

    def tapped(self) -> list[Array]:
        """Return copies of the taps' values in the last run."""
        interpreter = self._open()
        return [interpreter.get_tensor(index) for index in self._tap_indices]

    def _open(self) -> Any:
        if self._interpreter is None:
            raise ModelClosedError("model: expected an open model, got a closed one")
        return self._interpreter

    def reset_variables(self) -> None:
        """Set the state of a recurrent model to zero."""
        if self._interpreter is not None:
            self._interpreter.reset_all_variables()

    def variables(self, indices: Sequence[int]) -> list[Array]:
        """Return copies of variable tensors: the state of a recurrent model."""
        interpreter = self._open()
        return [interpreter.get_tensor(index) for index in indices]

    def set_variables(self, indices: Sequence[int], values: Sequence[Array]) -> None:
        """Go on from the state that `variables` gave."""
        self._open()
        for index, value in zip(indices, values, strict=True):
            self._view(index)[...] = value

    def keep_for_ever(self) -> None:
        """Let nothing destroy the interpreter any more, the end of the process included."""
        if self._interpreter is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._interpreter))

    def close(self) -> None:
        """Release the runtime's memory; calling it again does nothing."""
        if self._call is not None:
            self._call.close()
        self._call = None
        self._interpreter = None
