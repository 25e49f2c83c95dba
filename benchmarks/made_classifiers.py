"""Int8 classifiers of dense layers from float weights, written without TensorFlow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.tflite.builder import Builder

Reals = npt.NDArray[np.float64]
MOST = 127


def quantised(scale: float, zero_point: int = 0) -> dict[str, Any]:
    return {"quantization": {"scale": [scale], "zero_point": [zero_point]}}


def quantise(values: Reals, scale: float, zero_point: int = 0) -> npt.NDArray[np.int8]:
    """Round half to even and saturate."""
    levels = np.clip(np.rint(values / scale) + zero_point, -128, MOST)
    return np.asarray(levels, np.int8)


def int8_classifier(
    layers: list[tuple[Reals, Reals]],
    inputs: Reals,
    shape: list[int],
    input_scale: float,
    input_zero: int,
) -> bytes:
    """Return the file.

    Parameters
    ----------
    layers
        Weights, shape (inputs, outputs), and biases; ReLU between them, a softmax behind the last.
    inputs
        Float samples to take the ranges of activations from, shape (n, features).
    shape
        Of the input, its batch of 1 in front.
    input_scale, input_zero
        Of the input.
    """
    builder = Builder()
    graph = builder.graph()
    features = int(np.prod(shape))
    first = graph.tensor(shape, "int8", **quantised(input_scale, input_zero))
    now, scale = first, input_scale
    if len(shape) > 2:
        now = graph.tensor([1, features], "int8", **quantised(input_scale, input_zero))
        to = graph.tensor([2], "int32", np.array([1, features], np.int32).tobytes())
        reshape = ("ReshapeOptions", {"new_shape": [1, features]})
        graph.operator("RESHAPE", [first, to], [now], reshape)
    values = inputs
    for n, (weights, bias) in enumerate(layers):
        is_last = n == len(layers) - 1
        values = values @ weights + bias
        if not is_last:
            values = np.maximum(values, 0.0)
        step = float(np.abs(weights).max()) / MOST
        levels = quantise(weights.T, step)
        # ReLU needs one side alone; logits are kept symmetric.
        out_scale = float(values.max()) / 255 if not is_last else float(np.abs(values).max()) / MOST
        out_zero = -128 if not is_last else 0
        operands = [
            now,
            graph.tensor([*levels.shape], "int8", levels.tobytes(), **quantised(step)),
            graph.tensor(
                [len(bias)],
                "int32",
                np.rint(bias / (scale * step)).astype(np.int32).tobytes(),
                **quantised(scale * step),
            ),
        ]
        now = graph.tensor([1, len(bias)], "int8", **quantised(out_scale, out_zero))
        activation = {"fused_activation_function": 0 if is_last else 1}
        graph.operator("FULLY_CONNECTED", operands, [now], ("FullyConnectedOptions", activation))
        scale = out_scale
    classes = len(layers[-1][1])
    answer = graph.tensor([1, classes], "int8", **quantised(1 / 256, -128))
    graph.operator("SOFTMAX", [now], [answer], ("SoftmaxOptions", {"beta": 1.0}))
    graph.tree.update(inputs=[first], outputs=[answer])
    return builder.file()
