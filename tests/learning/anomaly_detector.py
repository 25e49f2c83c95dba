"""Autoencoders of machines: what is normal, what is not, and both in another condition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tests.made_models import dense_regressor

from selfheal_edge.tflite.file.model_file import ModelFile

Array = npt.NDArray[Any]
SENSORS = 16
MELS = 128
FRAMES = 5


class AnomalyDetector(NamedTuple):
    """A model file with an int8 input, and real inputs, shape (n, elements)."""

    model: bytes
    normal: Array
    abnormal: Array
    moved: Callable[[Array], Array]
    """Returns what the sensors say in another condition."""
    step: float
    zero: int

    def raw(self, real: Array) -> Array:
        """Return inputs as the model takes them."""
        levels = np.rint(real / self.step) + self.zero
        return np.asarray(np.clip(levels, -128, 127), np.int8)

    def real(self, raw: Array) -> Array:
        """Return what raw inputs stand for."""
        return np.asarray(self.step * (raw.astype(np.float64) - self.zero))


def _detector(
    model: bytes, normal: Array, abnormal: Array, moved: Callable[[Array], Array]
) -> AnomalyDetector:
    first = ModelFile.from_bytes(model, source="made").inputs[0]
    step, zero = float(first.scales[0]), int(first.zero_points[0])
    return AnomalyDetector(model, normal, abnormal, moved, step, zero)


def _aged(real: Array) -> Array:
    """Return what sensors say once gains and levels of half of them have changed."""
    changed = real.copy()
    changed[:, ::2] = 0.6 * changed[:, ::2] + 0.8
    return np.asarray(changed)


def sensors() -> AnomalyDetector:
    """Return random features with a last layer that was fitted to rebuild what is normal."""
    rng = np.random.default_rng(11)
    mixing = np.random.default_rng(12).normal(size=(3, SENSORS)) / 1.7

    def drawn(count: int) -> Array:
        seen = rng.normal(size=(count, 3)) @ mixing + 0.1 * rng.normal(size=(count, SENSORS))
        return np.asarray(np.clip(seen, -4.0, 4.0))

    x = drawn(800)
    first = np.random.default_rng(13).normal(size=(SENSORS, 32)) / np.sqrt(SENSORS)
    offset = np.random.default_rng(14).normal(0, 0.5, 32)
    # A bottleneck: three directions are kept of what the features say.
    inside = np.column_stack([np.maximum(x @ first + offset, 0.0), np.ones(len(x))])
    fitted = np.linalg.solve(inside.T @ inside + 30.0 * np.eye(33), inside.T @ x)
    model = dense_regressor([(first, offset), (fitted[:-1], fitted[-1])], x)
    normal = drawn(1500)
    abnormal = drawn(600)
    # A part that rattles: sensors say what the others do not bear out.
    abnormal += rng.normal(0.0, 0.8, abnormal.shape) * (rng.random(abnormal.shape) < 0.4)
    return _detector(model, normal, np.clip(abnormal, -4.0, 4.0), _aged)


def _covered(real: Array) -> Array:
    """Return what a covered microphone hears: the higher, the fainter, by 20 dB at most."""
    fainter = 20.0 * np.maximum(0.0, np.arange(MELS) - MELS / 2) / (MELS / 2)
    return np.asarray(real - np.tile(fainter, FRAMES))


def toy_car(shared: Path) -> AnomalyDetector:
    """Return MLPerf Tiny's anomaly detector, and windows of a machine that runs as it should.

    In the others three tones whistle, 12 to 20 dB above what is there.
    """
    model = (shared / "models" / "ad_autoencoder_int8.tflite").read_bytes()
    clip = np.fromfile(shared / "data" / "ad_normal_clip_float32_200x128.bin", np.float32)
    frames = clip.reshape(-1, MELS).astype(np.float64)
    count = len(frames) - FRAMES + 1
    windows = np.stack([frames[n : n + FRAMES] for n in range(count)])
    rng = np.random.default_rng(0)
    windows = windows[rng.permutation(count)]
    whistling = windows.copy()
    for window in whistling:
        window[:, rng.integers(20, 110, 3)] += rng.uniform(12.0, 20.0, 3)
    normal, abnormal = windows.reshape(count, -1), whistling.reshape(count, -1)
    return _detector(model, normal, abnormal, _covered)
