"""The last layer as numbers, and its numbers as bytes of the file.

A `Head` is golden's last layer in real units: logits are ``embeddings @ weights.T + bias``. What a
device learns is another such pair; `head_changes` writes it in the layer's own types, in place. No
tensor changes its size, so that a patch is a list of bytes and nothing else of the file moves.

Which numbers are written anew:

- weights, with *fresh* scales (one, or one a class, as the file has them), since learned weights
  are seldom as large as golden's; of uint8 weights the zero point as well;
- biases, whose scale is the input's times the weights', as kernels assume;
- nothing of activations: what the layer before gives, and what the softmax takes, stays in its
  range. Logits beyond it are cut off: `Head.cut` counts how many, `into_range` avoids what it can.
  A regressor's output has a fresh scale where a DEQUANTIZE alone reads it (`with_room`).

A common vector added to all rows of weights changes no softmax. Learning leaves golden's there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.records import HeadInfo, TensorInfo

__all__ = [
    "Head",
    "Stored",
    "capped",
    "distance",
    "find_head",
    "head_changes",
    "into_range",
    "why_not_alone",
    "with_room",
]

Floats = npt.NDArray[np.float64]

_LEVELS: Final = {"int8": 127, "uint8": 254}
"""Steps from the least to the greatest weight (uint8), or from zero to the greatest (int8): both
leave out one value, which some kernels do not multiply fast."""
_MOST_BIAS: Final = {"int32": 2.0**30, "int64": 2.0**40}
"""So that the sum that a bias begins stays within what kernels count in."""
_ROUNDING: Final = 1e-12
_RESCALE: Final = (2.0**-24, 256.0)
"""What a step of the sum may be, in steps of the output: XNNPACK takes scales from 2^-32 up to 256;
below 2^-24 no weight would count."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Where a tensor's numbers lie in the source image, and how they are written."""

    offset: int
    dtype: str
    scales: npt.NDArray[np.float32]
    """None, one, or one a class."""
    zero_point: int
    scales_offset: int | None
    zero_points_offset: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Golden's last layer: a row of weights and a bias for each class."""

    weights: Floats
    """Shape (rows, dimensions): a row a class; one row before a sigmoid, for class 1 of two."""
    bias: Floats
    """Shape (rows,); zeros where the layer has none."""
    operator: str
    """``"FULLY_CONNECTED"`` or ``"CONV_2D"``."""
    embedding: int
    """Index in subgraph 0 of the tensor that the layer reads."""
    activations: str
    """Type of embeddings and logits: ``"int8"``, ``"uint8"``, ``"int16"``, ``"float32"``."""
    input_scale: float
    """Of a step of the embedding; 1 for floats."""
    output_scale: float
    """Of a step of a logit; 1 for floats."""
    output_zero_point: int
    stored_weights: Stored
    stored_bias: Stored | None
    """None where the layer has no bias: then no other can be written."""
    is_regression: bool = False
    """Whether its rows are numbers that are meant, and not logits of one softmax or sigmoid."""
    output_scale_offset: int | None = None
    """Where the scale of a regressor's output lies that a DEQUANTIZE alone reads, so that another
    one can be written; None where it is what the model's own output stands for, or has none."""

    @property
    def classes(self) -> int:
        """Number of classes: two for a single row."""
        return max(2, len(self.weights))

    @property
    def dtype(self) -> str:
        """Type of the weights in the file."""
        return self.stored_weights.dtype

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest logit that the layer can give."""
        if self.activations == "float32":
            return -np.inf, np.inf
        limits, zero = np.iinfo(self.activations), self.output_zero_point
        return self.output_scale * (limits.min - zero), self.output_scale * (limits.max - zero)

    def logits(self, embeddings: npt.NDArray[Any], weights: Any = None, bias: Any = None) -> Floats:
        """Return logits, shape (n, rows), of embeddings (n, dimensions) in real units.

        Parameters
        ----------
        embeddings
            As the layer's input tensor holds them, dequantised.
        weights, bias
            In place of golden's.
        """
        rows = self.weights if weights is None else np.asarray(weights, np.float64)
        offsets = self.bias if bias is None else np.asarray(bias, np.float64)
        return np.asarray(np.asarray(embeddings, np.float64) @ rows.T + offsets)

    def cut(self, embeddings: npt.NDArray[Any], weights: Any = None, bias: Any = None) -> float:
        """Return the share of embeddings whose greatest logit lies above the output's range.

        The greatest decides the answer; cut off, it may equal the next.
        """
        greatest = self.logits(embeddings, weights, bias).max(axis=1)
        return float((greatest > self.range[1]).mean()) if len(greatest) else 0.0


def find_head(model: ModelFile, *, is_regression: bool = False) -> Head | str:
    """Read a model's last layer, or say why it has none that can be learned.

    Parameters
    ----------
    model
        The file whose bytes are the source image: ``session.copy.model``.
    is_regression
        Whether it is a regressor: the layer gives numbers then, and no classes.

    Returns
    -------
    Head or str
        The layer whose output is output 0, perhaps through softmax, reshape and dequantise
        (`selfheal_edge.tflite.file.head` has the rule); or the reason, in words, for the journal.
    """
    found = model.regression if is_regression else model.head or model.why_no_head
    if isinstance(found, str):
        return found
    reason = _why_not(model, found)
    if reason:
        return reason
    tensors = model.subgraphs[0].tensors
    weights, embedding, logits = (
        tensors[i] for i in (found.weights, found.embedding, found.logits)
    )
    bias = None if found.bias is None else tensors[found.bias]
    rows = _real(model, weights).reshape(weights.shape[0], -1)
    return Head(
        weights=rows,
        bias=np.zeros(len(rows)) if bias is None else _real_bias(model, bias, weights, embedding),
        operator=model.subgraphs[0].operators[found.operator].name,
        embedding=found.embedding,
        activations=embedding.dtype,
        input_scale=_step(embedding),
        output_scale=_step(logits),
        output_zero_point=int(logits.zero_points[0]) if logits.zero_points.size else 0,
        stored_weights=_stored(weights),
        stored_bias=None if bias is None else _stored(bias),
        is_regression=is_regression,
        output_scale_offset=_free_scale(model, found) if is_regression else None,
    )


def _free_scale(model: ModelFile, found: HeadInfo) -> int | None:
    """Return where the scale of the layer's output lies, if it may be written anew."""
    graph = model.subgraphs[0]
    output = graph.tensors[found.logits]
    readers = [o.name for o in graph.operators if found.logits in o.inputs]
    is_inner = found.logits not in graph.outputs and set(readers) == {"DEQUANTIZE"}
    is_alone = not any(
        other is not output and other.scales_offset == output.scales_offset
        for other in model.tensors
    )
    return output.scales_offset if is_inner and is_alone else None


