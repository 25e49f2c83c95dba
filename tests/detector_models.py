"""Models that end in boxes, classes, scores and a count, written by `tests.tflite.builder`."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from tests.tflite.builder import Builder

__all__ = ["BOXES", "CLASSES", "MOST", "detector", "plain_detector"]

BOXES = 12
"""Anchors."""
CLASSES = 3
MOST = 5
"""Detections that come out."""


def flexbuffer(values: dict[str, int | float | bool]) -> bytes:
    """Return a FlexBuffers map of numbers, all four bytes wide."""
    out = bytearray()
    places = {}
    for name in sorted(values):
        places[name] = len(out)
        out += name.encode() + b"\0"
    out += bytes(-len(out) % 4)
    out += struct.pack("<I", len(values))
    keys = len(out)
    for name in sorted(values):
        out += struct.pack("<I", len(out) - places[name])
    out += struct.pack("<III", len(out) - keys, 4, len(values))
    start = len(out)
    types = []
    for name in sorted(values):
        value = values[name]
        is_float = isinstance(value, float)
        types.append((26 if isinstance(value, bool) else 3 if is_float else 1) << 2 | 2)
        out += struct.pack("<f" if is_float else "<i", value)
    out += bytes(types)
    out += bytes(-len(out) % 4)
    out += struct.pack("<I", len(out) - start) + bytes([9 << 2 | 2, 4])
    return bytes(out)


def detector(order: tuple[int, int, int, int] = (0, 1, 2, 3), seed: int = 0) -> bytes:
    """Return a float detector of 4x4 images that ends in TFLite_Detection_PostProcess.

    Its outputs come as `order` says: 0 boxes, 1 classes, 2 scores, 3 count.
    """
    rng = np.random.default_rng(seed)
    builder = Builder()
    graph = builder.graph()

    def constant(values: Any) -> int:
        array = np.asarray(values, np.float32)
        return graph.tensor(list(array.shape), "float32", array.tobytes())

    def layer(shape: list[int], spread: float) -> int:
        count = int(np.prod(shape))
        weights = rng.normal(0, spread, (count, 16))
        flat = graph.tensor([1, count])
        graph.operator(
            "FULLY_CONNECTED",
            [image, constant(weights), constant(np.zeros(count))],
            [flat],
            ("FullyConnectedOptions", {}),
        )
        result = graph.tensor(shape)
        new = graph.tensor([len(shape)], "int32", np.array(shape, np.int32).tobytes())
        graph.operator("RESHAPE", [flat, new], [result], ("ReshapeOptions", {"new_shape": shape}))
        return result

    image = graph.tensor([1, 16])
    boxes = layer([1, BOXES, 4], 0.2)
    logits = layer([1, BOXES, CLASSES + 1], 1.0)
    scores = graph.tensor([1, BOXES, CLASSES + 1])
    graph.operator("LOGISTIC", [logits], [scores])
    centres = np.linspace(0.1, 0.9, BOXES)
    anchors = constant(np.column_stack([centres, centres[::-1], [0.1] * BOXES, [0.1] * BOXES]))
    found = [graph.tensor(shape) for shape in ([1, MOST, 4], [1, MOST], [1, MOST], [1])]
    options = flexbuffer(
        {
            "max_detections": MOST, "max_classes_per_detection": 1, "detections_per_class": 100,
            "num_classes": CLASSES, "nms_score_threshold": 0.05, "nms_iou_threshold": 0.6,
            "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
            "use_regular_nms": False,
        }
    )  # fmt: skip
    builder.tree["operator_codes"].append(
        {
            "deprecated_builtin_code": 32, "builtin_code": 32, "version": 1,
            "custom_code": "TFLite_Detection_PostProcess",
        }
    )  # fmt: skip
    graph.tree["operators"].append(
        {
            "opcode_index": len(builder.tree["operator_codes"]) - 1,
            "inputs": [boxes, scores, anchors],
            "outputs": found,
            "custom_options": options,
        }
    )
    graph.tree.update(inputs=[image], outputs=[found[i] for i in order])
    return builder.file()


def plain_detector(names: tuple[str, str, str, str], order: tuple[int, ...]) -> bytes:
    """Return a model that gives its four inputs out, at twice the value, in `order`."""
    builder = Builder()
    graph = builder.graph()
    two = graph.tensor([1], "float32", np.array([2.0], np.float32).tobytes())
    shapes = ([1, MOST, 4], [1, MOST], [1, MOST], [1])
    inputs, outputs = [], []
    for shape, name in zip(shapes, names, strict=True):
        inputs.append(graph.tensor(shape))
        outputs.append(graph.tensor(shape, name=name))
        graph.operator("MUL", [inputs[-1], two], [outputs[-1]], ("MulOptions", {}))
    graph.tree.update(inputs=inputs, outputs=[outputs[i] for i in order])
    return builder.file()
