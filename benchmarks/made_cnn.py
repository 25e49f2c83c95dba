"""A small int8 CNN of images, trained here in NumPy: no framework is needed, and no file is kept.

Two convolutions (5x5, every second pixel), two dense layers, ReLU between them, a softmax at the
end. Adam on the cross entropy, seeded: the same data give the same network on the same machine. A
minute of CPU for 3,000 images of 28x28 at most.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from tests.tflite.builder import Builder

from made_classifiers import MOST, quantise, quantised

__all__ = ["trained_cnn"]

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

KERNEL: Final = 5
STRIDE: Final = 2
CHANNELS: Final = (1, 8, 16)
HIDDEN: Final = 48
EPOCHS: Final = 12
BATCH: Final = 50
RATE: Final = 2e-3
BETAS: Final = 0.9, 0.999


class _Pass(NamedTuple):
    """What one layer has seen: what its weights were multiplied with, and what came of it."""

    rows: Floats
    shape: tuple[int, ...]
    out: Floats


def _pad(side: int) -> tuple[int, int]:
    total = max(0, (-(-side // STRIDE) - 1) * STRIDE + KERNEL - side)
    return total // 2, total - total // 2


def _patches(x: Floats) -> Floats:
    """Return what each output pixel sees: shape (n, side, side, kernel * kernel * channels)."""
    pad = _pad(x.shape[1])
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(x, (KERNEL, KERNEL), (1, 2))
    seen = seen[:, ::STRIDE, ::STRIDE].transpose(0, 1, 2, 4, 5, 3)
    return np.ascontiguousarray(seen.reshape(*seen.shape[:3], -1))


def _back(slopes: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the slopes of an image from those of what each output pixel saw of it."""
    count, side, _, channels = shape
    pad = _pad(side)
    found = np.zeros((count, side + sum(pad), side + sum(pad), channels), np.float32)
    out = slopes.shape[1]
    parts = slopes.reshape(count, out, out, KERNEL, KERNEL, channels)
    for i in range(KERNEL):
        for j in range(KERNEL):
            rows = slice(i, i + STRIDE * out, STRIDE)
            columns = slice(j, j + STRIDE * out, STRIDE)
            found[:, rows, columns] += parts[:, :, :, i, j]
    return found[:, pad[0] : pad[0] + side, pad[0] : pad[0] + side]


class _Net:
    """Weights, shape (inputs, outputs) of each layer, and biases."""

    def __init__(self, side: int, classes: int, rng: np.random.Generator) -> None:
        last = -(-side // STRIDE**2)
        inside = last**2 * CHANNELS[-1]
        sizes = [
            (KERNEL**2 * CHANNELS[0], CHANNELS[1]),
            (KERNEL**2 * CHANNELS[1], CHANNELS[2]),
            (inside, HIDDEN),
            (HIDDEN, classes),
        ]
        self.parts: list[Floats] = []
        for size in sizes:
            self.parts.append(rng.normal(0, np.sqrt(2 / size[0]), size).astype(np.float32))
            self.parts.append(np.zeros(size[1], np.float32))

    def forward(self, x: Floats) -> list[_Pass]:
        """Return what each layer sees and gives; logits at last."""
        found = []
        for n in range(4):
            weights, bias = self.parts[2 * n : 2 * n + 2]
            rows = _patches(x) if n < 2 else x.reshape(len(x), -1)
            out = rows @ weights + bias
            out = out if n == 3 else np.maximum(out, 0)
            found.append(_Pass(rows, x.shape, out))
            x = out
        return found

    def slopes(self, x: Floats, y: Labels) -> list[Floats]:
        """Return those of the mean cross entropy, by weights and biases."""
        seen = self.forward(x)
        logits = seen[-1].out
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(len(y)), y] -= 1.0
        back: Floats = shares / np.float32(len(y))
        found: list[Floats] = []
        for n in range(3, -1, -1):
            rows, shape, out = seen[n]
            if n < 3:
                back = back.reshape(out.shape) * (out > 0)
            flat = back.reshape(-1, back.shape[-1])
            found = [rows.reshape(-1, rows.shape[-1]).T @ flat, flat.sum(0), *found]
            back = back @ self.parts[2 * n].T
            back = _back(back, shape) if n < 2 else back.reshape(shape)
        return found