_TYPES: Final = {
    # of embedding and weights: types that the bias may have
    ("float32", "float32"): ("float32",),
    ("float32", "int8"): ("float32",),
    ("int8", "int8"): ("int32",),
    ("uint8", "uint8"): ("int32",),
    ("int16", "int8"): ("int32", "int64"),
}


def _why_not(model: ModelFile, found: HeadInfo) -> str:
    tensors = model.subgraphs[0].tensors
    weights, embedding, logits = (
        tensors[i] for i in (found.weights, found.embedding, found.logits)
    )
    bias = None if found.bias is None else tensors[found.bias]
    types = _TYPES.get((embedding.dtype, weights.dtype))
    if types is None or logits.dtype != embedding.dtype:
        return (
            f"the last layer has {weights.dtype} weights between {embedding.dtype} and "
            f"{logits.dtype}"
        )
    if bias is not None and (not bias.is_constant or bias.dtype not in types):
        return f"the last layer's bias is no constant of {' or '.join(types)}"
    reasons = [_why_not_softmax(model, found), why_not_alone(model, weights)]
    if bias is not None:
        reasons.append(why_not_alone(model, bias))
    if weights.dtype != "float32":
        reasons.append(_why_not_weights(weights))
    if embedding.dtype != "float32":
        reasons.append(_why_not_levels(weights, bias, embedding, logits))
    return next(filter(None, reasons), "")


def _why_not_softmax(model: ModelFile, found: HeadInfo) -> str:
    """Return what makes the layer's rows other than the logits of one softmax, or one sigmoid."""
    graph = model.subgraphs[0]
    if graph.tensors[found.embedding].size != found.embedding_size:
        return "the last layer yields several rows a sample"
    if found.activation == "LOGISTIC" and graph.tensors[found.weights].shape[0] > 1:
        return "several sigmoids: classes that do not exclude each other"
    if graph.operators[found.operator].options.get("weights_format", 0):
        return "the last layer's weights are shuffled"
    betas = [o.options.get("beta", 1.0) for o in graph.operators if o.name == "SOFTMAX"]
    if found.activation == "SOFTMAX" and betas[-1] != 1.0:
        return "a softmax with a beta other than 1"
    return ""


