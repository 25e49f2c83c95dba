"""Labelled data of three kinds, each with an int8 model: images, spectrograms, sensor vectors.

The digits and their model lie in the package, keyword spotting in the shared folder; for the gas
sensors a small dense network is trained and quantised here, in some seconds, the same for the same
version of scikit-learn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import harness
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["DOMAINS", "DataSet"]

_GAS: Final = harness.SHARED / "data" / "gas_sensor_drift_batches_1-3.npz"
_KWS: Final = harness.SHARED / "data" / "speech_commands_mfcc_int8.npz"
_KWS_MODEL: Final = harness.SHARED / "models" / "kws_dscnn_int8.tflite"
_HIDDEN: Final = (64, 32)
_SPREADS: Final = 4.0
"""Standard deviations that an int8 feature of the gas sensors reaches."""


@dataclass(frozen=True)
class DataSet:
    """A model, what it is calibrated with, and samples that neither of both has seen."""

    name: str
    model: bytes
    calibration: Array
    calibration_labels: npt.NDArray[np.int64]
    heldout: Array
    heldout_labels: npt.NDArray[np.int64]
    scale: float
    """Of the input: real = scale * (raw - zero_point)."""
    zero_point: int


def _digits() -> DataSet:
    data = load_digits()
    return DataSet(
        "digits", digits_model_path().read_bytes(),
        data.calibration_inputs, data.calibration_labels.astype(np.int64),
        data.heldout_inputs, data.heldout_labels.astype(np.int64), 1 / 255, -128,
    )  # fmt: skip


def _kws(share: float = 0.6) -> DataSet:
    data = np.load(_KWS)
    order = np.random.default_rng(12).permutation(len(data["x"]))
    first = round(share * len(order))
    x, y = data["x"][order], data["y"][order].astype(np.int64)
    return DataSet(
        "kws", _KWS_MODEL.read_bytes(), x[:first], y[:first], x[first:], y[first:], 0.5847, 83
    )


def _gas() -> DataSet:
    data = np.load(_GAS)
    within = data["batch"] <= 2  # the third was taken months later: drift
    x, y = data["x"][within].astype(np.float64), data["y"][within].astype(np.int64)
    order = np.random.default_rng(7).permutation(len(x))
    train, calibration, heldout = np.split(order, [len(x) * 2 // 5, len(x) * 4 // 5])
    centre, spread = x[train].mean(0), x[train].std(0)
    scale = _SPREADS / 127
    levels = np.clip(np.rint((x - centre) / spread / scale), -128, 127).astype(np.int8)
    model = _trained(levels[train], y[train], scale)
    return DataSet(
        "gas", model, levels[calibration], y[calibration], levels[heldout], y[heldout], scale, 0
    )


def _trained(x: Array, y: npt.NDArray[np.int64], scale: float) -> bytes:
    """Return an int8 network of dense layers, trained on quantised features."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 — not needed elsewhere

    real = scale * x.astype(np.float64)
    net = MLPClassifier(_HIDDEN, alpha=1e-2, max_iter=200, random_state=3).fit(real, y)
    builder, activations = _builder(), [real]
    graph = builder.graph()
    source = graph.tensor([1, x.shape[1]], "int8", **_levels(scale, 0))
    graph.tree["inputs"] = [source]
    for weights, bias in zip(net.coefs_, net.intercepts_, strict=True):
        is_last = len(activations) == len(net.coefs_)
        sums = activations[-1] @ weights + bias
        activations.append(sums if is_last else np.maximum(sums, 0.0))
        low, high = float(activations[-1].min()), float(activations[-1].max())
        step = (high - low) / 255
        w_scale = float(np.abs(weights).max()) / 127
        kernel = np.clip(np.rint(weights.T / w_scale), -127, 127).astype(np.int8)
        offset = np.rint(bias / (scale * w_scale)).astype(np.int32)
        count = len(bias)
        operands = [
            source,
            graph.tensor(list(kernel.shape), "int8", kernel.tobytes(), **_levels(w_scale, 0)),
            graph.tensor([count], "int32", offset.tobytes(), **_levels(scale * w_scale, 0)),
        ]
        source = graph.tensor([1, count], "int8", **_levels(step, round(-128 - low / step)))
        options = {"fused_activation_function": 0 if is_last else 1}
        graph.operator("FULLY_CONNECTED", operands, [source], ("FullyConnectedOptions", options))
        scale = step
    probabilities = graph.tensor([1, count], "int8", **_levels(1 / 256, -128))
    graph.operator("SOFTMAX", [source], [probabilities], ("SoftmaxOptions", {"beta": 1.0}))
    graph.tree["outputs"] = [probabilities]
    return bytes(builder.file())


def _levels(scale: float, zero_point: int) -> dict[str, Any]:
    return {"quantization": {"scale": [scale], "zero_point": [zero_point]}}


def _builder() -> Any:
    """Return the tests' writer of models, which lies beside the benchmarks and is not installed."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.tflite.builder import Builder  # noqa: PLC0415

    return Builder()


DOMAINS: Final[dict[str, Callable[[], DataSet]]] = {
    "digits": cache(_digits),
    "kws": cache(_kws),
    "gas": cache(_gas),
}
"""By name."""