def trained_cnn(x: Floats, y: Labels, classes: int, seed: int = 0) -> bytes:
    """Train a network and return it as an int8 file.

    Parameters
    ----------
    x
        Images from 0 to 1, shape (n, side, side, 1).
    y
        Their classes.
    classes
        How many there are.
    """
    rng = np.random.default_rng(seed)
    net = _Net(x.shape[1], classes, rng)
    mean = [np.zeros_like(part) for part in net.parts]
    square = [np.zeros_like(part) for part in net.parts]
    step, steps = 0, EPOCHS * (len(x) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for rows in order[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
            step += 1
            rate = RATE * 0.5 * (1.0 + np.cos(np.pi * step / steps))
            rate *= np.sqrt(1.0 - BETAS[1] ** step) / (1.0 - BETAS[0] ** step)
            for n, slope in enumerate(net.slopes(x[rows], y[rows])):
                mean[n] += (1 - BETAS[0]) * (slope - mean[n])
                square[n] += (1 - BETAS[1]) * (np.square(slope) - square[n])
                net.parts[n] -= np.float32(rate) * mean[n] / (np.sqrt(square[n]) + 1e-8)
    return _written(net, x[:500])


def _written(net: _Net, x: Floats) -> bytes:
    """Return the file: a scale for each tensor, ranges of activations from these images."""
    builder = Builder()
    graph = builder.graph()
    side = x.shape[1]
    scale, zero = 1 / 255, -128
    first = now = graph.tensor([1, side, side, 1], "int8", **quantised(scale, zero))
    for n, seen in enumerate(net.forward(x)):
        weights, bias = net.parts[2 * n : 2 * n + 2]
        shape, activation = [1, *seen.out.shape[1:]], int(n < 3)
        channels = seen.shape[-1] if n < 2 else 0
        kernel = weights.T.reshape(-1, KERNEL, KERNEL, channels) if n < 2 else weights.T
        if n == 2:
            flat = [1, weights.shape[0]]
            to = graph.tensor([2], "int32", np.array(flat, np.int32).tobytes())
            flattened = graph.tensor(flat, "int8", **quantised(scale, zero))
            reshape = ("ReshapeOptions", {"new_shape": flat})
            graph.operator("RESHAPE", [now, to], [flattened], reshape)
            now = flattened
        step = float(np.abs(kernel).max()) / MOST
        levels = quantise(kernel.astype(np.float64), step)
        sums = np.rint(bias / (scale * step)).astype(np.int32)
        operands = [
            now,
            graph.tensor([*levels.shape], "int8", levels.tobytes(), **quantised(step)),
            graph.tensor([len(sums)], "int32", sums.tobytes(), **quantised(scale * step)),
        ]
        if activation:
            scale, zero = float(seen.out.max()) / 255, -128
        else:
            scale, zero = float(np.abs(seen.out).max()) / MOST, 0
        now = graph.tensor(shape, "int8", **quantised(scale, zero))
        options: tuple[str, dict[str, Any]] = (
            "FullyConnectedOptions",
            {"fused_activation_function": activation},
        )
        if n < 2:
            strides = {"padding": 0, "stride_w": STRIDE, "stride_h": STRIDE}
            options = ("Conv2DOptions", {**strides, "fused_activation_function": activation})
        graph.operator("CONV_2D" if n < 2 else "FULLY_CONNECTED", operands, [now], options)
    answer = graph.tensor([1, len(bias)], "int8", **quantised(1 / 256, -128))
    graph.operator("SOFTMAX", [now], [answer], ("SoftmaxOptions", {"beta": 1.0}))
    graph.tree.update(inputs=[first], outputs=[answer])
    return builder.file()
