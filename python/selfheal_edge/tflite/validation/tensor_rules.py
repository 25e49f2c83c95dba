"""What must hold for one tensor: shape, quantisation, and the size of its constant data."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format.flatbuffer import MAX_BYTES, Table
from selfheal_edge.tflite.format.records import DecodedSubgraph, TensorInfo
from selfheal_edge.tflite.validation.sparsity import stored_values

__all__ = ["check_tensors"]

_ZERO_POINT_RANGE: Final = {
    "int2": (-2, 1),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
}
_WITHOUT_DATA: Final = frozenset({"RESOURCE", "VARIANT"})
_NUMPY_INTEGERS: Final = ("int8", "uint8", "int16", "int32", "int64")
_INT32_RANGE: Final = (-(2**31), 2**31 - 1)


def check_tensors(data: bytes, graph: DecodedSubgraph, table: Table) -> None:
    """Check every tensor of one subgraph.

    Raises
    ------
    ModelFormatError
        With the tensor's place and name, what was expected and what was found.
    """
    tables = table.tables("tensors")
    for tensor, entry in zip(graph.tensors, tables, strict=True):
        _check_shape(tensor)
        if tensor.scales.size or tensor.zero_points.size:
            _check_quantization(data, tensor)
        params = entry.table("quantization")
        if params is not None and params.scalar("details_type"):
            _check_details(tensor, params, len(tables))
        if tensor.is_sparse:
            sparsity = entry.table("sparsity")
            if not tensor.is_constant or sparsity is None:
                raise _fail(tensor, "sparsity", "a sparse tensor with constant data", "none")
            if tensor.bits:
                _check_nbytes(tensor, stored_values(sparsity, tensor.shape, _place(tensor)))
        elif tensor.is_constant:
            _check_constant(data, tensor)


def _place(tensor: TensorInfo) -> str:
    return f"Model.subgraphs[{tensor.subgraph}].tensors[{tensor.index}] ({tensor.name!r})"


def _fail(tensor: TensorInfo, field: str, expected: str, got: object) -> ModelFormatError:
    return ModelFormatError(f"{_place(tensor)}.{field}: expected {expected}, got {got}")


def _check_shape(tensor: TensorInfo) -> None:
    shape = tensor.shape
    if any(dim < 0 for dim in shape):
        raise _fail(tensor, "shape", "no negative dimension", list(shape))
    # Zeros are left out: kernels multiply the other dimensions before they meet the zero.
    elements = math.prod(dim for dim in shape if dim)
    if elements * max(tensor.bits, 8) > MAX_BYTES * 8:
        raise _fail(tensor, "shape", f"at most {MAX_BYTES} bytes", list(shape))
    signature = tensor.shape_signature
    if signature and (
        len(signature) != len(shape)
        or any(s not in (-1, d) for s, d in zip(signature, shape, strict=True))
    ):
        raise _fail(
            tensor, "shape_signature", f"{list(shape)}, or -1 in its place", list(signature)
        )


def _check_quantization(data: bytes, tensor: TensorInfo) -> None:
    scales, zeros, axis = tensor.scales, tensor.zero_points, tensor.quantized_dimension
    rank = len(tensor.shape)
    if scales.size != zeros.size:
        raise _fail(tensor, "quantization", f"{scales.size} zero points", zeros.size)
    if not 0 <= axis < max(rank, 1):
        raise _fail(tensor, "quantization.quantized_dimension", f"0 to {max(rank, 1) - 1}", axis)
    if scales.size > 1 and (rank == 0 or scales.size != tensor.shape[axis]):
        size = tensor.shape[axis] if rank else 1
        raise _fail(tensor, "quantization.scale", f"1 or {size} values", scales.size)
    bad = ~(np.isfinite(scales) & (scales > 0))
    if bad.any() and not (np.isfinite(scales).all() and _is_zero_where(data, tensor, scales <= 0)):
        raise _fail(tensor, "quantization.scale", "finite positive values", scales[bad][0])
    low, high = _ZERO_POINT_RANGE.get(tensor.dtype, _INT32_RANGE)
    if zeros.size and not low <= int(zeros.min()) <= int(zeros.max()) <= high:
        raise _fail(
            tensor,
            "quantization.zero_point",
            f"{low} to {high}",
            [int(zeros.min()), int(zeros.max())],
        )


def _is_zero_where(data: bytes, tensor: TensorInfo, flat: npt.NDArray[np.bool_]) -> bool:
    """Whether a constant holds nothing but zero where its scale is 0: old converters write that."""
    if (tensor.scales < 0).any() or tensor.dtype not in _NUMPY_INTEGERS or tensor.is_sparse:
        return False
    if tensor.offset is None or (tensor.nbytes or 0) * 8 != tensor.size * tensor.bits:
        return False
    values = np.frombuffer(data, tensor.dtype, tensor.size, tensor.offset).reshape(tensor.shape)
    rows = np.moveaxis(values, tensor.quantized_dimension, 0) if flat.size > 1 else values[None]
    expected = tensor.zero_points[flat].reshape((-1,) + (1,) * (rows.ndim - 1))
    return bool((rows[flat] == expected).all())


def _check_details(tensor: TensorInfo, params: Table, count: int) -> None:
    details = params.table("details")
    if details is None or details.name == "CustomQuantization":
        return
    if not 0 <= details.scalar("scales") < count:
        raise _fail(tensor, "quantization.details.scales", f"0 to {count - 1}", "another index")
    if not -1 <= details.scalar("zero_points") < count:
        raise _fail(tensor, "quantization.details.zero_points", f"-1 to {count - 1}", "another")
    block = details.scalar("block_size")
    is_blockwise = details.name == "BlockwiseQuantization"
    if block < (1 if is_blockwise and not details.vector("block_shape") else 0):
        raise _fail(tensor, "quantization.details.block_size", "a positive size", block)
    if details.name == "MultiAxisQuantization":
        axes = details.vector("quantized_dimensions")
        if any(not 0 <= axis < len(tensor.shape) for axis in axes):
            raise _fail(
                tensor, "quantization.details", f"axes below {len(tensor.shape)}", list(axes)
            )


def _check_nbytes(tensor: TensorInfo, elements: int) -> None:
    expected = (elements * tensor.bits + 7) // 8
    if tensor.nbytes != expected:
        what = f"{expected} bytes for {elements} values of {tensor.dtype} (shape {tensor.shape})"
        raise _fail(tensor, "buffer", what, f"{tensor.nbytes} in buffer {tensor.buffer}")


def _check_constant(data: bytes, tensor: TensorInfo) -> None:
    if tensor.is_variable:
        raise _fail(tensor, "is_variable", "a variable without data", f"buffer {tensor.buffer}")
    if tensor.type == "STRING":
        _check_strings(data, tensor)
    elif tensor.type in _WITHOUT_DATA:
        raise _fail(tensor, "buffer", f"no data for a {tensor.dtype}", f"{tensor.nbytes} bytes")
    elif not tensor.bits:
        return  # a type newer than this library: how many bytes it takes, only the runtime knows
    else:
        _check_nbytes(tensor, tensor.size)
        # Runtimes read values in place. Files promise 16; four is what kernels rely on.
        align = min(4, max(1, tensor.bits // 8))
        if (tensor.offset or 0) % align:
            raise _fail(tensor, "buffer", f"data at a multiple of {align}", tensor.offset)


def _check_strings(data: bytes, tensor: TensorInfo) -> None:
    """Check the packing: count, count + 1 offsets, characters; all int32 from the data's start."""
    start, nbytes = tensor.offset or 0, tensor.nbytes or 0
    count = int.from_bytes(data[start : start + 4], "little", signed=True)
    if nbytes < 4 or count != tensor.size or 4 * (count + 2) > nbytes:
        raise _fail(tensor, "buffer", f"{tensor.size} strings", f"{count} in {nbytes} bytes")
    offsets = np.frombuffer(data, "<i4", count + 1, start + 4)
    if offsets[0] != 4 * (count + 2) or offsets[-1] > nbytes or (np.diff(offsets) < 0).any():
        raise _fail(tensor, "buffer", "string offsets that grow inside the buffer", "others")
