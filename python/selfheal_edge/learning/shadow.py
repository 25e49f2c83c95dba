"""A float shadow of golden's graph, whose inner layers can be learned, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge import _core
from selfheal_edge.learning.head import Head, why_not_alone
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.records import OperatorInfo, TensorInfo

__all__ = ["MOST_BYTES", "Shadow", "find_shadow"]

Floats = npt.NDArray[np.float32]
Changes = tuple[tuple[int, bytes], ...]

MOST_BYTES: Final = 2 << 20
"""Of a shadow, with what learning takes."""

_CONVOLUTION, _DEPTHWISE, _ADD, _AVERAGE, _MAX = range(5)
_LIMITS: Final = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""Of outputs, by fused activation."""
_OF_RANGE: Final = 32.0
"""Steps of rate 1 that take a bias through the range of its layer's output."""
_FAR: Final = 3e38
_MOST_BIAS: Final = 2**31 - 1


class _NoShadowError(Exception):
    """Why a graph has no shadow."""


class _Size(NamedTuple):
    height: int
    width: int
    channels: int


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """Where gains and biases of a layer stand in the file."""

    channels: int
    at: int
    """Of its gains among the parameters."""
    size: int
    """Of its weights among the parameters; 0: they are not learned."""
    input_scale: float
    weights: TensorInfo
    bias: TensorInfo | None
    is_deep: bool
    """Whether channels come last among its weights."""
    has_gains: bool
    """Whether a gain can be written: scales that are a channel's own, or floats."""
    why_not: str
    """Why nothing of it is learned; empty: it may be."""


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """A classifier in floats, up to its logits: forward, backward, and back into the file."""

    graph: _core.FloatGraph
    scale: float
    zero_point: int
    is_float: bool
    start: Floats
    """Golden's parameters, shape (parameters,)."""
    rates: Floats
    """How far each may go in one step of rate 1: of gains 1, of biases the range of the layer's
    output, of weights their root mean square; 0 of what cannot be written."""
    layers: tuple[_Written, ...]
    """Those with weights; the last one is the head."""
    products: int
    """Of an output's place and a weight, of one sample forward."""
    model: ModelFile

    def real(self, raw: npt.NDArray[Any]) -> Floats:
        """Return raw inputs as the graph takes them, shape (n, numbers)."""
        flat = raw.reshape(len(raw), -1).astype(np.float32)
        if not self.is_float:
            flat = (flat - np.float32(self.zero_point)) * np.float32(self.scale)
        return np.ascontiguousarray(flat)

    def with_head(self, parameters: Floats, weights: Any, bias: Any) -> Floats:
        """Return parameters with another last layer: shapes (classes, dimensions), (classes,)."""
        found, head = np.array(parameters, np.float32), self.layers[-1]
        c = head.channels
        found[head.at : head.at + c] = 1.0
        found[head.at + c : head.at + 2 * c] = bias
        found[head.at + 2 * c :] = np.asarray(weights, np.float32).reshape(-1)
        return found

    def head_of(
        self, parameters: Floats
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return weights and biases of the last layer."""
        head = self.layers[-1]
        c = head.channels
        rows = parameters[head.at + 2 * c :].reshape(c, -1).astype(np.float64)
        return rows, parameters[head.at + c : head.at + 2 * c].astype(np.float64)

    def inner_changes(self, parameters: Floats) -> Changes:
        """Return the bytes that make inner layers of golden's: offsets in the file, rising.

        Gains go into the scales of a channel's weights, which stay as they are; where weights were
        learned they get fresh scales.

        Raises
        ------
        ValueError
            Where a bias does not fit its type.
        """
        changes: list[tuple[int, bytes]] = []
        for layer in self.layers[:-1]:
            c = layer.channels
            stop = layer.at + 2 * c + layer.size
            mine, golden = parameters[layer.at : stop], self.start[layer.at : stop]
            if not layer.why_not and not np.array_equal(mine, golden):
                changes += _changes_of(layer, self.model, mine)
        return tuple(sorted(changes))


def _changes_of(layer: _Written, model: ModelFile, mine: Floats) -> list[tuple[int, bytes]]:
    c, info = layer.channels, layer.weights
    gains, biases = mine[:c].astype(np.float64), mine[c : 2 * c].astype(np.float64)
    found: list[tuple[int | None, npt.NDArray[Any]]] = []
    if info.dtype == "float32":
        real = mine[2 * c :] if layer.size else model.constant(info).reshape(-1)
        rows = real.reshape(-1, c) * gains
        if not layer.is_deep:
            rows = real.reshape(c, -1) * gains[:, None]
        found.append((info.offset, rows.astype("<f4")))
        if layer.bias is not None:
            found.append((layer.bias.offset, biases.astype("<f4")))
        return [(at, part.tobytes()) for at, part in found if at is not None]
    scales = info.scales.astype(np.float64)
    if layer.size:
        weights = mine[2 * c :].astype(np.float64)
        rows = (weights.reshape(-1, c).T if layer.is_deep else weights.reshape(c, -1)) * gains[
            :, None
        ]
        scales = np.maximum(np.abs(rows).max(axis=1) / 127.0, scales * 2.0**-10)
        levels = np.clip(np.rint(rows / scales[:, None]), -127, 127).astype(np.int8)
        found.append((info.offset, levels.T if layer.is_deep else levels))
    else:
        scales = scales * gains if layer.has_gains else scales
    written = scales.astype(np.float32)
    if not np.array_equal(written, info.scales):
        found.append((info.scales_offset, written.astype("<f4")))
    if layer.bias is not None:
        steps = layer.input_scale * written.astype(np.float64)
        levels32 = np.rint(biases / steps)
        if not (np.abs(levels32) <= _MOST_BIAS).all():
            raise ValueError(f"bias: expected 32 bits, got {np.abs(levels32).max():g} steps")
        found.append((layer.bias.offset, levels32.astype("<i4")))
        if layer.bias.scales.size:
            new = np.broadcast_to(steps, layer.bias.scales.shape).astype("<f4")
            found.append((layer.bias.scales_offset, new))
    return [(at, np.ascontiguousarray(part).tobytes()) for at, part in found if at is not None]


def find_shadow(
    model: ModelFile, head: Head, *, weights: bool = False, max_bytes: int = MOST_BYTES
) -> Shadow | str:
    """Build the float shadow of a file's first subgraph, or say why there is none.

    Parameters
    ----------
    model
        The file whose bytes are the source image: ``session.copy.model``.
    head
        Its last layer (`learning.head.find_head`).
    weights
        Whether inner layers' weights are learned as well as their gains and biases.
    max_bytes
        What the graph may take.

    Returns
    -------
    Shadow or str
        The reason names the operator that is left alone: one without a gradient here, a dilated
        convolution, several inputs, more bytes than allowed.
    """
    try:
        return _Builder(model, head, weights, max_bytes).build()
    except _NoShadowError as reason:
        return str(reason)
    except ValueError as error:
        return f"the graph has no float shadow: {error}"


class _Builder:
    def __init__(self, model: ModelFile, head: Head, learns: bool, max_bytes: int) -> None:
        found = model.head
        graph = model.subgraphs[0]
        if found is None or len(graph.inputs) != 1 or len(head.weights) < 2:
            raise _NoShadowError("there is no softmax layer behind one input")
        self.model, self.head, self.learns, self.max_bytes = model, head, learns, max_bytes
        self.last = found.operator
        self.tensors = graph.tensors
        self.values = {graph.inputs[0]: 0}
        self.sizes = {graph.inputs[0]: _size(graph.tensors[graph.inputs[0]])}
        self.pads: dict[int, tuple[int, int, int]] = {}
        self.rows: list[list[int]] = []
        self.limits: list[tuple[float, float]] = []
        self.weights: list[Floats] = []
        self.biases: list[Floats] = []
        self.layers: list[_Written] = []
        self.rates: list[Floats] = []
        self.at = self.products = 0

    def build(self) -> Shadow:
        graph = self.model.subgraphs[0]
        for index, operator in enumerate(graph.operators[: self.last + 1]):
            self._take(operator, is_last=index == self.last)
        made = _core.FloatGraph(
            np.array(self.rows, np.uint32),
            np.array(self.limits, np.float32),
            np.concatenate(self.weights),
            np.concatenate(self.biases),
            max_bytes=self.max_bytes,
        )
        rates = np.concatenate(self.rates)
        made.set_rates(rates)
        source = self.tensors[graph.inputs[0]]
        is_float = source.dtype == "float32"
        return Shadow(
            made,
            1.0 if is_float else float(source.scales[0]),
            0 if is_float else int(source.zero_points[0]),
            is_float,
            made.parameters,
            rates,
            tuple(self.layers),
            self.products,
            self.model,
        )

    def _take(self, operator: OperatorInfo, *, is_last: bool) -> None:
        name, options = operator.name, operator.options
        out = operator.outputs[0]
        source = operator.inputs[0]
        if source not in self.values:
            raise _NoShadowError(f"{name} reads what is not computed from the input: left alone")
        if name in ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE"):
            self._same(source, out)
            return
        if name == "PAD":
            self._pad(operator)
            return
        if source in self.pads and name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            raise _NoShadowError(f"PAD before {name}: left alone")
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            self._weighted(operator, is_last=is_last)
        elif name == "ADD":
            self._add(operator)
        elif name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            kernel = options.get("filter_height", 1), options.get("filter_width", 1)
            self._layer(operator, _AVERAGE if name[0] == "A" else _MAX, source, kernel)
        elif name == "MEAN":
            size, axes = self.sizes[source], self.model.constant(self.tensors[operator.inputs[1]])
            if sorted(int(a) % 4 for a in np.ravel(axes)) != [1, 2]:
                raise _NoShadowError("MEAN over other axes than height and width: left alone")
            self.sizes[out] = _Size(1, 1, size.channels)
            self._layer(operator, _AVERAGE, source, (size.height, size.width), is_valid=True)
        else:
            raise _NoShadowError(f"{name} has no gradient here: left alone")

    def _same(self, source: int, out: int) -> None:
        self.values[out] = self.values[source]
        self.sizes[out] = _size(self.tensors[out])
        if source in self.pads:
            raise _NoShadowError("PAD before RESHAPE: left alone")

    def _pad(self, operator: OperatorInfo) -> None:
        source, out = operator.inputs[0], operator.outputs[0]
        pads = self.model.constant(self.tensors[operator.inputs[1]]).reshape(-1, 2)
        if len(pads) != 4 or pads[0].any() or pads[3].any() or len(operator.inputs) > 2:
            raise _NoShadowError("PAD of other axes than height and width: left alone")
        self.values[out], self.sizes[out] = self.values[source], self.sizes[source]
        self.pads[out] = source, int(pads[1, 0]), int(pads[2, 0])

    def _add(self, operator: OperatorInfo) -> None:
        one, other = operator.inputs[:2]
        if other not in self.values or self.tensors[one].shape != self.tensors[other].shape:
            raise _NoShadowError("ADD of other than two computed values of one shape: left alone")
        self._layer(operator, _ADD, one, (1, 1), other=self.values[other])

    def _layer(
        self,
        operator: OperatorInfo,
        kind: int,
        source: int,
        kernel: tuple[int, int],
        *,
        other: int = 0,
        learns: bool = False,
        is_valid: bool = False,
        is_dense: bool = False,
        is_last: bool = False,
    ) -> None:
        options, out = operator.options, operator.outputs[0]
        if max(options.get(f"dilation_{side}_factor", 1) for side in "hw") > 1:
            raise _NoShadowError(f"{operator.name} with dilation: left alone")
        size = self.sizes[source]
        to = self.sizes.get(out, _size(self.tensors[out]))
        if is_dense:
            size = _Size(1, 1, size.height * size.width * size.channels)
            to = _Size(1, 1, to.height * to.width * to.channels)
        stride = (1, 1) if kind == _ADD or is_valid or is_dense else (
            options.get("stride_h", 1), options.get("stride_w", 1)
        )  # fmt: skip
        pad = (0, 0)
        if source in self.pads:
            pad = self.pads[source][1:]
        elif options.get("padding", 1) == 0 and not (kind == _ADD or is_valid or is_dense):
            pad = (
                _before(size.height, to.height, stride[0], kernel[0]),
                _before(size.width, to.width, stride[1], kernel[1]),
            )
        self.rows.append(
            [kind, int(learns), self.values[source], other, *size, *to, *kernel, *stride, *pad]
        )
        self.limits.append((-_FAR, _FAR) if is_last else self._range(operator))
        self.values[out], self.sizes[out] = len(self.rows), to

    def _range(self, operator: OperatorInfo) -> tuple[float, float]:
        fused = operator.options.get("fused_activation_function", 0)
        if fused not in _LIMITS:
            raise _NoShadowError(f"{operator.name} with another activation: left alone")
        least, most = _LIMITS[fused]
        tensor = self.tensors[operator.outputs[0]]
        if tensor.dtype != "float32":
            if tensor.dtype not in ("int8", "uint8") or tensor.scales.size != 1:
                raise _NoShadowError(f"{operator.name} gives {tensor.dtype}: left alone")
            info, scale = np.iinfo(tensor.dtype), float(tensor.scales[0])
            zero = int(tensor.zero_points[0])
            least, most = (
                max(least, scale * (info.min - zero)),
                min(most, scale * (info.max - zero)),
            )
        return max(least, -_FAR), min(most, _FAR)

    def _weighted(self, operator: OperatorInfo, *, is_last: bool) -> None:
        source, at = operator.inputs[0], operator.inputs[1]
        info = self.tensors[at]
        bias = None
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = self.tensors[operator.inputs[2]]
        given = self.tensors[source]
        if not info.is_constant or (bias is not None and not bias.is_constant):
            raise _NoShadowError(f"{operator.name} with computed weights: left alone")
        if info.dtype != "float32" and given.dtype == "float32":
            raise _NoShadowError(f"{operator.name} of floats with {info.dtype} weights: left alone")
        if operator.options.get("weights_format", 0):
            raise _NoShadowError(f"{operator.name} with shuffled weights: left alone")
        is_deep = operator.name == "DEPTHWISE_CONV_2D"
        is_dense = operator.name == "FULLY_CONNECTED"
        kernel = (1, 1) if is_dense else (info.shape[1], info.shape[2])
        if is_deep and self.sizes[source].channels == 1 < info.shape[-1]:
            raise _NoShadowError("DEPTHWISE_CONV_2D of one channel into several: left alone")
        if is_deep and info.shape[-1] != self.sizes[source].channels:
            raise _NoShadowError("DEPTHWISE_CONV_2D with a multiplier: left alone")
        channels = info.shape[-1] if is_deep else info.shape[0]
        rows = _real(self.model, info)
        step = 1.0 if info.dtype == "float32" else float(given.scales[0])
        b = np.zeros(channels, np.float32)
        if bias is not None:
            b = self.model.constant(bias).reshape(-1).astype(np.float64)
            if info.dtype != "float32":
                b = b * step * info.scales.astype(np.float64)
            b = b.astype(np.float32)
        reasons = [why_not_alone(self.model, part) for part in (info, bias) if part is not None]
        why_not = "" if is_last else next(filter(None, reasons), "")
        if bias is not None and bias.dtype not in ("int32", "float32"):
            why_not = why_not or f"{operator.name} with biases of {bias.dtype}"
        has_gains = info.dtype == "float32" or (
            info.dtype == "int8" and info.scales.size == channels > 1
        )
        learns = is_last or (self.learns and has_gains and not why_not)
        self._layer(
            operator,
            _DEPTHWISE if is_deep else _CONVOLUTION,
            source,
            kernel,
            learns=learns,
            is_dense=is_dense,
            is_last=is_last,
        )
        self.products += self.rows[-1][7] * self.rows[-1][8] * rows.size
        low, high = self.limits[-1]
        wide = float(np.abs(b).max(initial=0.0)) if high - low > 1e6 else (high - low) / _OF_RANGE
        gains = np.full(channels, float(has_gains and not why_not and not is_last))
        shifts = np.full(channels, wide if not why_not and bias is not None else 0.0)
        parts = [gains, shifts]
        if learns:
            parts.append(np.full(rows.size, float(np.sqrt(np.mean(np.square(rows))))))
        self.rates.append(np.concatenate(parts).astype(np.float32))
        size = rows.size if learns else 0
        self.layers.append(
            _Written(channels, self.at, size, step, info, bias, is_deep, has_gains, why_not)
        )
        self.at += 2 * channels + size
        self.weights.append(np.ascontiguousarray(rows, np.float32).reshape(-1))
        self.biases.append(b)


def _size(tensor: TensorInfo) -> _Size:
    shape: Sequence[int] = tensor.shape
    if len(shape) == 4:
        return _Size(shape[1], shape[2], shape[3])
    return _Size(1, 1, tensor.size)


def _before(size: int, out: int, stride: int, kernel: int) -> int:
    """Return how many zeros are put before an axis, where padding keeps its size."""
    return max((out - 1) * stride + kernel - size, 0) // 2


def _real(model: ModelFile, info: TensorInfo) -> npt.NDArray[np.float64]:
    values = model.constant(info).astype(np.float64)
    if info.dtype == "float32":
        return values
    shape = [1] * values.ndim
    shape[info.quantized_dimension if info.scales.size > 1 else 0] = -1
    zero = int(info.zero_points[0]) if info.zero_points.size else 0
    return np.asarray((values - zero) * info.scales.astype(np.float64).reshape(shape))
