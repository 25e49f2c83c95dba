"""How many elements an operator's result must have, from the declared shapes of its inputs.

Kernels of the reference kind work shapes out again. Delegates of older runtimes do not: they take
the declared shape of a result for the size of its memory, and write past its end when a stride
says otherwise. So declared sizes must agree wherever they are settled, operator by operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import OperatorInfo, TensorInfo

__all__ = ["check_result_sizes", "settled"]

_Inputs = tuple["TensorInfo | None", ...]
_Rule = Callable[[bytes, OperatorInfo, _Inputs], "int | None"]


def settled(tensor: TensorInfo, *, any_batch: bool = True) -> bool:
    """Whether the declared shape is the real one, and not a stand-in for an unknown one.

    Where the batch alone is unknown, converters declare 1 for it throughout, which will do for
    operators that keep the first axis to itself.
    """
    unknown = tensor.shape_signature[1:] if any_batch else tensor.shape_signature
    return -1 not in unknown and (bool(tensor.shape) or tensor.is_constant)


def check_result_sizes(
    place: str, data: bytes, operator: OperatorInfo, tensors: tuple[TensorInfo, ...]
) -> None:
    """Compare the declared size of an operator's results with what its inputs give.

    Raises
    ------
    ModelFormatError
        When they differ. Operators and shapes that are not understood pass.
    """
    known = operator_known_as(operator.name)
    rule = _RULES.get(known.size)
    inputs = tuple(tensors[i] if i >= 0 else None for i in operator.inputs)
    outputs = tuple(tensors[i] for i in operator.outputs)
    any_batch = not known.mixes_batch
    involved = [t for t in inputs + outputs if t is not None]
    if rule is None or not all(settled(t, any_batch=any_batch) for t in involved):
        return
    if not all(t.shape for t in outputs):
        return
    declared = sum(t.size for t in outputs)
    expected = rule(data, operator, inputs)
    if expected is not None and declared != expected:
        shapes = ", ".join(str(list(t.shape)) for t in inputs if t is not None)
        raise ModelFormatError(
            f"{place}.outputs: expected {expected} elements from inputs {shapes}, got {declared}"
        )


def _values(data: bytes, tensor: TensorInfo | None) -> list[int] | None:
    """Return a constant list of integers, or None where it is computed."""
    if tensor is None or tensor.offset is None or tensor.dtype not in ("int32", "int64"):
        return None
    return [int(v) for v in np.frombuffer(data, tensor.dtype, tensor.size, tensor.offset)]


def _window(size: int, window: int, stride: int, dilation: int, padding: int) -> int:
    """Return the positions of a window along one axis; padding 0 is SAME, 1 is VALID."""
    reach = (window - 1) * dilation + 1 if padding else 1
    return max(0, (size - reach) // stride + 1)


def _windows(operator: OperatorInfo, image: TensorInfo, height: int, width: int) -> int | None:
    options = operator.options
    if options["padding"] not in (0, 1):
        return None
    rows, columns = (
        _window(
            image.shape[axis],
            window,
            options[f"stride_{letter}"],
            options.get(f"dilation_{letter}_factor", 1),
            options["padding"],
        )
        for axis, window, letter in ((1, height, "h"), (2, width, "w"))
    )
    return image.shape[0] * rows * columns


def _convolution(channels_axis: int) -> _Rule:
    def rule(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
        image, weights = inputs[:2]
        if image is None or weights is None or len(image.shape) != 4:
            return None
        height, width = weights.shape[1:3]
        positions = _windows(operator, image, height, width)
        return None if positions is None else positions * weights.shape[channels_axis]

    return rule


def _pool(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    image, options = inputs[0], operator.options
    if image is None:
        return None
    height, width = options["filter_height"], options["filter_width"]
    positions = _windows(operator, image, height, width)
    return None if positions is None else positions * image.shape[3]


def _fully_connected(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    source, weights = inputs[:2]
    if source is None or weights is None or len(operator.outputs) != 1:
        return None
    return source.size // weights.shape[1] * weights.shape[0]


def _same(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    del operator
    return inputs[0].size if inputs[0] is not None else None


def _sum(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    del operator
    return sum(t.size for t in inputs if t is not None)


def _split(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    source = inputs[1 if operator.name == "SPLIT" else 0]
    return source.size if source is not None else None


def _broadcast(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    try:
        shape = np.broadcast_shapes(*(t.shape for t in inputs if t is not None))
    except ValueError:
        raise ModelFormatError(
            f"Model.subgraphs[{operator.subgraph}].operators[{operator.index}] ({operator.name})"
            ".inputs: expected shapes that broadcast, got "
            + " and ".join(str(list(t.shape)) for t in inputs if t is not None)
        ) from None
    return math.prod(shape)


def _pad(data: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    del operator
    source, pads = inputs[0], _values(data, inputs[1])
    if source is None or pads is None:
        return None
    if len(pads) != 2 * len(source.shape) or min(pads, default=0) < 0:
        return -1
    added = zip(source.shape, pads[::2], pads[1::2], strict=True)
    return math.prod(dim + before + after for dim, before, after in added)


def _reduce(data: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    del operator
    source, axes = inputs[0], _values(data, inputs[1])
    if source is None or axes is None:
        return None
    rank = len(source.shape)
    if any(not -rank <= axis < rank for axis in axes):
        return -1
    gone = {axis % rank for axis in axes}
    return math.prod(dim for axis, dim in enumerate(source.shape) if axis not in gone)


def _resize(data: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    del operator
    source, size = inputs[0], _values(data, inputs[1])
    if source is None or size is None:
        return None
    if len(source.shape) != 4 or len(size) != 2 or min(size) < 1:
        return -1
    return source.shape[0] * size[0] * size[1] * source.shape[3]


def _given_shape(data: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    del operator
    shape = _values(data, inputs[0])
    return None if shape is None else math.prod(shape)


def _slice(data: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    del operator
    source, begins, sizes = inputs[0], _values(data, inputs[1]), _values(data, inputs[2])
    if source is None or begins is None or sizes is None:
        return None
    if not len(source.shape) == len(begins) == len(sizes):
        return -1
    total = 1
    for dim, begin, size in zip(source.shape, begins, sizes, strict=True):
        taken = dim - begin if size == -1 else size
        if begin < 0 or taken < 0 or begin + taken > dim:
            return -1
        total *= taken
    return total


def _strided_slice(data: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    options = operator.options
    source = inputs[0]
    begins, ends, steps = (_values(data, t) for t in inputs[1:4])
    if source is None or begins is None or ends is None or steps is None:
        return None
    if any(options.get(name, 0) for name in ("ellipsis_mask", "new_axis_mask", "offset")):
        return None
    if not len(begins) == len(ends) == len(steps) <= len(source.shape) or 0 in steps:
        return -1
    total = math.prod(source.shape[len(begins) :])
    for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit, dim = 1 << axis, source.shape[axis]
        if options.get("shrink_axis_mask", 0) & bit:
            continue
        first = None if options.get("begin_mask", 0) & bit else begin
        last = None if options.get("end_mask", 0) & bit else end
        total *= len(range(*slice(first, last, step).indices(dim)))
    return total


def _matmul(_: bytes, operator: OperatorInfo, inputs: _Inputs) -> int | None:
    left, right = inputs[:2]
    if left is None or right is None or min(len(left.shape), len(right.shape)) < 2:
        return None
    flip_left, flip_right = operator.options.get("adj_x", 0), operator.options.get("adj_y", 0)
    rows, inner = left.shape[-2:][:: -1 if flip_left else 1]
    other, columns = right.shape[-2:][:: -1 if flip_right else 1]
    if inner != other:
        return -1
    try:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        return -1
    return math.prod(batch) * rows * columns


_RULES: Final[dict[str, _Rule]] = {
    "same": _same,
    "sum": _sum,
    "broadcast": _broadcast,
    "reduce": _reduce,
    "convolution": _convolution(0),
    "depthwise": _convolution(3),
    "given_shape": _given_shape,
    "pool": _pool,
    "fully_connected": _fully_connected,
    "split": _split,
    "pad": _pad,
    "resize": _resize,
    "slice": _slice,
    "strided_slice": _strided_slice,
    "matmul": _matmul,
}
"""As rows of the catalogue name them."""
