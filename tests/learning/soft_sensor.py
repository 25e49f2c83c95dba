"""A regressor that reads a quantity off many sensors, and what these say once some have aged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tests.made_models import dense_regressor

from selfheal_edge.tflite.file.model_file import ModelFile

Array = npt.NDArray[Any]
SENSORS = 12


class SoftSensor(NamedTuple):
    """A model file, and samples: real inputs (n, sensors), and targets (n, numbers)."""

    model: bytes
    x: Array
    y: Array
    step: float
    """Of an int8 input; 0 of a float one."""

    def raw(self, real: Array) -> Array:
        """Return inputs as the model takes them."""
        if not self.step:
            return np.asarray(real, np.float32)
        return np.asarray(np.clip(np.rint(real / self.step), -128, 127), np.int8)


def aged(real: Array) -> Array:
    """Return what the sensors say after a third of them have lost gain and moved."""
    changed = real.copy()
    changed[:, ::3] = 0.5 * changed[:, ::3] + 0.6
    return np.asarray(changed)


def soft_sensor(dtype: str = "int8", *, ends_real: bool = False, outputs: int = 1) -> SoftSensor:
    """Return random features of sensors with a last layer that was fitted to a quantity."""
    rng = np.random.default_rng(3)

    def drawn(count: int) -> tuple[Array, Array]:
        inner = rng.normal(size=(count, 3))
        mixing = np.random.default_rng(1).normal(size=(3, SENSORS))
        seen = inner @ mixing / 1.7 + 0.1 * rng.normal(size=(count, SENSORS))
        wanted = [inner[:, 0] + 0.5 * inner[:, 1] ** 2, inner[:, 2] - inner[:, 0]]
        return np.clip(seen, -4.0, 4.0), np.column_stack(wanted[:outputs])

    x, y = drawn(600)
    first = np.random.default_rng(2).normal(size=(SENSORS, 40)) / np.sqrt(SENSORS)
    offset = np.random.default_rng(4).normal(0, 0.5, 40)
    inside = np.column_stack([np.maximum(x @ first + offset, 0.0), np.ones(len(x))])
    fitted = np.linalg.solve(inside.T @ inside + 0.1 * np.eye(41), inside.T @ y)
    layers = [(first, offset), (fitted[:-1], fitted[-1])]
    model = dense_regressor(layers, x, dtype, ends_real=ends_real)
    x, y = drawn(1500)
    step = 0.0
    if dtype == "int8":
        step = float(ModelFile.from_bytes(model, source="made").inputs[0].scales[0])
    return SoftSensor(model, x, y, step)