def why_not_alone(model: ModelFile, part: TensorInfo) -> str:
    """Return why a constant cannot be written without touching anything else; empty: it can."""
    if part.is_sparse:
        return f"{part.name!r} is sparse"
    region = next(r for r in model.regions if r.offset == part.offset)
    if region.shared:
        return f"the bytes of {part.name!r} have another use as well"
    mine = {part.scales_offset, part.zero_points_offset} - {None}
    for other in model.tensors:
        if other is not part and mine & {other.scales_offset, other.zero_points_offset}:
            return f"the scales of {part.name!r} are those of {other.name!r} as well"
    return ""


def _why_not_weights(weights: TensorInfo) -> str:
    count = weights.scales.size
    if not count or (count > 1 and weights.quantized_dimension != 0):
        return "the last layer's weights have no scale, or not one a class"
    if weights.dtype == "uint8" and (count != 1 or weights.zero_points_offset is None):
        return "the last layer's uint8 weights have other than one scale and zero point"
    if weights.dtype == "int8" and weights.zero_points.any():
        return "the last layer's int8 weights have zero points other than 0"
    return "" if (weights.scales > 0).all() else "the last layer's weights have scales of 0"


def _why_not_levels(
    weights: TensorInfo, bias: TensorInfo | None, embedding: TensorInfo, logits: TensorInfo
) -> str:
    if any(t.scales.size != 1 or not (t.scales > 0).all() for t in (embedding, logits)):
        return "the last layer's input or output has no scale"
    if bias is not None and bias.scales.size not in (0, weights.scales.size):
        return "the last layer's bias has another number of scales than its weights"
    return ""


def _stored(tensor: TensorInfo) -> Stored:
    assert tensor.offset is not None
    return Stored(
        tensor.offset,
        tensor.dtype,
        tensor.scales,
        int(tensor.zero_points[0]) if tensor.zero_points.size else 0,
        tensor.scales_offset,
        tensor.zero_points_offset,
    )


def _step(tensor: TensorInfo) -> float:
    return float(tensor.scales[0]) if tensor.scales.size and tensor.dtype != "float32" else 1.0


def _real(model: ModelFile, weights: TensorInfo) -> Floats:
    values = model.constant(weights).astype(np.float64)
    if weights.dtype == "float32":
        return values
    scales = weights.scales.astype(np.float64).reshape((-1,) + (1,) * (values.ndim - 1))
    zero = int(weights.zero_points[0]) if weights.zero_points.size else 0
    return np.asarray((values - zero) * scales)


def _real_bias(
    model: ModelFile, bias: TensorInfo, weights: TensorInfo, embedding: TensorInfo
) -> Floats:
    values = model.constant(bias).astype(np.float64).reshape(-1)
    if bias.dtype == "float32":
        return values
    # Kernels never look at the bias's own scale.
    return np.asarray(values * _step(embedding) * weights.scales.astype(np.float64))


def head_changes(
    head: Head, weights: npt.NDArray[Any], bias: npt.NDArray[Any], mean: Any = None
) -> tuple[tuple[int, bytes], ...]:
    """Return the bytes that make another head of golden's: offsets in the source image, rising.

    Parameters
    ----------
    head
        Golden's.
    weights
        Shape (rows, dimensions), in real units.
    bias
        Shape (rows,).
    mean
        The mean embedding where it is to serve, shape (dimensions,), if known: what rounding the
        weights adds to logits there on average is taken off the biases.

    Returns
    -------
    tuple
        For `Patch.changes`; empty for golden's own head. What is equal is left out.

    Raises
    ------
    ValueError
        When a shape or a number is wrong, a bias is given to a layer that has none, or the weights
        are so large that kernels refuse their scale: the output's range is too small for them by
        far.

    Notes
    -----
    A float64 copy of the weights or two while it runs.
    """
    weights, bias = _checked(head, weights, bias)
    rows = np.asarray(head.stored_weights.scales)
    parts: list[tuple[int | None, npt.NDArray[Any]]] = []
    written = head.weights
    scales = rows
    if not np.array_equal(weights, head.weights):
        if head.dtype == "float32":
            values = weights.astype("<f4")
            written = values.astype(np.float64)
        else:
            values, zero, scales = _quantised(head, weights, bias)
            written = (values.astype(np.float64) - zero) * scales.astype(np.float64)[:, None]
            at = head.stored_weights
            parts.append((at.scales_offset, scales[: rows.size].astype("<f4")))
            if at.dtype == "uint8":
                parts.append((at.zero_points_offset, np.array([zero], "<i8")))
        parts.append((head.stored_weights.offset, values))
    if mean is not None and head.stored_bias is not None:
        bias = bias + (weights - written) @ np.asarray(mean, np.float64)
    parts += _bias_parts(head, bias, scales)
    changes = ((at, part.tobytes()) for at, part in parts if at is not None)
    return tuple(sorted(changes))


