"""What must hold for one operator: its arity, options and constant operands.

Kernels check much of this themselves, some of it only in debug builds, some of it not at all: a
stride of 0 divides by zero, a bias that is too short is read past its end. Only what every honest
file satisfies is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import OperatorInfo, TensorInfo
from selfheal_edge.tflite.validation.result_sizes import settled

__all__ = ["check_operator"]

_LARGEST_WINDOW: Final = 2**16
_WINDOWS: Final = frozenset(
    {f"stride_{axis}" for axis in "whd"}
    | {f"dilation_{axis}_factor" for axis in "whd"}
    | {"filter_width", "filter_height", "block_size"}
)


class _Case(NamedTuple):
    """One operator under examination."""

    place: str
    operator: OperatorInfo
    tensors: tuple[TensorInfo, ...]

    def input(self, position: int) -> TensorInfo | None:
        inputs = self.operator.inputs
        index = inputs[position] if position < len(inputs) else -1
        return self.tensors[index] if index >= 0 else None

    def refuse(self, what: str, expected: object, got: object) -> ModelFormatError:
        return ModelFormatError(f"{self.place}.{what}: expected {expected}, got {got}")


def check_operator(place: str, operator: OperatorInfo, tensors: tuple[TensorInfo, ...]) -> None:
    """Check one operator whose indices were checked.

    Raises
    ------
    ModelFormatError
        With the operator's place, what was expected and what was found.
    """
    case = _Case(place, operator, tensors)
    known = operator_known_as(operator.name)
    given, taken = len(operator.inputs), len(operator.outputs)
    if given < known.fewest or (known.most is not None and given > known.most):
        raise case.refuse("inputs", f"{known.fewest} to {known.most or 'any number of'}", given)
    if known.gives is not None and taken != known.gives:
        raise case.refuse("outputs", known.gives, taken)
    if known.options and operator.options_type != known.options:
        raise case.refuse("builtin_options", known.options, operator.options_type)
    if operator.options:
        _check_options(case)
    if known.rule:
        _RULES[known.rule](case)


def _check_options(case: _Case) -> None:
    options = case.operator.options
    for name, value in options.items():
        if name in _WINDOWS and not 1 <= value <= _LARGEST_WINDOW:
            raise case.refuse(name, f"1 to {_LARGEST_WINDOW}", value)


def _check_filter(case: _Case, rank: int, channels_axis: int, position: int = 1) -> None:
    """Check weights and bias of a layer: rank, no empty axis, scales and bias per channel."""
    source, weights = case.input(0), case.input(position)
    bias = case.input(position + 1)
    assert source is not None
    assert weights is not None
    if len(weights.shape) != rank or 0 in weights.shape:
        raise case.refuse("inputs[weights]", f"{rank} axes, none empty", list(weights.shape))
    channels = weights.shape[channels_axis]
    if weights.scales.size > 1 and weights.quantized_dimension != channels_axis:
        raise case.refuse("inputs[weights].scale", f"axis {channels_axis}", "another axis")
    if bias is not None and bias.is_constant and bias.size != channels:
        raise case.refuse("inputs[bias]", f"{channels} values", bias.size)
    if source.dtype in _BIAS_TYPES and source.dtype != "float32" and "float" in weights.dtype:
        raise case.refuse("inputs[weights]", f"weights for {source.dtype}", weights.dtype)
    if bias is not None:
        allowed = _BIAS_TYPES.get(source.dtype)
        if allowed and bias.dtype not in allowed:
            raise case.refuse("inputs[bias]", " or ".join(allowed), bias.dtype)


_BIAS_TYPES: Final = {
    "float32": ("float32", "float16"),
    "int8": ("int32",),
    "uint8": ("int32",),
    "int16": ("int32", "int64"),
}


def _check_image(case: _Case, position: int = 0) -> TensorInfo | None:
    """Return the layer's input, or None where its shape is not known yet."""
    source = case.input(position)
    assert source is not None
    if not source.shape or not settled(source):
        return None
    if len(source.shape) != 4 or 0 in source.shape[1:]:
        raise case.refuse("inputs[image]", "4 axes, none empty", list(source.shape))
    return source


def _conv_2d(case: _Case) -> None:
    source = _check_image(case)
    _check_filter(case, 4, 0)
    weights = case.input(1)
    assert weights is not None
    if source is None:
        return
    if source.shape[3] % weights.shape[3] or weights.shape[0] % (
        source.shape[3] // weights.shape[3]
    ):
        raise case.refuse(
            "inputs[weights]", f"groups of {source.shape[3]} channels", list(weights.shape)
        )


def _depthwise(case: _Case) -> None:
    source = _check_image(case)
    _check_filter(case, 4, 3)
    weights = case.input(1)
    assert weights is not None
    if source is None:
        return
    if weights.shape[0] != 1 or weights.shape[3] % source.shape[3]:
        raise case.refuse(
            "inputs[weights]", f"a multiple of {source.shape[3]} channels", list(weights.shape)
        )


def _transpose_conv(case: _Case) -> None:
    source = _check_image(case, 2)
    weights, bias = case.input(1), case.input(3)
    assert weights is not None
    if len(weights.shape) != 4 or 0 in weights.shape:
        raise case.refuse("inputs[weights]", "4 axes, none empty", list(weights.shape))
    if source is not None and weights.shape[3] != source.shape[3]:
        raise case.refuse("inputs[weights]", f"{source.shape[3]} channels", weights.shape[3])
    if bias is not None and bias.is_constant and bias.size != weights.shape[0]:
        raise case.refuse("inputs[bias]", f"{weights.shape[0]} values", bias.size)


def _pool(case: _Case) -> None:
    _check_image(case)


def _fully_connected(case: _Case) -> None:
    _check_filter(case, 2, 0)
    source, weights = case.input(0), case.input(1)
    assert source is not None
    assert weights is not None
    if source.shape and settled(source) and (source.size == 0 or source.size % weights.shape[1]):
        raise case.refuse(
            "inputs[0]", f"a multiple of {weights.shape[1]} values", list(source.shape)
        )


def _svdf(case: _Case) -> None:
    source, feature, time, _, state = (case.input(i) for i in range(5))
    assert source is not None
    assert feature is not None
    assert time is not None
    assert state is not None
    rank = case.operator.options["rank"]
    if rank < 1 or any(len(t.shape) != 2 or 0 in t.shape for t in (feature, time)):
        raise case.refuse("rank", "at least 1, and weights with two axes", rank)
    if feature.shape[0] % rank or time.shape[0] != feature.shape[0]:
        raise case.refuse("inputs[1]", f"filters in groups of {rank}", list(feature.shape))
    if state.size < time.shape[0] * time.shape[1]:
        raise case.refuse("inputs[4]", f"{time.shape[0] * time.shape[1]} values", state.size)
    # The integer kernel takes both for int16 without looking, and writes past an int8 state.
    if source.dtype == "int8" and (time.dtype, state.dtype) != ("int16", "int16"):
        raise case.refuse(
            "inputs",
            "int16 weights_time and state beside an int8 input",
            f"{time.dtype}, {state.dtype}",
        )


_RULES: Final[dict[str, Callable[[_Case], Any]]] = {
    "conv_2d": _conv_2d,
    "depthwise": _depthwise,
    "transpose_conv": _transpose_conv,
    "pool": _pool,
    "fully_connected": _fully_connected,
    "svdf": _svdf,
}
"""As rows of the catalogue name them."""
