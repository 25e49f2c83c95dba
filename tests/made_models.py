"""Models with what no public one at hand has, written by `tests.tflite.builder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tests.tflite.builder import Builder, Graph

__all__ = [
    "accumulating",
    "branching_classifier",
    "clamped",
    "dense_regressor",
    "halved_weights",
    "int16_classifier",
    "mirror",
    "open_batch",
    "tied_weights",
    "with_operands",
]


def _quantised(scales: list[float], axis: int = 0) -> dict[str, Any]:
    zeros = [0] * len(scales)
    return {"quantization": {"scale": scales, "zero_point": zeros, "quantized_dimension": axis}}


def int16_classifier(seed: int = 0) -> bytes:
    """Return a classifier of 8x8 images: int16 activations, int8 weights, int64 biases.

    CONV_2D, DEPTHWISE_CONV_2D, RESHAPE, FULLY_CONNECTED, SOFTMAX.
    """
    rng = np.random.default_rng(seed)
    builder = Builder()
    graph = builder.graph()

    def activation(shape: list[int], scale: float) -> int:
        return graph.tensor(shape, "int16", **_quantised([scale]))

    def weights(shape: list[int], axis: int, fan_in: int) -> int:
        values = rng.integers(-127, 128, shape).astype(np.int8)
        scales = [0.7 / 127 / fan_in**0.5] * shape[axis]
        return graph.tensor(shape, "int8", values.tobytes(), **_quantised(scales, axis))

    def bias(count: int, scale: float) -> int:
        values = rng.integers(-3000, 3000, count).astype(np.int64)
        return graph.tensor([count], "int64", values.tobytes(), **_quantised([scale] * count))

    step = 4.0 / 32768
    image = activation([1, 8, 8, 1], step)
    first = activation([1, 8, 8, 8], step)
    convolution = [image, weights([8, 3, 3, 1], 0, 9), bias(8, step * 0.7 / 127 / 3)]
    window = {"padding": 0, "stride_w": 1, "stride_h": 1, "fused_activation_function": 1}
    graph.operator("CONV_2D", convolution, [first], ("Conv2DOptions", window))
    second = activation([1, 4, 4, 8], step)
    depthwise = [first, weights([1, 3, 3, 8], 3, 9), bias(8, step * 0.7 / 127 / 3)]
    window = {**window, "stride_w": 2, "stride_h": 2, "depth_multiplier": 1}
    graph.operator("DEPTHWISE_CONV_2D", depthwise, [second], ("DepthwiseConv2DOptions", window))
    flat = activation([1, 128], step)
    shape = graph.tensor([2], "int32", np.array([1, 128], np.int32).tobytes())
    graph.operator("RESHAPE", [second, shape], [flat], ("ReshapeOptions", {"new_shape": [1, 128]}))
    logits = activation([1, 10], 4 * step)
    dense = [flat, weights([10, 128], 0, 128), bias(10, step * 0.7 / 127 / 128**0.5)]
    graph.operator("FULLY_CONNECTED", dense, [logits], ("FullyConnectedOptions", {}))
    classes = activation([1, 10], 1 / 32768)
    graph.operator("SOFTMAX", [logits], [classes], ("SoftmaxOptions", {"beta": 1.0}))
    graph.tree.update(inputs=[image], outputs=[classes])
    return builder.file()


class _Floats:
    """Adds float tensors and dense layers to a graph."""

    def __init__(self, graph: Graph, rng: np.random.Generator) -> None:
        self.graph = graph
        self.rng = rng

    def constant(self, values: Any, dtype: str = "float32") -> int:
        array = np.asarray(values, dtype)
        return self.graph.tensor(list(array.shape), dtype, array.tobytes())

    def dense(self, source: int, size: int, classes: int, *, activation: int = 0) -> int:
        weights = self.rng.standard_normal((classes, size)) / size**0.5
        operands = [source, self.constant(weights), self.constant(self.rng.normal(0, 0.1, classes))]
        result = self.graph.tensor([1, classes])
        options = ("FullyConnectedOptions", {"fused_activation_function": activation})
        self.graph.operator("FULLY_CONNECTED", operands, [result], options)
        return result


def branching_classifier(size: int = 16, classes: int = 4, rounds: int = 3, seed: int = 0) -> bytes:
    """Return a classifier with weights in five subgraphs: one of two by IF, one a WHILE's body.

    The main graph's first layer decides by its sum which branch goes on; what that gives goes
    `rounds` times through the body.
    """
    rng = np.random.default_rng(seed)
    builder = Builder()
    main, then, other, condition, body = (_Floats(builder.graph(), rng) for _ in range(5))

    graph = main.graph
    x = graph.tensor([1, size])
    hidden = main.dense(x, size, size)
    total = graph.tensor([1])
    graph.operator("SUM", [hidden, main.constant([1], "int32")], [total], ("ReducerOptions", {}))
    negative = graph.tensor([1], "bool")
    graph.operator("LESS", [total, main.constant([0.25])], [negative], ("LessOptions", {}))
    chosen = graph.tensor([1, size])
    branches = {"then_subgraph_index": 1, "else_subgraph_index": 2}
    graph.operator("IF", [negative, hidden], [chosen], ("IfOptions", branches))
    count, last = main.constant([0], "int32"), graph.tensor([1], "int32")
    looped = graph.tensor([1, size])
    loop = {"cond_subgraph_index": 3, "body_subgraph_index": 4}
    graph.operator("WHILE", [count, chosen], [last, looped], ("WhileOptions", loop))
    logits = main.dense(looped, size, classes)
    result = graph.tensor([1, classes])
    graph.operator("SOFTMAX", [logits], [result], ("SoftmaxOptions", {"beta": 1.0}))
    graph.tree.update(inputs=[x], outputs=[result])

    for branch, activation in ((then, 1), (other, 0)):
        x = branch.graph.tensor([1, size])
        y = branch.dense(x, size, size, activation=activation)
        branch.graph.tree.update(inputs=[x], outputs=[y])

    graph = condition.graph
    i, x = graph.tensor([1], "int32"), graph.tensor([1, size])
    more = graph.tensor([1], "bool")
    graph.operator("LESS", [i, condition.constant([rounds], "int32")], [more], ("LessOptions", {}))
    graph.tree.update(inputs=[i, x], outputs=[more])

    graph = body.graph
    i, x = graph.tensor([1], "int32"), graph.tensor([1, size])
    following = graph.tensor([1], "int32")
    graph.operator("ADD", [i, body.constant([1], "int32")], [following], ("AddOptions", {}))
    y = body.dense(x, size, size, activation=1)
    graph.tree.update(inputs=[i, x], outputs=[following, y])
    return builder.file()


def dense_regressor(
    layers: Sequence[tuple[Any, Any]], inputs: Any, dtype: str = "int8", *, ends_real: bool = False
) -> bytes:
    """Return a network of dense layers, ReLU between them, whose numbers are meant as they are.

    Parameters
    ----------
    layers
        Weights, shape (inputs, outputs), and biases.
    inputs
        Float samples to take the ranges of activations from, shape (n, features).
    dtype
        ``"int8"`` or ``"float32"``.
    ends_real
        Whether an int8 model gives floats: DEQUANTIZE.
    """
    builder = Builder()
    graph = builder.graph()

    def activation(values: Any, *, is_positive: bool = False) -> tuple[int, float]:
        shape = [1, values.shape[1]]
        if dtype == "float32":
            return graph.tensor(shape), 1.0
        if is_positive:
            scale, zero = float(values.max()) / 255, -128
        else:
            scale, zero = 1.25 * float(np.abs(values).max()) / 127, 0
        levels: dict[str, Any] = {"quantization": {"scale": [scale], "zero_point": [zero]}}
        return graph.tensor(shape, "int8", **levels), scale

    values = np.asarray(inputs, np.float64)
    now, scale = activation(values)
    first = now
    for n, (weights, bias) in enumerate(layers):
        is_last = n == len(layers) - 1
        values = values @ weights + bias
        values = values if is_last else np.maximum(values, 0.0)
        if dtype == "float32":
            operands = [now, *(_constant(graph, part) for part in (weights.T, bias))]
        else:
            step = float(np.abs(weights).max()) / 127
            kernel = np.rint(weights.T / step).astype(np.int8)
            sums = np.rint(bias / (scale * step)).astype(np.int32)
            operands = [
                now,
                graph.tensor([*kernel.shape], "int8", kernel.tobytes(), **_quantised([step])),
                graph.tensor([len(sums)], "int32", sums.tobytes(), **_quantised([scale * step])),
            ]
        now, scale = activation(values, is_positive=not is_last)
        options = ("FullyConnectedOptions", {"fused_activation_function": int(not is_last)})
        graph.operator("FULLY_CONNECTED", operands, [now], options)
    if ends_real:
        real = graph.tensor([1, values.shape[1]])
        graph.operator("DEQUANTIZE", [now], [real], ("DequantizeOptions", {}))
        now = real
    graph.tree.update(inputs=[first], outputs=[now])
    return builder.file()


def _constant(graph: Graph, values: Any) -> int:
    array = np.ascontiguousarray(values, np.float32)
    return graph.tensor(list(array.shape), "float32", array.tobytes())


def mirror(dtype: str, scale: float, zero_point: int, size: int = 64) -> bytes:
    """Return a model without weights that gives back the levels it gets: RESHAPE."""
    builder = Builder()
    graph = builder.graph()
    levels: dict[str, Any] = {"quantization": {"scale": [scale], "zero_point": [zero_point]}}
    x = graph.tensor([1, size], dtype, **levels)
    y = graph.tensor([1, size, 1], dtype, **levels)
    shape = graph.tensor([3], "int32", np.array([1, size, 1], np.int32).tobytes())
    graph.operator("RESHAPE", [x, shape], [y], ("ReshapeOptions", {"new_shape": [1, size, 1]}))
    graph.tree.update(inputs=[x], outputs=[y])
    return builder.file()


def with_operands(size: int = 8, seed: int = 0) -> bytes:
    """Return a dense layer between operators that have a constant on one side."""
    graph = _Floats(Builder().graph(), np.random.default_rng(seed))
    model, rng = graph.graph, graph.rng
    x = y = model.tensor([1, size])
    for name, options, scale in (
        ("MUL", "MulOptions", rng.normal(1, 0.1)),  # one number for all, as from a rescaling layer
        ("SUB", "SubOptions", rng.standard_normal((1, size))),
        ("DIV", "DivOptions", 1 + rng.random((1, size))),
        ("SQUARED_DIFFERENCE", "SquaredDifferenceOptions", rng.standard_normal((1, size))),
        ("MAXIMUM", "MaximumMinimumOptions", rng.random((1, size))),
    ):
        operands, y = [y, graph.constant(scale)], model.tensor([1, size])
        model.operator(name, operands, [y], (options, {}))
    y = graph.dense(y, size, size)
    operands, y = [y, graph.constant(rng.random((1, size)))], model.tensor([1, size])
    model.operator("PRELU", operands, [y])
    operands, y = [y, graph.constant(rng.random((1, 3)))], model.tensor([1, size + 3])
    model.operator("CONCATENATION", operands, [y], ("ConcatenationOptions", {"axis": 1}))
    model.tree.update(inputs=[x], outputs=[y])
    return model.file()


def clamped(size: int = 8) -> bytes:
    """Return ``min(x, 0.5)``: XNNPACK makes a bound of the one number when it is built."""
    graph = _Floats(Builder().graph(), np.random.default_rng(0))
    x, y = graph.graph.tensor([1, size]), graph.graph.tensor([1, size])
    bound = graph.constant([0.5])
    graph.graph.operator("MINIMUM", [x, bound], [y], ("MaximumMinimumOptions", {}))
    graph.graph.tree.update(inputs=[x], outputs=[y])
    return graph.graph.file()


def halved_weights(size: int = 8, seed: int = 0) -> bytes:
    """Return two dense layers that share weights and bias, which lie in the file as float16."""
    graph = _Floats(Builder().graph(), np.random.default_rng(seed))
    model, rng = graph.graph, graph.rng
    x = y = model.tensor([1, size])
    operands = []
    for values in (rng.standard_normal((size, size)), rng.standard_normal(size)):
        operands.append(model.tensor(list(values.shape)))
        model.operator("DEQUANTIZE", [graph.constant(values, "float16")], operands[-1:])
    for _ in range(2):
        given, y = [y, *operands], model.tensor([1, size])
        model.operator("FULLY_CONNECTED", given, [y], ("FullyConnectedOptions", {}))
    model.tree.update(inputs=[x], outputs=[y])
    return model.file()


def tied_weights(words: int = 8, size: int = 8, seed: int = 0) -> bytes:
    """Return a table of words that is looked up, and then is the last layer's weights as well."""
    graph = _Floats(Builder().graph(), np.random.default_rng(seed))
    model, rng = graph.graph, graph.rng
    table = graph.constant(rng.standard_normal((words, size)))
    word, found, scores = (
        model.tensor([1], "int32"),
        model.tensor([1, size]),
        model.tensor([1, words]),
    )
    model.operator("GATHER", [table, word], [found], ("GatherOptions", {"axis": 0}))
    operands = [found, table, graph.constant(rng.standard_normal(words))]
    model.operator("FULLY_CONNECTED", operands, [scores], ("FullyConnectedOptions", {}))
    model.tree.update(inputs=[word], outputs=[scores])
    return model.file()


