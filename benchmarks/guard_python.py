"""The like of the guard in Python: raw calls, signals in NumPy, river's charts, zlib's CRC.

Measured are the signals that `SelfHealingModel` measures on the same model, but those of the
embedding: the three raw calls do not show it. Every signal has a Page-Hinkley test and an ADWIN,
and before each inference 16 KiB of the file are summed.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from guard_cases import Case, Raw
from selfheal_edge.monitoring.signals import SignalExtractor
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

SLICE: Final = 16 << 10
Signals = list[float]


def _real(raw: Array, spec: TensorSpec) -> Array:
    steps: Array = raw.astype(np.float32) - np.float32(spec.zero_point)
    steps *= np.float32(spec.scale)
    return steps


class NumPySignals:
    """The signals of one inference of a model with one quantised input and output."""

    def __init__(self, source: TensorSpec, sink: TensorSpec, kind: str | None) -> None:
        self._source, self._sink, self._kind = source, sink, kind
        self._limits = np.iinfo(source.dtype)
        self._reconstructs = kind is None and source.shape == sink.shape
        self._previous: Array | None = None
        channels = source.shape[-1]
        self._step = channels if channels < int(np.prod(source.shape)) else 1

    def measure(self, raw_in: Array, raw_out: Array) -> Signals:
        """Return what `SignalExtractor.measure` returns without an embedding."""
        x = _real(raw_in, self._source).reshape(-1)
        previous, self._previous = self._previous, x
        row = [
            float(x.mean()),
            float(x.std()),
            float((raw_in == self._limits.min).mean()),
            float((raw_in == self._limits.max).mean()),
            float("nan") if previous is None else float(np.abs(x - previous).mean()),
            float(np.abs(x[self._step :] - x[: -self._step]).mean()),
        ]
        y = _real(raw_out, self._sink).reshape(-1)
        if self._kind is None:
            if self._reconstructs:
                row.append(float(np.square(y - x).mean()))
            row += [float(y.mean()), float(y.std())]
            return row
        if self._kind == "logits":
            y = np.exp(y - y.max())
            y /= y.sum()
        second, first = np.partition(y, -2)[-2:]
        clipped = np.maximum(y, 0)
        shares = clipped[clipped > 0] / clipped.sum()
        row += [float(first), float(first - second), float(-(shares * np.log(shares)).sum())]
        return row


class _River:
    """One Page-Hinkley test and one ADWIN a signal."""

    def __init__(self, drift: Any, signals: int) -> None:
        self._charts = [(drift.PageHinkley(), drift.ADWIN()) for _ in range(signals)]

    def update(self, row: Signals) -> None:
        for value, (hinkley, adwin) in zip(row, self._charts, strict=True):
            hinkley.update(value)
            adwin.update(value)


def _check(case: Case, source: TensorSpec, sink: TensorSpec, kind: Any) -> None:
    """Hold the signals here against the package's: the like, not something easier."""
    ours = SignalExtractor((source,), (sink,), kind)
    plain = NumPySignals(source, sink, kind)
    raw = Raw(case)
    for x in case.inputs[:16]:
        y = np.asarray(raw.one(x))
        np.testing.assert_allclose(
            plain.measure(x, y), ours.measure([x], [y]).values, rtol=1e-3, atol=1e-4
        )


def like_in_python(case: Case) -> Callable[[Array], object] | str:
    """Return what does the like, or why there is none."""
    try:
        drift = importlib.import_module("river.drift")
    except ImportError as error:
        return f"river: {error}"
    with case.open(case.baseline) as model:
        source, sink = model.inputs[0], model.outputs[0]
    if not all(np.issubdtype(tensor.dtype, np.integer) for tensor in (source, sink)):
        return "it is written for quantised inputs and outputs"
    kind = case.baseline.output_kind
    _check(case, source, sink, kind)
    raw, signals = Raw(case), NumPySignals(source, sink, kind)
    first = case.inputs[0]
    charts = _River(drift, len(signals.measure(first, np.asarray(raw.one(first)))))
    file = memoryview(case.path.read_bytes())
    sums = [zlib.crc32(file[i : i + SLICE]) for i in range(0, len(file), SLICE)]
    place = 0
    has_value = False

    def serve(x: Array) -> object:
        nonlocal place, has_value
        if zlib.crc32(file[place * SLICE : (place + 1) * SLICE]) != sums[place]:
            raise RuntimeError("the file has changed")
        place = (place + 1) % len(sums)
        y = raw.one(x)
        row = signals.measure(x, np.asarray(y))
        if has_value or not any(np.isnan(row)):
            charts.update(row)
        has_value = True
        return y

    return serve
