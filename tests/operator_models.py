"""One model for every quantisation, of all operators that its runtimes have kernels for.

What an operator makes is the next one's input, or joins the chain further on, so that a wrong bit
anywhere changes the answer; with ``every_result`` all of it is given out as well.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from tests.tflite.builder import Builder, Graph

__all__ = [
    "QUANTISATIONS",
    "SEQUENCES",
    "Quantisation",
    "image_model",
    "last_layer",
    "sequence_model",
]

Levels = dict[str, Any]


class Quantisation(NamedTuple):
    """Types of what flows, of weights and of biases."""

    activations: str = "float32"
    weights: str = "float32"
    bias: str = "float32"
    per_channel: bool = False
    float_ends: bool = False
    """Whether floats go in and come out: QUANTIZE first, DEQUANTIZE last."""


QUANTISATIONS: Final = {
    "float32": Quantisation(),
    "float16_weights": Quantisation(weights="float16"),
    "dynamic_range": Quantisation(weights="int8"),
    "dynamic_range_per_channel": Quantisation(weights="int8", per_channel=True),
    "int8": Quantisation("int8", "int8", "int32"),
    "int8_per_channel": Quantisation("int8", "int8", "int32", per_channel=True),
    "int8_float_ends": Quantisation("int8", "int8", "int32", per_channel=True, float_ends=True),
    "uint8": Quantisation("uint8", "uint8", "int32"),
    "int16x8": Quantisation("int16", "int8", "int64", per_channel=True),
}
SEQUENCES: Final = ("float32", "dynamic_range", "int8")

_RANGE: Final = 6.4  # activations lie within plus and minus this
_SAME, _VALID = 0, 1
_NONE, _RELU, _RELU6 = 0, 1, 3


def _quantised(scale: list[float], zero: list[int], axis: int = 0) -> Levels:
    return {"quantization": {"scale": scale, "zero_point": zero, "quantized_dimension": axis}}


class _Net:
    """Adds operators to a graph in the types of a quantisation."""

    def __init__(self, kind: Quantisation, seed: int) -> None:
        self.kind = kind
        self.rng = np.random.default_rng(seed)
        self.builder = Builder()
        self.graph: Graph = self.builder.graph()
        self.results: list[int] = []

    def levels(self, low: float = -_RANGE, high: float = _RANGE) -> Levels:
        """Return how values from `low` to `high` are written."""
        kind = self.kind.activations
        if kind == "float32":
            return {}
        if kind == "int16":  # symmetric
            return _quantised([max(-low, high) / 2**15], [0])
        scale = (high - low) / 256
        zero = round(-low / scale) - (128 if kind == "int8" else 0)
        return _quantised([scale], [zero])

    def tensor(self, *shape: int, levels: Levels | None = None) -> int:
        found = self.levels() if levels is None else levels
        return self.graph.tensor(list(shape), self.kind.activations, **found)

    def numbers(self, *values: int) -> int:
        return self.graph.tensor([len(values)], "int32", np.array(values, np.int32).tobytes())

    def scale_of(self, tensor: int) -> float:
        return float(self.graph.tree["tensors"][tensor]["quantization"]["scale"][0])

    def shape_of(self, tensor: int) -> list[int]:
        return list(self.graph.tree["tensors"][tensor]["shape"])

    def constant(self, *shape: int) -> int:
        """Return an operand of numbers from 0.2 to 1.5."""
        values = self.rng.uniform(0.2, 1.5, shape)
        if self.kind.activations == "float32":
            data = values.astype(np.float32)
        else:
            found = self.levels()["quantization"]
            data = np.rint(values / found["scale"][0]) + found["zero_point"][0]
            data = data.astype(self.kind.activations)
        return self.graph.tensor(
            list(shape), self.kind.activations, data.tobytes(), **self.levels()
        )

    def parameters(self, source: int, shape: tuple[int, ...], axis: int, bias: int) -> list[int]:
        """Return weights of `shape` whose channels lie along `axis`, and `bias` biases if any."""
        channels = shape[axis]
        spread = (channels / np.prod(shape)) ** 0.5  # keeps the variance of what comes
        kind = self.kind
        if kind.weights in ("float32", "float16"):
            values = self.rng.normal(0, spread, shape)
            made = [self._float(values)]
            return [*made, self._float(self.rng.normal(0, 0.1, bias))] if bias else made
        low, high, zero = (1, 256, 128) if kind.weights == "uint8" else (-127, 128, 0)
        data = self.rng.integers(low, high, shape).astype(kind.weights)
        is_hybrid = kind.activations == "float32"
        by_channel = kind.per_channel
        if is_hybrid and len(shape) == 4:  # hybrid DEPTHWISE_CONV_2D has no other
            by_channel |= axis == 3
        elif is_hybrid:  # the older runtime's FULLY_CONNECTED reads the first scale alone
            by_channel = False
        count = channels if by_channel else 1
        scales = (spread / 73 * self.rng.uniform(0.5, 1.5, count)).astype(np.float32)
        levels = _quantised([float(s) for s in scales], [zero] * count, axis)
        made = [self.graph.tensor(list(shape), kind.weights, data.tobytes(), **levels)]
        if bias:
            made.append(self._bias(bias, source, scales))
        return made

    def _bias(self, count: int, source: int, scales: Any) -> int:
        if self.kind.bias == "float32":
            values = self.rng.normal(0, 0.1, count).astype(np.float32)
            return self.graph.tensor([count], "float32", values.tobytes())
        steps = [float(np.float32(self.scale_of(source)) * s) for s in scales]
        values = np.rint(self.rng.normal(0, 0.1, count) / np.asarray(steps)).astype(self.kind.bias)
        levels = _quantised(steps, [0] * len(steps))
        return self.graph.tensor([count], self.kind.bias, values.tobytes(), **levels)

    def _float(self, values: Any) -> int:
        """Return a constant, which lies in the file as float16 if weights do."""
        kind = self.kind.weights
        made = self.graph.tensor(list(values.shape), kind, values.astype(kind).tobytes())
        if kind == "float32":
            return made
        unfolded = self.graph.tensor(list(values.shape))
        self.graph.operator("DEQUANTIZE", [made], [unfolded], ("DequantizeOptions", {}))
        return unfolded

    def then(
        self,
        name: str,
        inputs: list[int],
        shape: list[int],
        options: tuple[str, dict[str, Any]] | None = None,
        levels: Levels | None = None,
    ) -> int:
        """Add an operator and return its result."""
        result = self.tensor(*shape, levels=levels)
        self.graph.operator(name, inputs, [result], options)
        self.results.append(result)
        return result

    def file(self, source: int, result: int, *, every_result: bool = False) -> bytes:
        inputs, outputs = [source], [result]
        if every_result:
            outputs += [r for r in self.results if r != result]
        self.graph.tree.update(inputs=inputs, outputs=outputs)
        return self.builder.file()


def _window(stride: int, padding: int, activation: int, **more: int) -> dict[str, Any]:
    return {
        "padding": padding,
        "stride_w": stride,
        "stride_h": stride,
        "fused_activation_function": activation,
        **more,
    }


def _image(net: _Net, x: int) -> int:
    """Convolutions, pools and arithmetic on an image of 8x8x2; return one of 4x4x8."""
    margins = net.graph.tensor([4, 2], "int32", np.array([0, 0, 1, 1, 1, 1, 0, 0], "i4").tobytes())
    y = net.then("PAD", [x, margins], [1, 10, 10, 2], ("PadOptions", {}))
    weights = net.parameters(y, (8, 3, 3, 2), 0, 8)
    options = ("Conv2DOptions", _window(1, _VALID, _RELU))
    first = net.then("CONV_2D", [y, *weights], [1, 8, 8, 8], options)
    weights = net.parameters(first, (1, 3, 3, 8), 3, 8)
    options = ("DepthwiseConv2DOptions", _window(1, _SAME, _RELU6, depth_multiplier=1))
    y = net.then("DEPTHWISE_CONV_2D", [first, *weights], [1, 8, 8, 8], options)
    y = net.then("ADD", [first, y], [1, 8, 8, 8], ("AddOptions", {}))
    y = net.then("MUL", [y, net.constant(8)], [1, 8, 8, 8], ("MulOptions", {}))
    y = net.then("SUB", [y, net.constant(1, 1, 1, 8)], [1, 8, 8, 8], ("SubOptions", {}))
    pool = ("Pool2DOptions", _window(2, _VALID, _NONE, filter_width=2, filter_height=2))
    most = net.then("MAX_POOL_2D", [y], [1, 4, 4, 8], pool)
    mean = net.then("AVERAGE_POOL_2D", [y], [1, 4, 4, 8], pool)
    joined = ("ConcatenationOptions", {"axis": 3})
    y = net.then("CONCATENATION", [most, mean], [1, 4, 4, 16], joined)
    weights = net.parameters(y, (8, 1, 1, 16), 0, 8)  # pointwise
    options = ("Conv2DOptions", _window(1, _SAME, _NONE))
    return net.then("CONV_2D", [y, *weights], [1, 4, 4, 8], options)


def _resized(net: _Net, x: int) -> int:
    """Transposed convolution, resizing and what moves elements; from 4x4x8 to 4x4x8."""
    kind = net.kind
    shape = net.numbers(1, 8, 8, 4)
    if kind.activations == "float32" and kind.weights == "int8":  # no kernel for both
        net.kind = Quantisation()
    weights, *bias = net.parameters(x, (4, 3, 3, 8), 0, 4)
    net.kind = kind
    options: Any = ("TransposeConvOptions", {"padding": _SAME, "stride_w": 2, "stride_h": 2})
    y = net.then("TRANSPOSE_CONV", [shape, weights, x, *bias], [1, 8, 8, 4], options)
    options = ("ResizeBilinearOptions", {"half_pixel_centers": 1})
    y = net.then("RESIZE_BILINEAR", [y, net.numbers(6, 6)], [1, 6, 6, 4], options)
    options = ("ResizeNearestNeighborOptions", {})
    y = net.then("RESIZE_NEAREST_NEIGHBOR", [y, net.numbers(8, 8)], [1, 8, 8, 4], options)
    options = ("StridedSliceOptions", {})
    ends = [net.numbers(0, 0, 0, 0), net.numbers(1, 8, 8, 4), net.numbers(1, 2, 2, 1)]
    y = net.then("STRIDED_SLICE", [y, *ends], [1, 4, 4, 4], options)
    y = net.then("TRANSPOSE", [y, net.numbers(0, 3, 1, 2)], [1, 4, 4, 4], ("TransposeOptions", {}))
    halves = [net.tensor(1, 4, 4, 2) for _ in range(2)]
    axis = net.graph.tensor([], "int32", np.array(3, "i4").tobytes())
    net.graph.operator("SPLIT", [axis, y], halves, ("SplitOptions", {"num_splits": 2}))
    net.results += halves
    begin, size = net.numbers(0, 0, 0, 1), net.numbers(1, 4, 4, 3)
    part = net.then("SLICE", [y, begin, size], [1, 4, 4, 3], ("SliceOptions", {}))
    rest = net.then(
        "SLICE", [x, begin, net.numbers(1, 4, 4, 1)], [1, 4, 4, 1], ("SliceOptions", {})
    )
    joined = ("ConcatenationOptions", {"axis": 3})
    return net.then("CONCATENATION", [*reversed(halves), part, rest], [1, 4, 4, 8], joined)


def _bent(net: _Net, x: int) -> int:
    """Activations of their own, on 4x4x8."""
    shape = net.shape_of(x)
    y = net.then("LEAKY_RELU", [x], shape, ("LeakyReluOptions", {"alpha": 0.3}))
    if net.kind.activations != "int16":  # no kernels
        y = net.then("PRELU", [y, net.constant(1, 1, 8)], shape)
    least = -1.0 if net.kind.activations == "int16" else 0.0
    risen = net.then("LOGISTIC", [y], shape, levels=net.levels(least, 1.0))
    curved = net.then("TANH", [x], shape, levels=net.levels(-1.0, 1.0))
    y = net.then("MUL", [risen, curved], shape, ("MulOptions", {}))
    bound: Any = ("MaximumMinimumOptions", {})
    y = net.then("MAXIMUM", [y, x], shape, bound)
    y = net.then("MINIMUM", [y, net.constant(1, 1, 1, 8)], shape, bound)
    if net.kind.activations in ("float32", "int8"):
        y = net.then("HARD_SWISH", [y], shape, ("HardSwishOptions", {}))
    if net.kind.activations != "int16":
        y = net.then("ADD", [y, net.then("RELU6", [x], shape)], shape, ("AddOptions", {}))
    return y


def _classes(net: _Net, x: int) -> int:
    """Return ten probabilities of 4x4x8."""
    mean = net.then("MEAN", [x, net.numbers(1, 2)], [1, 8], ("ReducerOptions", {}))
    options: Any = ("ReshapeOptions", {"new_shape": [1, 128]})
    flat = net.then("RESHAPE", [x, net.numbers(1, 128)], [1, 128], options)
    y = net.then("CONCATENATION", [flat, mean], [1, 136], ("ConcatenationOptions", {"axis": 1}))
    for width, activation in ((32, _RELU), (10, _NONE)):
        weights = net.parameters(y, (width, net.shape_of(y)[1]), 0, width)
        options = ("FullyConnectedOptions", {"fused_activation_function": activation})
        y = net.then("FULLY_CONNECTED", [y, *weights], [1, width], options)
    low = -1.0 if net.kind.activations == "int16" else 0.0
    options = ("SoftmaxOptions", {"beta": 1.0})
    return net.then("SOFTMAX", [y], [1, 10], options, net.levels(low, 1.0))


def image_model(name: str, *, every_result: bool = False, seed: int = 0) -> bytes:
    """Return a classifier of images of 8x8x2, of all operators in one quantisation.

    Parameters
    ----------
    name
        One of `QUANTISATIONS`.
    every_result
        Whether every operator's result is an output of the model, after the probabilities.
    """
    net = _Net(QUANTISATIONS[name], seed)
    if net.kind.float_ends:
        source = net.graph.tensor([1, 8, 8, 2])
        x = net.then("QUANTIZE", [source], [1, 8, 8, 2], ("QuantizeOptions", {}))
    else:
        source = x = net.tensor(1, 8, 8, 2)
    result = _classes(net, _bent(net, _resized(net, _image(net, x))))
    if net.kind.float_ends:
        levels, result = result, net.graph.tensor([1, 10])
        net.graph.operator("DEQUANTIZE", [levels], [result], ("DequantizeOptions", {}))
    return net.file(source, result, every_result=every_result)


def last_layer(
    name: str,
    *,
    classes: int = 6,
    convolution: bool = False,
    has_bias: bool = True,
    activation: str = "SOFTMAX",
    fused: int = 0,
    seed: int = 0,
) -> bytes:
    """Return a classifier of sixteen numbers by two layers, which vary in the second.

    Parameters
    ----------
    name
        One of `QUANTISATIONS`.
    classes
        Rows of the last layer.
    convolution
        Whether that is a 1x1 CONV_2D.
    has_bias
        Whether it has a bias.
    activation
        ``"SOFTMAX"``, ``"LOGISTIC"``, or empty for none.
    fused
        Its fused activation.
    """
    net = _Net(QUANTISATIONS[name], seed)
    source = net.tensor(1, 16)
    options: Any = ("FullyConnectedOptions", {"fused_activation_function": _RELU})
    weights = net.parameters(source, (24, 16), 0, 24)
    y = net.then("FULLY_CONNECTED", [source, *weights], [1, 24], options)
    if convolution:
        y = net.then("RESHAPE", [y, net.numbers(1, 1, 1, 24)], [1, 1, 1, 24])
        weights = net.parameters(y, (classes, 1, 1, 24), 0, classes * has_bias)
        options = ("Conv2DOptions", _window(1, _SAME, fused))
        y = net.then("CONV_2D", [y, *weights], [1, 1, 1, classes], options)
        y = net.then("RESHAPE", [y, net.numbers(1, classes)], [1, classes])
    else:
        weights = net.parameters(y, (classes, 24), 0, classes * has_bias)
        options = ("FullyConnectedOptions", {"fused_activation_function": fused})
        y = net.then("FULLY_CONNECTED", [y, *weights], [1, classes], options)
    if activation:
        low = -1.0 if net.kind.activations == "int16" else 0.0
        options = ("SoftmaxOptions", {"beta": 1.0}) if activation == "SOFTMAX" else None
        y = net.then(activation, [y], [1, classes], options, net.levels(low, 1.0))
    return net.file(source, y)


def sequence_model(name: str, *, seed: int = 0) -> bytes:
    """Return an LSTM over four steps of six features, and three classes; it keeps its state."""
    net = _Net(QUANTISATIONS[name], seed)
    steps, features, cells = 4, 6, 8
    x = net.tensor(1, steps, features)
    is_int8 = net.kind.activations == "int8"

    def matrix(rows: int, columns: int) -> int:
        return net.parameters(x, (rows, columns), 0, 0)[0]

    def bias() -> int:
        scale = net.scale_of(x) * 0.005 if is_int8 else 1.0
        values = net.rng.normal(0, 0.2, cells) / scale
        values = (np.rint(values) if is_int8 else values).astype(net.kind.bias)
        levels = _quantised([scale], [0]) if is_int8 else {}
        return net.graph.tensor([cells], net.kind.bias, values.tobytes(), **levels)

    inputs = [x, *(matrix(cells, features) for _ in range(4))]
    inputs += [matrix(cells, cells) for _ in range(4)]
    inputs += [-1, -1, -1, *(bias() for _ in range(4)), -1, -1]
    hidden = net.levels(-1.0, 1.0)
    output_state = net.graph.tensor([1, cells], net.kind.activations, is_variable=1, **hidden)
    cell_kind = "int16" if is_int8 else "float32"
    cell_levels = _quantised([2.0**-11], [0]) if is_int8 else {}
    cell_state = net.graph.tensor([1, cells], cell_kind, is_variable=1, **cell_levels)
    inputs += [output_state, cell_state, -1, -1, -1, -1]
    result = net.tensor(1, steps, cells, levels=hidden)
    more: dict[str, Any] = {}
    if is_int8:
        more["intermediates"] = [
            net.graph.tensor([], "int16", **_quantised([2.0**-12], [0])) for _ in range(4)
        ] + [net.graph.tensor([], "int8", **hidden)]
    options: Any = ("UnidirectionalSequenceLSTMOptions", {"fused_activation_function": 4})
    net.graph.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [result], options, **more)
    shape = net.numbers(1, steps * cells)
    options = ("ReshapeOptions", {"new_shape": [1, steps * cells]})
    flat = net.then("RESHAPE", [result, shape], [1, steps * cells], options, hidden)
    weights = net.parameters(flat, (3, steps * cells), 0, 3)
    y = net.then("FULLY_CONNECTED", [flat, *weights], [1, 3], ("FullyConnectedOptions", {}))
    options = ("SoftmaxOptions", {"beta": 1.0})
    return net.file(x, net.then("SOFTMAX", [y], [1, 3], options, net.levels(0.0, 1.0)))
