"""What two files of one model differ in: which constants, by how much, in real units."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.records import TensorInfo

__all__ = ["TensorDifference", "compare_models"]

_NUMBERS: Final = frozenset(
    {"int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"}
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """One constant that differs."""

    tensor: str
    modules: tuple[str, ...]
    """Layers that read it."""
    dtype: str
    elements: int
    changed: int
    """Elements that stand for another number, or whose bytes differ where that is not known."""
    largest: float | None
    """Of all changes, in real units; None where what the bytes stand for is not known."""
    rms: float | None
    """Root of the mean squared change, over all elements, in real units; likewise."""
    golden_rms: float | None
    """Of the elements before, to compare with."""
    scales: tuple[float, float] | None
    """Least and greatest factor by which scales changed; None where none did."""

    @property
    def share(self) -> float:
        """Share of elements that changed."""
        return self.changed / self.elements if self.elements else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "share": self.share}


def compare_models(golden: ModelFile, other: ModelFile) -> tuple[TensorDifference, ...]:
    """Return the constants that differ, in the order of the file.

    Raises
    ------
    ModelFormatError
        When the two are not one model: another graph, or other shapes.
    """
    if _graph(golden) != _graph(other):
        raise ModelFormatError(
            "model: expected two files of one graph, which differ in weights alone, got others"
        )
    found = []
    seen: set[int] = set()
    for before, after in zip(golden.tensors, other.tensors, strict=True):
        if before.offset is None or before.offset in seen:  # several may share their bytes
            continue
        seen.add(before.offset)
        difference = _compare(golden, before, other, after)
        if difference is not None:
            found.append(difference)
    return tuple(found)


def _graph(model: ModelFile) -> object:
    return [
        (
            [(t.name, t.dtype, t.shape, t.nbytes, t.is_constant) for t in graph.tensors],
            [(o.name, o.inputs, o.outputs, o.options) for o in graph.operators],
        )
        for graph in model.subgraphs
    ]


def _compare(
    golden: ModelFile, before: TensorInfo, other: ModelFile, after: TensorInfo
) -> TensorDifference | None:
    old, new = _bytes(golden, before), _bytes(other, after)
    is_scaled = (
        before.scales.tobytes() != after.scales.tobytes()
        or before.zero_points.tobytes() != after.zero_points.tobytes()
    )
    if old == new and not is_scaled:
        return None
    modules = tuple(
        dict.fromkeys(
            operator.module
            for operator in golden.subgraphs[before.subgraph].operators
            if before.index in operator.inputs
        )
    )
    scales = None
    if is_scaled and before.scales.shape == after.scales.shape and (before.scales > 0).all():
        factors = after.scales.astype(np.float64) / before.scales
        scales = float(factors.min()), float(factors.max())
    values = _real(before, old), _real(after, new)
    elements = before.size
    if values[0] is None or values[1] is None:
        bytes_before, bytes_after = (np.frombuffer(part, np.uint8) for part in (old, new))
        differing = int(np.count_nonzero(bytes_before != bytes_after))
        return TensorDifference(
            before.name, modules, before.dtype, elements, differing, None, None, None, scales
        )
    away = np.abs(values[1] - values[0])
    return TensorDifference(
        before.name,
        modules,
        before.dtype,
        elements,
        int(np.count_nonzero(away)),
        float(away.max(initial=0.0)),
        _rms(away),
        _rms(values[0]),
        scales,
    )


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _bytes(model: ModelFile, tensor: TensorInfo) -> bytes:
    assert tensor.offset is not None
    assert tensor.nbytes is not None
    return model.data[tensor.offset : tensor.offset + tensor.nbytes]


def _real(tensor: TensorInfo, data: bytes) -> Floats | None:
    """Return the numbers that bytes stand for; None for packed, sparse and other types."""
    if tensor.dtype not in _NUMBERS or tensor.is_sparse:
        return None
    values = np.frombuffer(data, tensor.dtype).astype(np.float64)
    if values.size != tensor.size:
        return None
    values = values.reshape(tensor.shape)
    if not len(tensor.scales):
        return values
    shape = [1] * values.ndim
    if len(tensor.scales) > 1:
        shape[tensor.quantized_dimension] = len(tensor.scales)
    scales = tensor.scales.astype(np.float64).reshape(shape)
    zeros = tensor.zero_points.astype(np.float64)
    zeros = zeros.reshape(shape) if zeros.size == tensor.scales.size else np.zeros(shape)
    return np.asarray(scales * (values - zeros))
