"""One small model for every operator and kind of constant operand that the builder can make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from tests.tflite.builder import Builder, Graph

Options = tuple[str, dict[str, Any]]

_SIZE = (1, 4, 4, 8)
_SHAPES: dict[str, tuple[int, ...]] = {
    "scalar": (), "one": (1,), "channels": (8,), "row": (1, 1, 4, 8), "whole": _SIZE,
}  # fmt: skip
_ELEMENTWISE: dict[str, Options | None] = {
    "ADD": ("AddOptions", {}),
    "SUB": ("SubOptions", {}),
    "MUL": ("MulOptions", {}),
    "DIV": ("DivOptions", {}),
    "MAXIMUM": ("MaximumMinimumOptions", {}),
    "MINIMUM": ("MaximumMinimumOptions", {}),
    "SQUARED_DIFFERENCE": ("SquaredDifferenceOptions", {}),
}
_ACTIVATED = ("ADD", "SUB", "MUL", "DIV")
_WINDOW = {"padding": 0, "stride_w": 1, "stride_h": 1}


class Case(NamedTuple):
    """A model with one operator, one of whose operands is a constant."""

    name: str
    data: bytes


class _Maker:
    def __init__(self, dtype: str, seed: int = 0) -> None:
        self.dtype = dtype
        self.rng = np.random.default_rng(seed)
        self.builder = Builder()
        self.graph: Graph = self.builder.graph()

    def levels(self, scale: float = 0.05) -> dict[str, Any]:
        if self.dtype == "float32":
            return {}
        zero = {"int8": -3, "uint8": 125, "int16": 0}[self.dtype]
        return {"quantization": {"scale": [scale], "zero_point": [zero]}}

    def tensor(self, *shape: int) -> int:
        return self.graph.tensor(list(shape), self.dtype, **self.levels())

    def constant(self, shape: tuple[int, ...]) -> int:
        if self.dtype == "float32":
            values = self.rng.uniform(0.3, 1.5, shape).astype(np.float32)
        else:
            low = 130 if self.dtype == "uint8" else 5
            values = self.rng.integers(low, low + 60, shape).astype(self.dtype)
        return self.graph.tensor(list(shape), self.dtype, values.tobytes(), **self.levels())

    def symmetric(self, shape: tuple[int, ...], axis: int | None = None) -> int:
        """Return weights of a layer, per channel if an axis is given; int8 or float32."""
        if self.dtype == "float32":
            values = self.rng.normal(0, 0.4, shape).astype(np.float32)
            return self.graph.tensor(list(shape), "float32", values.tobytes())
        dtype = "uint8" if self.dtype == "uint8" else "int8"
        low, high = (1, 255) if dtype == "uint8" else (-127, 127)
        values = self.rng.integers(low, high, shape).astype(dtype)
        count = 1 if axis is None or dtype == "uint8" else shape[axis]
        zero = 128 if dtype == "uint8" else 0
        scales = {"scale": [0.004] * count, "zero_point": [zero] * count}
        levels = {"quantization": {**scales, "quantized_dimension": axis or 0}}
        return self.graph.tensor(list(shape), dtype, values.tobytes(), **levels)

    def bias(self, count: int) -> int:
        if self.dtype == "float32":
            return self.constant((count,))
        kind = "int64" if self.dtype == "int16" else "int32"
        values = self.rng.integers(-400, 400, count).astype(kind)
        levels = {"quantization": {"scale": [0.05 * 0.004], "zero_point": [0]}}
        return self.graph.tensor([count], kind, values.tobytes(), **levels)

    def file(
        self, name: str, inputs: list[int], result: int, options: Options | None, given: list[int]
    ) -> bytes:
        self.graph.operator(name, inputs, [result], options)
        self.graph.tree.update(inputs=given, outputs=[result])
        return self.builder.file()


def _elementwise() -> Iterator[Case]:
    for name, plain in _ELEMENTWISE.items():
        for activation in (0, 1, 3) if name in _ACTIVATED else (0,):
            options = plain
            if activation and plain is not None:
                options = (plain[0], {"fused_activation_function": activation})
            yield from _with_operands(name, options, activation)


def _with_operands(name: str, options: Options | None, activation: int) -> Iterator[Case]:
    for dtype in ("float32", "int8", "uint8", "int16"):
        for kind, shape in _SHAPES.items():
            for place in (0, 1):
                made = _Maker(dtype)
                x, y = made.tensor(*_SIZE), made.tensor(*_SIZE)
                operands = [x, x]
                operands[place] = made.constant(shape)
                data = made.file(name, operands, y, options, [x])
                yield Case(f"{name}-{dtype}-{kind}-{place}-{activation}", data)


def _others() -> Iterator[Case]:
    for dtype in ("float32", "int8", "uint8", "int16"):
        made = _Maker(dtype)
        x, y = made.tensor(*_SIZE), made.tensor(*_SIZE)
        alpha = made.constant((1, 1, 8))
        yield Case(f"PRELU-{dtype}", made.file("PRELU", [x, alpha], y, None, [x]))
        for place in (0, 1):
            made = _Maker(dtype)
            x, y = made.tensor(*_SIZE), made.tensor(1, 4, 4, 16)
            operands = [x, x]
            operands[place] = made.constant(_SIZE)
            options: Options = ("ConcatenationOptions", {"axis": 3})
            data = made.file("CONCATENATION", operands, y, options, [x])
            yield Case(f"CONCATENATION-{dtype}-{place}", data)
        for name, positions in (("GATHER", (0, 1)), ("EMBEDDING_LOOKUP", (1, 0))):
            made = _Maker(dtype)
            word, y = made.graph.tensor([2], "int32"), made.tensor(2, 8)
            pair = [made.constant((6, 8)), word]
            operands = [pair[i] for i in positions]
            chosen: Options | None = ("GatherOptions", {"axis": 0}) if name == "GATHER" else None
            yield Case(f"{name}-{dtype}", made.file(name, operands, y, chosen, [word]))


def _layers() -> Iterator[Case]:
    for dtype in ("float32", "int8", "uint8", "int16"):
        for has_bias in (False, True):
            tag = f"{dtype}-{'bias' if has_bias else 'plain'}"
            made = _Maker(dtype)
            x, y = made.tensor(1, 8), made.tensor(1, 6)
            operands = [x, made.symmetric((6, 8)), *([made.bias(6)] if has_bias else [])]
            options: Options = ("FullyConnectedOptions", {})
            data = made.file("FULLY_CONNECTED", operands, y, options, [x])
            yield Case(f"FULLY_CONNECTED-{tag}", data)
            for size in (1, 3):
                made = _Maker(dtype)
                x, y = made.tensor(*_SIZE), made.tensor(1, 4, 4, 6)
                weights = made.symmetric((6, size, size, 8), axis=0)
                operands = [x, weights, *([made.bias(6)] if has_bias else [])]
                data = made.file("CONV_2D", operands, y, ("Conv2DOptions", _WINDOW), [x])
                yield Case(f"CONV_2D-{tag}-{size}", data)
            if has_bias:  # runtimes die of a float one without
                made = _Maker(dtype)
                x, y = made.tensor(*_SIZE), made.tensor(*_SIZE)
                operands = [x, made.symmetric((1, 3, 3, 8), axis=3), made.bias(8)]
                options = ("DepthwiseConv2DOptions", {**_WINDOW, "depth_multiplier": 1})
                data = made.file("DEPTHWISE_CONV_2D", operands, y, options, [x])
                yield Case(f"DEPTHWISE_CONV_2D-{tag}", data)
            made = _Maker(dtype)
            x, y = made.tensor(1, 4, 4, 8), made.tensor(1, 8, 8, 6)
            shape = made.graph.tensor([4], "int32", np.array([1, 8, 8, 6], np.int32).tobytes())
            weights = made.symmetric((6, 3, 3, 8), axis=0)
            operands = [shape, weights, x, *([made.bias(6)] if has_bias else [])]
            options = ("TransposeConvOptions", {"padding": 0, "stride_w": 2, "stride_h": 2})
            data = made.file("TRANSPOSE_CONV", operands, y, options, [x])
            yield Case(f"TRANSPOSE_CONV-{tag}", data)
        if dtype == "int16":
            continue  # runtimes die of a BATCH_MATMUL with constant ones
        made = _Maker(dtype)
        x, y = made.tensor(1, 4, 8), made.tensor(1, 4, 6)
        options = ("BatchMatMulOptions", {})
        data = made.file("BATCH_MATMUL", [x, made.constant((1, 8, 6))], y, options, [x])
        yield Case(f"BATCH_MATMUL-{dtype}", data)


CASES = {case.name: case.data for make in (_elementwise, _others, _layers) for case in make()}
FEW = {
    name: data
    for name, data in CASES.items()
    if not any(part in name.split("-") for part in ("uint8", "int16", "one", "row", "whole"))
}
"""Without those that, so far, behave as one of these."""
