"""LiteRT's compiled models with packed weights of our own, behind the `Instance` protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from selfheal_edge import _core
from selfheal_edge.text import quoted
from selfheal_edge.tflite.coverage.packed_coverage import cover_packed
from selfheal_edge.tflite.coverage.packed_index import PackedBuffer, packed_regions, read_index
from selfheal_edge.tflite.coverage.table import CoverageTable
from selfheal_edge.tflite.file.rewrite import ModelCopy
from selfheal_edge.tflite.format.records import Region, TensorInfo
from selfheal_edge.tflite.runtimes.interpreter import InterpreterInstance, litert_interpreter
from selfheal_edge.tflite.runtimes.protocol import Array, KernelsChoice, RuntimeName, TensorSpec

__all__ = ["CompiledInstance"]


class CompiledInstance:
    """One compiled model.

    Parameters
    ----------
    library
        Path of the installed ``libLiteRt.so``.
    version
        Release of LiteRT; one that was not tested is refused.
    source_path
        Where the bytes of `copy` can be mapped.
    copy
        What those bytes are.
    num_threads
        At least 1.

    Raises
    ------
    RuntimeRefusedError
        With the reason, when this LiteRT or this model cannot be run this way.

    Notes
    -----
    Memory beyond the runtime's own: the packed image, and one buffer for each input and output.
    `run` releases the GIL while the runtime works. Threads may share it: one runs at a time.
    """

    runtime: RuntimeName = "litert"
    kernels: KernelsChoice = "default"
    run: Callable[[Sequence[Array]], list[Array]]
    """Run once on arrays of exactly the inputs' shapes and dtypes; the results are copies.

    Raises `ModelClosedError` after `close`, and `ForkedProcessError` in a child made by `fork`,
    which shares the packed pages with its parent. It is the compiled function itself: a Python
    method around it would cost a tenth of a small model's inference.
    """

    def __init__(
        self,
        library: str,
        version: str,
        source_path: str,
        *,
        copy: ModelCopy,
        num_threads: int,
    ) -> None:
        self.num_threads = num_threads
        self.note = ""
        model = copy.model
        how: dict[str, Any] = {"library": library, "version": version, "num_threads": num_threads}
        self._compiled = _core.CompiledModel(
            **how,
            source_path=source_path,
            own_outputs=copy.own_outputs,
            taps=copy.taps,
        )
        self.run = self._compiled.run
        try:
            self.inputs = _specs(model.inputs, self._compiled.inputs)
            outputs = _specs(model.outputs, self._compiled.outputs)
            self.outputs = outputs[: copy.own_outputs]
            self._taps = copy.taps
            self.taps = tuple(outputs[i] for i in copy.taps)
            view = self._compiled.packed
            self._images: dict[str, memoryview] = {}
            buffers: tuple[PackedBuffer, ...] = ()
            self._image_regions: dict[str, tuple[Region, ...]] = {}
            if view is not None:
                try:
                    buffers = read_index(view.tobytes())
                except ValueError as error:
                    raise _core.RuntimeRefusedError(str(error)) from None
                self._images["packed"] = view
                self._image_regions["packed"] = packed_regions(buffers, len(view), model.subgraphs)
            witness = _Witness(partial(_core.pack_weights, **how), source_path, copy, num_threads)
            self.coverage: CoverageTable = cover_packed(model, buffers, num_threads, witness)
        except BaseException:
            self.close()
            raise

    @property
    def engine(self) -> _core.Engine | None:
        """The compiled model: its tensors stay where they are."""
        return self._compiled

    @property
    def images(self) -> Mapping[str, memoryview]:
        """The packed weights, live and writable; a view may outlive the instance."""
        return MappingProxyType(self._images)

    @property
    def image_regions(self) -> Mapping[str, tuple[Region, ...]]:
        """Which stretch of the packed weights belongs to which modules."""
        return MappingProxyType(self._image_regions)

    def tapped(self) -> list[Array]:
        """Return copies of the taps' values in the last run."""
        return [self._compiled.read(index) for index in self._taps]

    def settled_shapes(self, indices: Iterable[int]) -> Mapping[int, tuple[int, ...]]:  # noqa: ARG002 — as the protocol says
        """Return nothing: inner tensors of a compiled model cannot be asked for."""
        return MappingProxyType({})

    def reset_variables(self) -> None:
        """Do nothing: models with variables are not compiled."""

    def variables(self, indices: Sequence[int]) -> list[Array]:  # noqa: ARG002 — as the protocol says
        """Return nothing: models with variables are not compiled."""
        return []

    def set_variables(self, indices: Sequence[int], values: Sequence[Array]) -> None:
        """Do nothing: models with variables are not compiled."""

    def close(self) -> None:
        """Release the runtime's memory; calling it again does nothing."""
        self._compiled.close()
        self._images = {}


def _specs(tensors: Sequence[TensorInfo], found: Sequence[Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for tensor, (dtype, shape) in zip(tensors, found, strict=True):
        if tensor.dtype != np.dtype(dtype).name or tensor.shape != shape:
            raise _core.RuntimeRefusedError(
                f"{quoted(tensor.name)}: the file says {tensor.dtype} {tensor.shape}, "
                f"the runtime {dtype} {shape}"
            )
        per_tensor = len(tensor.scales) == 1
        specs.append(
            TensorSpec(
                name=tensor.name,
                shape=tensor.shape,
                dtype=np.dtype(dtype),
                scale=float(tensor.scales[0]) if per_tensor else 0.0,
                zero_point=int(tensor.zero_points[0]) if per_tensor else 0,
            )
        )
    return tuple(specs)


class _Witness:
    """Asks the runtime what the packed image does not tell."""

    def __init__(
        self,
        pack: Callable[..., bytes],
        source_path: str,
        copy: ModelCopy,
        num_threads: int,
    ) -> None:
        self._pack = pack
        self._source_path = source_path
        self._copy = copy
        self._num_threads = num_threads

    def pack(self, source: bytes) -> bytes:
        return self._pack(source=source)

    def interpreted(self) -> CoverageTable:
        instance = InterpreterInstance(
            litert_interpreter(),
            "litert",
            self._source_path,
            copy=self._copy,
            kernels="default",
            num_threads=self._num_threads,
        )
        table = instance.coverage
        instance.close()
        return table