def accumulating(size: int = 8, seed: int = 0, handle_shape: Sequence[int] = (1,)) -> bytes:
    """Return a dense layer on the sum of all inputs so far, which a resource variable keeps.

    Converters write handles of shape ``[]``.
    """
    builder = Builder()
    graph, start = (_Floats(builder.graph(), np.random.default_rng(seed)) for _ in range(2))

    def handle(where: Graph) -> int:
        made = where.tensor(list(handle_shape), "resource")
        names = {"container": "", "shared_name": "sum"}
        where.operator("VAR_HANDLE", [], [made], ("VarHandleOptions", names))
        return made

    model = graph.graph
    x, before, total = (model.tensor([1, size]) for _ in range(3))
    model.operator("CALL_ONCE", [], [], ("CallOnceOptions", {"init_subgraph_index": 1}))
    kept = handle(model)
    model.operator("READ_VARIABLE", [kept], [before], ("ReadVariableOptions", {}))
    model.operator("ADD", [x, before], [total], ("AddOptions", {}))
    model.operator("ASSIGN_VARIABLE", [kept, total], [], ("AssignVariableOptions", {}))
    model.tree.update(inputs=[x], outputs=[graph.dense(total, size, size)])
    operands = [handle(start.graph), start.constant(np.zeros((1, size)))]
    start.graph.operator("ASSIGN_VARIABLE", operands, [], ("AssignVariableOptions", {}))
    return builder.file()


