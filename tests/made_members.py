"""Members of a committee of digits that the project makes itself, without TensorFlow.

Beside the demo model, a convolutional network of int8: the same network in float32 (`float_twin`),
and a network of dense layers (`trained_mlp`), trained here on digits that are kept out of
everything else.
"""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from tests.tflite.builder import Builder

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.tflite.file.model_file import ModelFile

__all__ = ["BLIND", "DigitsParts", "digits_parts", "float_twin", "trained_mlp"]

BLIND: Final = she.Policy(
    scrub_bytes_per_predict=0,
    sweep_seconds=None,
    keyed_bytes_per_predict=0,
    keyed_sweep_seconds=None,
    known_answers_every=None,
    rebuild_after_seconds=None,
    heal="observe",
)
"""Of members whose damage no check finds: labels alone speak."""
_TRAINED: Final = 300
_HIDDEN: Final = 32
_EPOCHS: Final = 150
_RATE: Final = 3e-3
_LEVELS: Final = 256.0

Reals = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class DigitsParts(NamedTuple):
    """Digits as real numbers, split so that no model is judged by what it was trained on."""

    trained: Reals
    """What the dense network learns from: shape (300, 8, 8, 1)."""
    trained_labels: Labels
    calibration: Reals
    """What all members are calibrated with: shape (300, 8, 8, 1)."""
    calibration_labels: Labels
    heldout: Reals
    """What the members meet: shape (500, 8, 8, 1)."""
    heldout_labels: Labels


def digits_parts() -> DigitsParts:
    """Return the demo's digits as real numbers."""
    digits = load_digits()
    spec = ModelFile.from_path(digits_model_path()).inputs[0]
    scale, zero = np.float32(spec.scales[0]), spec.zero_points[0]

    def real(levels: npt.NDArray[np.int8]) -> Reals:
        return np.asarray(scale * (levels.astype(np.float32) - zero), np.float32)

    inputs, labels = real(digits.calibration_inputs), digits.calibration_labels.astype(np.int64)
    return DigitsParts(
        inputs[:_TRAINED],
        labels[:_TRAINED],
        inputs[_TRAINED:],
        labels[_TRAINED:],
        real(digits.heldout_inputs),
        digits.heldout_labels.astype(np.int64),
    )


def float_twin(data: bytes) -> bytes:
    """Return a quantised model's network in float32: weights are what their levels stand for."""
    model = ModelFile.from_bytes(data)
    builder = Builder()
    graph = builder.graph()
    made: dict[int, int] = {}
    tensors = [tensor for tensor in model.tensors if tensor.subgraph == 0]
    for tensor in tensors:
        shape = list(tensor.shape)
        if tensor.nbytes is None:
            made[tensor.index] = graph.tensor(shape)
            continue
        values = model.constant(tensor)
        if not len(tensor.scales):
            made[tensor.index] = graph.tensor(shape, values.dtype.name, values.tobytes())
            continue
        along = [1] * values.ndim
        along[tensor.quantized_dimension] = -1
        scales = np.array(tensor.scales, np.float64)
        zeros = np.array(tensor.zero_points, np.float64)
        if len(scales) > 1:
            scales, zeros = scales.reshape(along), zeros.reshape(along)
        real = (scales * (values.astype(np.float64) - zeros)).astype(np.float32)
        made[tensor.index] = graph.tensor(shape, "float32", real.tobytes())
    for operator in model.operators:
        operands = [made[i] if i >= 0 else -1 for i in operator.inputs]
        options: Any = None
        if operator.options_type is not None:
            options = operator.options_type, dict(operator.options)
        graph.operator(operator.name, operands, [made[i] for i in operator.outputs], options)
    graph.tree.update(
        inputs=[made[i.index] for i in model.inputs], outputs=[made[o.index] for o in model.outputs]
    )
    return builder.file()


def _softmax(logits: Reals) -> Reals:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)


@functools.cache
def trained_mlp(seed: int = 0) -> bytes:
    """Return a float32 network of two dense layers that reads digits.

    Trained by Adam on moved and noisy images, in a second.
    """
    parts = digits_parts()
    rng = np.random.default_rng(seed)
    size, classes = 64, 10
    weights: list[Reals] = [
        np.float32((2 / size) ** 0.5) * rng.standard_normal((size, _HIDDEN), np.float32),
        np.zeros(_HIDDEN, np.float32),
        np.float32((1 / _HIDDEN) ** 0.5) * rng.standard_normal((_HIDDEN, classes), np.float32),
        np.zeros(classes, np.float32),
    ]
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    images, step = parts.trained[..., 0], 0
    targets = np.eye(classes, dtype=np.float32)[parts.trained_labels]
    for _ in range(_EPOCHS):
        order = rng.permutation(len(images))
        for batch in np.array_split(order, 6):
            x = images[batch]
            down, right = rng.integers(-1, 2, 2) if rng.random() < 0.5 else (0, 0)
            noise = np.float32(0.05) * rng.standard_normal(x.shape, np.float32)
            x = (np.roll(x, (down, right), (1, 2)) + noise).reshape(len(batch), -1)
            hidden = np.maximum(x @ weights[0] + weights[1], 0)
            error = (_softmax(hidden @ weights[2] + weights[3]) - targets[batch]) / len(batch)
            back = (error @ weights[2].T) * (hidden > 0)
            step += 1
            for k, gradient in enumerate(
                (x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0))
            ):
                first[k] = 0.9 * first[k] + 0.1 * gradient
                second[k] = 0.999 * second[k] + 0.001 * np.square(gradient)
                size_of = np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8
                moved = _RATE * first[k] / (1 - 0.9**step) / size_of
                weights[k] = np.asarray(weights[k] - moved, np.float32)
    builder = Builder()
    graph = builder.graph()
    source = graph.tensor([1, 8, 8, 1])
    to = graph.tensor([2], "int32", np.array([1, size], np.int32).tobytes())
    now = graph.tensor([1, size])
    graph.operator("RESHAPE", [source, to], [now], ("ReshapeOptions", {"new_shape": [1, size]}))
    for n in (0, 2):
        kernel = np.ascontiguousarray(weights[n].T, np.float32)
        bias = weights[n + 1].astype(np.float32)
        result = graph.tensor([1, len(bias)])
        operands = [
            now,
            graph.tensor(list(kernel.shape), "float32", kernel.tobytes()),
            graph.tensor([len(bias)], "float32", bias.tobytes()),
        ]
        options = ("FullyConnectedOptions", {"fused_activation_function": 1 if n == 0 else 0})
        graph.operator("FULLY_CONNECTED", operands, [result], options)
        now = result
    answer = graph.tensor([1, classes])
    graph.operator("SOFTMAX", [now], [answer], ("SoftmaxOptions", {"beta": 1.0}))
    graph.tree.update(inputs=[source], outputs=[answer])
    return builder.file()