def _bias_parts(
    head: Head, bias: Floats, scales: npt.NDArray[np.float32]
) -> list[tuple[int | None, npt.NDArray[Any]]]:
    at = head.stored_bias
    is_same = np.array_equal(bias, head.bias) and scales is head.stored_weights.scales
    if at is None or is_same:
        return []
    if at.dtype == "float32":
        return [(at.offset, bias.astype("<f4"))]
    steps = np.float32(head.input_scale) * scales
    levels = np.rint(bias / (head.input_scale * scales.astype(np.float64)))
    if not (np.abs(levels) <= _MOST_BIAS[at.dtype]).all():
        raise ValueError(
            f"bias: expected at most {_MOST_BIAS[at.dtype]:g} steps of the weights' scale, "
            f"got {np.abs(levels).max():g}"
        )
    values = levels.astype(np.dtype(at.dtype).newbyteorder("<"))
    return [(at.offset, values), (at.scales_offset, steps[: at.scales.size].astype("<f4"))]


def _quantised(
    head: Head, weights: Floats, bias: Floats
) -> tuple[npt.NDArray[Any], int, npt.NDArray[np.float32]]:
    """Return levels, their zero point, and a scale a row."""
    at = head.stored_weights
    levels = _LEVELS[at.dtype]
    low, high = np.minimum(weights.min(axis=1), 0.0), np.maximum(weights.max(axis=1), 0.0)
    spans = high - low if at.dtype == "uint8" else np.maximum(high, -low)
    is_hybrid = head.activations == "float32"
    # Of a hybrid FULLY_CONNECTED the older runtime reads the first of several scales.
    is_one = at.scales.size == 1 or (is_hybrid and head.operator == "FULLY_CONNECTED")
    if is_one:
        spans = np.full_like(spans, high.max() - low.min() if at.dtype == "uint8" else spans.max())
    least = np.full(len(weights), float(at.scales.min()) * 2.0**-20)
    if not is_hybrid:
        least[:] = _RESCALE[0] * head.output_scale / head.input_scale
        if head.stored_bias is not None:
            room = head.input_scale * _MOST_BIAS[head.stored_bias.dtype]
            least = np.maximum(least, np.abs(bias) / room)
            least = np.full_like(least, least.max()) if is_one else least
    wanted = np.maximum(spans / levels, least)
    if not is_hybrid:
        steps = float(wanted.max() * head.input_scale / head.output_scale)
        if not steps < _RESCALE[1]:
            raise ValueError(
                f"weights: expected a step of less than {_RESCALE[1]:g} steps of the output, "
                f"got {steps:g}"
            )
    scales = wanted.astype(np.float32)
    if is_hybrid and not is_one and (scales == scales[0]).all():
        # Several equal scales of a hybrid CONV_2D are 0 to the older runtime.
        scales[-1] = np.nextafter(scales[-1], np.float32(np.inf))
    exact = scales.astype(np.float64)
    ratios = np.rint(weights / exact[:, None])
    if at.dtype == "int8":
        return np.clip(ratios, -127, 127).astype(np.int8), 0, scales
    zero = int(np.clip(np.rint(1.0 - low.min() / exact[0]), 1, 255))
    return np.clip(ratios + zero, 1, 255).astype(np.uint8), zero, scales