class _Open(_Floats):
    """A graph whose batch is left open, as Keras' converter writes it."""

    def __init__(self, graph: Graph, rng: np.random.Generator, *, is_folded: bool) -> None:
        super().__init__(graph, rng)
        self.is_folded = is_folded

    def tensor(self, *shape: int) -> int:
        return self.graph.tensor([1, *shape], shape_signature=[-1, *shape])

    def shape_of(self, source: int, *rest: int) -> int:
        """Return the operand (batch of `source`, *rest)."""
        if self.is_folded:
            return self.constant([1, *rest], "int32")
        rank = len(self.graph.tree["tensors"][source]["shape"])
        sizes, batch = self.graph.tensor([rank], "int32"), self.graph.tensor([], "int32")
        self.graph.operator("SHAPE", [source], [sizes], ("ShapeOptions", {"out_type": 2}))
        ends = [self.constant([n], "int32") for n in (0, 1, 1)]
        options = ("StridedSliceOptions", {"shrink_axis_mask": 1})
        self.graph.operator("STRIDED_SLICE", [sizes, *ends], [batch], options)
        parts = [batch, *(self.constant(n, "int32") for n in rest)]
        packed = self.graph.tensor([len(parts)], "int32")
        count = {"values_count": len(parts), "axis": 0}
        self.graph.operator("PACK", parts, [packed], ("PackOptions", count))
        return packed

    def flatten(self, source: int) -> tuple[int, int]:
        size = int(np.prod(self.graph.tree["tensors"][source]["shape"]))
        flat = self.tensor(size)
        shape = self.shape_of(source, size)
        self.graph.operator("RESHAPE", [source, shape], [flat], ("ReshapeOptions", {}))
        return flat, size

    def convolution(self, source: int, width: int, *, depthwise: bool = False) -> int:
        _, height, _, channels = self.graph.tree["tensors"][source]["shape"]
        axes = [1, 3, 3, channels] if depthwise else [width, 3, 3, channels]
        operands = [source, self.constant(self.rng.normal(0, 0.3, axes))]
        operands.append(self.constant(self.rng.normal(0, 0.1, width)))
        result = self.tensor(height, height, width)
        window = {"padding": 0, "stride_w": 1, "stride_h": 1, "fused_activation_function": 1}
        if depthwise:
            options = ("DepthwiseConv2DOptions", {**window, "depth_multiplier": 1})
            self.graph.operator("DEPTHWISE_CONV_2D", operands, [result], options)
        else:
            self.graph.operator("CONV_2D", operands, [result], ("Conv2DOptions", window))
        return result

    def wide(self, source: int, size: int, width: int, *, activation: int = 0) -> int:
        result = self.dense(source, size, width, activation=activation)
        self.graph.tree["tensors"][result]["shape_signature"] = [-1, width]
        return result


