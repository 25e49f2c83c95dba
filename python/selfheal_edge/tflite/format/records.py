"""What a model file says, as plain immutable records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "DecodedModel",
    "DecodedSubgraph",
    "HeadInfo",
    "OperatorInfo",
    "Region",
    "RegionKind",
    "RegionUse",
    "Signature",
    "TensorInfo",
]

RegionKind: TypeAlias = Literal["weights", "bias", "other", "graph"]


@dataclass(frozen=True, slots=True, eq=False)
class TensorInfo:
    """One tensor of a subgraph, and where its bytes stand in the file."""

    subgraph: int
    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    """NumPy-like name: ``"int8"``, ``"float32"``; also ``"int4"``, ``"string"``, ``"resource"``."""
    type: str
    """Name in the schema: ``"INT8"``."""
    bits: int
    """Bits of one element; 0 where elements have no fixed size."""
    buffer: int
    """Index into the file's buffers; 0 means none."""
    offset: int | None
    """Offset in the file of the constant data, or None for a tensor that is computed."""
    nbytes: int | None
    """Bytes of the constant data in the file, or None."""
    scales: npt.NDArray[np.float32]
    """Quantisation scales: none, one, or one per slice of `quantized_dimension`; read-only."""
    zero_points: npt.NDArray[np.int64]
    quantized_dimension: int
    scales_offset: int | None
    """Offset in the file of the first scale (float32, little-endian), or None."""
    zero_points_offset: int | None
    """Offset in the file of the first zero point (int64, little-endian), or None."""
    is_variable: bool
    is_sparse: bool
    shape_signature: tuple[int, ...]
    """The shape with -1 where it may change; empty when the file gives none."""

    @property
    def is_constant(self) -> bool:
        """Whether the file holds this tensor's data."""
        return self.offset is not None

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for dim in self.shape:
            total *= dim
        return total


@dataclass(frozen=True, slots=True, eq=False)
class OperatorInfo:
    """One operator of a subgraph."""

    subgraph: int
    index: int
    name: str
    """Builtin name such as ``"CONV_2D"``, or ``"CUSTOM"``."""
    custom_code: str | None
    version: int
    inputs: tuple[int, ...]
    """Tensor indices; -1 stands for an optional input that is not given."""
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    module: str
    """``subgraph/op_index/output_tensor_name``, the name of this operator's weights."""
    options_type: str | None
    """Name of the options table, such as ``"Conv2DOptions"``."""
    options: Mapping[str, Any]
    """Its fields: scalars as numbers, vectors as tuples, strings; defaults filled in."""


class RegionUse(NamedTuple):
    """One use of a region: the tensor that holds it and an operator that reads the tensor."""

    subgraph: int
    tensor: int
    operator: int | None
    """Index of the operator, or None when no operator reads the tensor."""


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of the file; the regions of a file are disjoint and cover all of it."""

    name: str
    """Unique: ``subgraph/tensor_index/tensor_name``, ``buffer/index`` or ``graph/number``."""
    modules: tuple[str, ...]
    """Modules of the operators that read it; more than one when the bytes are shared."""
    offset: int
    nbytes: int
    kind: RegionKind
    uses: tuple[RegionUse, ...]

    @property
    def shared(self) -> bool:
        """Whether more than one tensor or operator uses these bytes."""
        return len(self.uses) > 1


@dataclass(frozen=True, slots=True)
class Signature:
    """A named entry point: its own names for a subgraph's inputs and outputs."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """The last layer of a classifier; see `selfheal_edge.tflite.file.head` for the rule."""

    operator: int
    """Index of the operator in subgraph 0."""
    embedding: int
    """Tensor index of the layer's input."""
    embedding_size: int
    weights: int
    bias: int | None
    logits: int
    """Tensor index of the layer's output."""
    classes: int
    """One a row of the weights; 2 for a single row behind a sigmoid."""
    output: Literal["probabilities", "logits"]
    """Whether output 0 has gone through a softmax (or a logistic) or not."""
    activation: str | None
    """Name of the last operator that makes probabilities, or None."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedSubgraph:
    """One subgraph."""

    name: str
    tensors: tuple[TensorInfo, ...]
    operators: tuple[OperatorInfo, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedModel:
    """All of a file."""

    version: int
    description: str
    buffers: tuple[tuple[int, int] | None, ...]
    """Offset and bytes of each buffer's data in the file; None where it has none."""
    subgraphs: tuple[DecodedSubgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: Mapping[str, int]
    """Buffer index by metadata name."""