def _checked(head: Head, weights: Any, bias: Any) -> tuple[Floats, Floats]:
    weights, bias = np.asarray(weights, np.float64), np.asarray(bias, np.float64)
    for name, values, like in (("weights", weights, head.weights), ("bias", bias, head.bias)):
        if values.shape != like.shape:
            raise ValueError(f"{name}: expected shape {like.shape}, got {values.shape}")
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            raise ValueError(f"{name}: expected finite numbers of 32 bits, got others")
    if head.stored_bias is None and bias.any():
        raise ValueError("bias: expected zeros, since the layer has none, got others")
    return weights, bias


def into_range(
    head: Head, weights: npt.NDArray[Any], bias: npt.NDArray[Any], embeddings: npt.NDArray[Any]
) -> Floats:
    """Return biases that keep the greatest logits of these embeddings within the output's range.

    One number is taken off all of them, which changes no softmax; a single row, and a regressor's
    layer, stay as they are. Embeddings: shape (n, dimensions), in real units.
    """
    weights, bias = _checked(head, weights, bias)
    is_free = len(weights) > 1 and not head.is_regression
    if not is_free or not len(embeddings) or head.stored_bias is None:
        return bias
    over = float(head.logits(embeddings, weights, bias).max()) - head.range[1]
    # A little more, since sums are rounded: what was taken off has to show.
    return bias - over - _ROUNDING * head.range[1] if over > 0.0 else bias


def with_room(head: Head, values: npt.NDArray[Any]) -> tuple[Head, tuple[tuple[int, bytes], ...]]:
    """Return a regressor's layer whose output can hold these numbers, and the bytes that make it.

    Parameters
    ----------
    head
        Golden's.
    values
        What is to be answered, in real units.

    Returns
    -------
    Head, tuple
        The head that was given, and no bytes, where there is room, or none can be made.
    """
    at = head.output_scale_offset
    low, high = head.range
    if at is None or not values.size:
        return head, ()
    limits = np.iinfo(head.activations)
    up, down = limits.max - head.output_zero_point, limits.min - head.output_zero_point
    needed = max(float(values.max()) / up if up else 0.0, float(values.min()) / down if down else 0)
    if (low <= values.min() and values.max() <= high) or not np.isfinite(needed):
        return head, ()
    scale = np.float32(needed * (1.0 + 1e-6))
    return replace(head, output_scale=float(scale)), ((at, scale.astype("<f4").tobytes()),)


def distance(
    head: Head,
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any],
    mean: Any = None,
    spread: Any = None,
) -> float:
    """Return how far a head is from golden's: 0 for golden's own, 1 for as far as zero is.

    Parameters
    ----------
    head, weights, bias
        As for `head_changes`.
    mean, spread
        Of the embedding by dimension, in calibration, if known. Then the distance is the root mean
        square by which logits differ there, over that by which golden's logits vary; without, that
        of the weights.

    Notes
    -----
    What all rows have in common is left out, save for a regressor's: it changes no softmax.
    """
    weights, bias = _checked(head, weights, bias)
    centre = 0.0 if mean is None else np.asarray(mean, np.float64)
    scale = 1.0 if spread is None else np.asarray(spread, np.float64)

    def size(rows: Floats, offsets: Floats) -> float:
        if len(rows) > 1 and not head.is_regression:
            rows, offsets = rows - rows.mean(axis=0), offsets - offsets.mean()
        return float(np.square(rows * scale).sum() + np.square(offsets).sum())

    moved = weights - head.weights
    change = size(moved, bias - head.bias + moved @ np.broadcast_to(centre, moved.shape[1]))
    whole = size(head.weights, np.zeros_like(bias))
    if change == 0.0:
        return 0.0
    return float(np.sqrt(change / whole)) if whole > 0.0 else np.inf


def capped(
    head: Head,
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any],
    most: float,
    mean: Any = None,
    spread: Any = None,
) -> tuple[Floats, Floats]:
    """Return a head no farther than `most` from golden's, on the way to the one given."""
    if not most >= 0.0:
        raise ValueError(f"most: expected a distance, at least 0, got {most}")
    weights, bias = _checked(head, weights, bias)
    far = distance(head, weights, bias, mean, spread)
    if far <= most:
        return weights, bias
    share = most / far if np.isfinite(far) else 0.0
    return (
        head.weights + share * (weights - head.weights),
        head.bias + share * (bias - head.bias),
    )