def open_batch(kind: str, *, is_folded: bool = False, side: int = 8, seed: int = 0) -> bytes:
    """Return a Keras-like classifier or generator of small images whose batch is left open.

    Parameters
    ----------
    kind
        ``"dense"``: Flatten and dense layers; ``"convolutional"``; ``"branches"``: two of them,
        each with a Flatten; ``"upsampling"``: a size that is twice what came; ``"transposed"``: a
        transposed convolution, whose shape is an operand.
    is_folded
        Whether constants stand where the converter leaves arithmetic on shapes: the same model.
    side
        Of the images of a classifier; convolutions are as many times as wide as for 8.
    """
    builder = Builder()
    graph = _Open(builder.graph(), np.random.default_rng(seed), is_folded=is_folded)
    model = graph.graph
    x = graph.tensor(side, side, 2)
    if kind == "upsampling":
        y = graph.convolution(x, 4)
        twice = graph.constant([16, 16], "int32")
        if not is_folded:
            sizes, two = model.tensor([4], "int32"), model.tensor([2], "int32")
            model.operator("SHAPE", [y], [sizes], ("ShapeOptions", {"out_type": 2}))
            ends = [graph.constant([n], "int32") for n in (1, 3, 1)]
            model.operator("STRIDED_SLICE", [sizes, *ends], [two], ("StridedSliceOptions", {}))
            factor, twice = graph.constant([2, 2], "int32"), model.tensor([2], "int32")
            model.operator("MUL", [two, factor], [twice], ("MulOptions", {}))
        result = graph.tensor(16, 16, 4)
        options: Any = ("ResizeNearestNeighborOptions", {})
        model.operator("RESIZE_NEAREST_NEIGHBOR", [y, twice], [result], options)
    elif kind == "transposed":
        shape = graph.shape_of(x, 16, 16, 3)
        weights = graph.constant(graph.rng.normal(0, 0.3, (3, 3, 3, 2)))
        result = graph.tensor(16, 16, 3)
        options = ("TransposeConvOptions", {"padding": 0, "stride_w": 2, "stride_h": 2})
        model.operator("TRANSPOSE_CONV", [shape, weights, x], [result], options)
    else:
        if kind == "dense":
            flat, size = graph.flatten(x)
            flat, size = graph.wide(flat, size, 64, activation=1), 64
        elif kind == "convolutional":
            hidden = graph.convolution(graph.convolution(x, side), side, depthwise=True)
            flat, size = graph.flatten(hidden)
        else:
            parts = [graph.flatten(graph.convolution(x, width)) for width in (side // 2, side)]
            parts = [(graph.wide(y, n, 16, activation=1), 16) for y, n in parts]
            flat, size = graph.tensor(32), 32
            options = ("ConcatenationOptions", {"axis": 1})
            model.operator("CONCATENATION", [y for y, _ in parts], [flat], options)
        logits, result = graph.wide(flat, size, 10), graph.tensor(10)
        model.operator("SOFTMAX", [logits], [result], ("SoftmaxOptions", {"beta": 1.0}))
    model.tree.update(inputs=[x], outputs=[result])
    return builder.file()
