"""Replace what a graph computes from shapes alone by constants, in our copy of a model file.

A converter that leaves the batch open writes the shape that a flattening layer needs as operators:
SHAPE, STRIDED_SLICE, PACK, and RESHAPE asks for their result. To a runtime every tensor behind it
is of unknown shape until it runs, so it can neither be compiled nor be planned. We never resize an
input, so all of that is known beforehand. Operators that compute nothing else are taken out of the
copy; where an operator that stays asked for their result, it finds a constant.

The values follow from the shapes that the file declares. Whether these are the real ones only the
runtime knows: `FoldedShapes.assumed` names them, and `select.py`, which builds the copy, compares.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.flatbuffer import Table, root_table
from selfheal_edge.tflite.format.records import OperatorInfo, TensorInfo
from selfheal_edge.tflite.format.schema import TENSOR_TYPES, TFLITE
from selfheal_edge.tflite.validation.result_sizes import settled

__all__ = ["FoldedShapes", "fold_shapes"]

_U32: Final = struct.Struct("<I")
_INTEGERS: Final = frozenset({"int32", "int64"})
_TYPE_CODES: Final = {kind.dtype: code for code, kind in enumerate(TENSOR_TYPES)}
_MOST_VALUES: Final = 64
"""Of one folded tensor: a shape has at most some ten."""
_ALIGNMENT: Final = 16


@dataclass(frozen=True, slots=True)
class FoldedShapes:
    """A file without arithmetic on shapes."""

    data: bytes
    operators: tuple[int, ...]
    """For each operator that is left in subgraph 0, its index in the file."""
    assumed: Mapping[int, tuple[int, ...]]
    """Tensors of subgraph 0 whose declared shapes the constants follow from."""


def fold_shapes(model: ModelFile, kept: Collection[int] = ()) -> FoldedShapes | None:
    """Fold the arithmetic on shapes of subgraph 0.

    Parameters
    ----------
    model
        The file.
    kept
        Tensors that have to be computed all the same: those that are read after an inference.

    Returns
    -------
    FoldedShapes or None
        None where there is nothing to fold, or no room in the file's list of buffers for the
        constants. No constant of the file moves.
    """
    graph = model.subgraphs[0]
    values, assumed = _evaluate(model)
    wanted = {*kept, *graph.outputs}
    for op in reversed(graph.operators):  # and what these are computed from
        if any(i in values and i in wanted for i in op.outputs):
            wanted.update(i for i in op.inputs if i in values)
    removed = {op.index for op in graph.operators if _is_folded(op, values, wanted)}
    staying = [op for op in graph.operators if op.index not in removed]
    asked = {i for op in staying for i in op.inputs if i in values and i not in wanted}
    if not removed or not asked:
        return None
    gone = {i for index in removed for i in graph.operators[index].outputs}
    still_read = {i for op in staying for i in op.inputs} | wanted
    for index in removed:
        inputs = graph.operators[index].inputs
        gone |= {i for i in inputs if i not in still_read and graph.tensors[i].is_constant}
    free = _free_buffers(model, gone)
    constants: dict[tuple[str, tuple[int, ...], bytes], list[int]] = {}
    for index in sorted(asked):
        value = values[index]
        constants.setdefault((value.dtype.name, value.shape, value.tobytes()), []).append(index)
    if len(free) < len(constants):
        return None
    data = bytearray(model.data)
    root = root_table(model.data, TFLITE)
    for (buffer, holders), ((dtype, shape, raw), users) in zip(
        free.items(), constants.items(), strict=False
    ):
        _redirect(data, root, "buffers", buffer, _append_buffer(data, raw))
        tensor = _append_tensor(data, dtype, shape, buffer, graph.tensors[users[0]].name)
        # What held the buffer's old bytes would not fit the new ones; no operator reads it now.
        for index in {*users, *holders}:
            _redirect(data, root.tables("subgraphs")[0], "tensors", index, tensor)
    _keep_entries(data, root.tables("subgraphs")[0], "operators", [op.index for op in staying])
    return FoldedShapes(bytes(data), tuple(op.index for op in staying), assumed)


def _is_folded(operator: OperatorInfo, values: Mapping[int, Any], wanted: Collection[int]) -> bool:
    return bool(operator.outputs) and all(i in values and i not in wanted for i in operator.outputs)


def _free_buffers(model: ModelFile, gone: Collection[int]) -> dict[int, list[int]]:
    """Return buffers that nothing will need, each with the tensors of subgraph 0 that had it."""
    holders: dict[int, list[int]] = {}
    needed = {0, *model.metadata.values()}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.subgraph == 0 and tensor.index in gone:
                holders.setdefault(tensor.buffer, []).append(tensor.index)
            else:
                needed.add(tensor.buffer)
    return {buffer: tensors for buffer, tensors in holders.items() if buffer not in needed}


# What the operators do, on integers.


def _evaluate(model: ModelFile) -> tuple[dict[int, Any], dict[int, tuple[int, ...]]]:
    """Return the value of every tensor that follows from shapes, and the shapes that were used."""
    graph = model.subgraphs[0]
    values: dict[int, Any] = {}
    assumed: dict[int, tuple[int, ...]] = {}
    for op in graph.operators:
        rule = _RULES.get(op.name)
        if rule is None or len(op.outputs) != 1:
            continue
        result = graph.tensors[op.outputs[0]]
        if result.dtype not in _INTEGERS or min(op.inputs, default=-1) < 0:
            continue
        if op.name == "SHAPE":
            source = graph.tensors[op.inputs[0]]
            if not settled(source):
                continue
            assumed[source.index] = source.shape
            values[result.index] = np.array(source.shape, result.dtype)
            continue
        if not any(i in values for i in op.inputs):
            continue
        operands = [
            values[i] if i in values else _constant(model, graph.tensors[i]) for i in op.inputs
        ]
        if any(operand is None for operand in operands):
            continue
        try:
            value = np.asarray(rule(op.options, *operands))
        except (ArithmeticError, IndexError, TypeError, ValueError):
            continue  # the runtime will say what is wrong with it
        if value.size <= _MOST_VALUES:
            values[result.index] = value.astype(result.dtype)
    return values, assumed


def _constant(model: ModelFile, tensor: TensorInfo) -> Any:
    if not tensor.is_constant or tensor.is_sparse or tensor.dtype not in _INTEGERS:
        return None
    return model.constant(tensor) if tensor.size <= _MOST_VALUES else None


Options = Mapping[str, Any]


def _plain(options: Options) -> None:
    if options.get("fused_activation_function", 0):
        raise ValueError


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def rule(options: Options, left: Any, right: Any) -> Any:
        _plain(options)
        with np.errstate(divide="raise"):
            return function(left, right)

    return rule


def _strided_slice(options: Options, source: Any, begin: Any, end: Any, step: Any) -> Any:
    if any(options.get(name, 0) for name in ("ellipsis_mask", "new_axis_mask", "offset")):
        raise ValueError
    places: list[Any] = []
    for axis, (first, last, stride) in enumerate(zip(begin, end, step, strict=True)):
        bit = 1 << axis
        if options.get("shrink_axis_mask", 0) & bit:
            places.append(int(first))
            continue
        from_end = options.get("end_mask", 0) & bit
        from_begin = options.get("begin_mask", 0) & bit
        places.append(slice(None if from_begin else first, None if from_end else last, int(stride)))
    return source[tuple(places)]


def _slice(_: Options, source: Any, begin: Any, size: Any) -> Any:
    places = []
    for first, count in zip(begin, size, strict=True):
        places.append(slice(first, None if count == -1 else first + count))
    return source[tuple(places)]


def _gather(options: Options, source: Any, indices: Any) -> Any:
    if options.get("batch_dims", 0) or np.min(indices, initial=0) < 0:
        raise ValueError
    return np.take(source, indices, axis=options.get("axis", 0))


def _pack(options: Options, *parts: Any) -> Any:
    return np.stack(parts, axis=options.get("axis", 0))


def _concatenation(options: Options, *parts: Any) -> Any:
    _plain(options)
    return np.concatenate(parts, axis=options.get("axis", 0))


def _reshape(options: Options, source: Any, shape: Any = None) -> Any:
    return source.reshape(options.get("new_shape", ()) if shape is None else tuple(shape))


def _squeeze(options: Options, source: Any) -> Any:
    return np.squeeze(source, axis=options.get("squeeze_dims") or None)


def _expand_dims(_: Options, source: Any, axis: Any) -> Any:
    return np.expand_dims(source, int(axis))


def _product(options: Options, source: Any, axes: Any) -> Any:
    whole = tuple(int(axis) for axis in np.ravel(axes))
    return np.prod(source, axis=whole, keepdims=bool(options.get("keep_dims", 0)))


def _same(_: Options, source: Any) -> Any:
    return source


_RULES: Final[Mapping[str, Callable[..., Any]]] = {
    "SHAPE": _same,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "GATHER": _gather,
    "PACK": _pack,
    "CONCATENATION": _concatenation,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand_dims,
    "CAST": _same,
    "REDUCE_PROD": _product,
    "ADD": _arithmetic(np.add),
    "SUB": _arithmetic(np.subtract),
    "MUL": _arithmetic(np.multiply),
    "FLOOR_DIV": _arithmetic(np.floor_divide),
    "MAXIMUM": _arithmetic(np.maximum),
    "MINIMUM": _arithmetic(np.minimum),
}


# Bytes: offsets of a flatbuffer point forward, so what is new stands at the end.


def _append(data: bytearray, raw: bytes, *, ahead: int = 0, alignment: int = 4) -> int:
    """Append bytes so that what stands `ahead` in them is aligned; return where they begin."""
    data.extend(bytes(-(len(data) + ahead) % alignment))
    place = len(data)
    data.extend(raw)
    return place


def _append_table(data: bytearray, fields: Mapping[int, tuple[str, int]], size: int) -> int:
    """Append a table with inline fields by vtable slot; offsets are to be filled in."""
    slots = max(fields) + 1
    body = bytearray(size)
    entries = [0] * slots
    at = 4
    for slot, (code, value) in sorted(
        fields.items(), key=lambda item: -struct.calcsize(item[1][0])
    ):
        struct.pack_into("<" + code, body, at, value)
        entries[slot] = at
        at += struct.calcsize(code)
    vtable = _append(data, struct.pack(f"<HH{slots}H", 4 + 2 * slots, size, *entries))
    place = _append(data, bytes(body))
    struct.pack_into("<i", data, place, place - vtable)
    return place


def _point(data: bytearray, table: int, at: int, target: int) -> None:
    _U32.pack_into(data, table + at, target - table - at)


def _append_buffer(data: bytearray, raw: bytes) -> int:
    place = _append_table(data, {0: ("I", 0)}, 8)
    vector = _append(data, _U32.pack(len(raw)) + raw, ahead=4, alignment=_ALIGNMENT)
    _point(data, place, 4, vector)
    return place


def _append_tensor(
    data: bytearray, dtype: str, shape: Sequence[int], buffer: int, name: str
) -> int:
    # Fields of Tensor by slot: 0 shape, 1 type, 2 buffer, 3 name, 8 has_rank.
    fields = {
        0: ("I", 0), 2: ("I", buffer), 3: ("I", 0), 1: ("b", _TYPE_CODES[dtype]), 8: ("B", 1),
    }  # fmt: skip
    place = _append_table(data, fields, 20)
    dims = _append(data, struct.pack(f"<I{len(shape)}i", len(shape), *shape))
    _point(data, place, 4, dims)
    text = name.encode()
    _point(data, place, 12, _append(data, _U32.pack(len(text)) + text + b"\0"))
    return place


def _redirect(data: bytearray, table: Table, field: str, index: int, target: int) -> None:
    """Let one entry of a vector of tables lead to another table."""
    start, _ = table.span(field) or (0, 0)
    _U32.pack_into(data, start + 4 * index, target - start - 4 * index)


def _keep_entries(data: bytearray, table: Table, field: str, kept: Sequence[int]) -> None:
    """Close the gaps in a vector of tables: entries move to the front, so offsets grow."""
    start, _ = table.span(field) or (0, 0)
    for new, old in enumerate(kept):
        at = start + 4 * old
        target = at + _U32.unpack_from(data, at)[0]
        _redirect(data, table, field, new, target)
    _U32.pack_into(data, start - 4, len(kept))
