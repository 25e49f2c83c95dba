"""What calibration learned for the questions that a diagnosis asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import Floats, Layout
from selfheal_edge.log import logger

__all__ = ["MOST_CELLS", "Profile", "channel_numbers"]

MOST_CELLS: Final = 1 << 14
"""Elements of an input of which each has a reference of its own; of larger ones none has."""

_LAYOUT: Final = "layout"
_BOUNDS: Final = "bounds"


def channel_numbers(layout: Layout, x: Floats) -> Floats:
    """Return mean, spread and roughness of each channel of inputs, shape (n, channels, 1 or 3).

    A channel of one element has a mean alone.
    """
    by = layout.by_channel(x)
    mean = by.mean(axis=1)
    if by.shape[1] == 1:
        return np.asarray(mean[:, :, None], np.float32)
    numbers = [mean, by.std(axis=1), layout.roughness(x)]
    return np.asarray(np.stack(numbers, axis=2), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Normal operation, as far as causes are told apart by it. Made by calibration; immutable."""

    layout: Layout
    quantization: npt.NDArray[np.float64]
    """Shape (2,): scale and zero point of the input; 1 and 0 for real numbers."""
    inputs: npt.NDArray[Any]
    """Some calibration inputs, raw, shape (n, *shape of one): they are carried into the condition
    of a suspicious window, to see what that does to answers by itself."""
    kept: Floats
    """Shape (n, 2): their margins, and these times the share of neighbours with another label."""
    range: Floats
    """Shape (2,): the least and the greatest value of an element."""
    moments: Floats
    """Shape (channels, 3): mean and spread over all elements, mean roughness."""
    class_numbers: Floats
    """Shape (classes or 1, channels, 1 or 3): `channel_numbers`, by predicted class."""
    class_counts: npt.NDArray[np.int64]
    """Calibration inputs of each class, or of all, as for `class_numbers`."""
    quartiles: Floats
    """Shape (3, channels): quartiles of all values."""
    number_sd: Floats
    """Shape (channels, 1 or 3): their spread within a class."""
    mean_sd: Floats
    """Shape (channels,): spread of the channels' means from input to input."""
    priors: Floats
    """Shape (classes,): shares of predicted classes."""
    stickiness: float
    """Correlation of the label with the one before."""
    centroids: Floats
    """Shape (classes, width): of embeddings, by predicted class; empty without any."""
    embedding_sd: Floats
    """Shape (width,)."""
    neighbours: Floats
    """Shape (n, width): embeddings of calibration inputs."""
    neighbour_labels: npt.NDArray[np.int64]
    """Shape (n,): what the model named them."""
    margin: Floats
    """Shape (2,): mean and spread of the margin."""
    extremes: Floats
    """Shape (2,): median shares of elements at an input's own least and greatest value."""
    limits: Floats
    """Shape (2, channels): the least and the greatest value of each channel."""
    at_limits: Floats
    """Shape (2, elements): how often each element is there, channels innermost; empty for inputs
    of more than 16384 elements."""
    cell_mean: Floats
    """Shape (elements,): of each element; empty for inputs of more than 16384."""
    cell_sd: Floats
    """Likewise."""
    class_scores: Floats
    """Shape (classes or 1, signals, 2): mean and spread of normal scores, by predicted class."""
    nearest: float
    """Distance of an input to its nearest of 64 others, in one of a hundred, per element and sd."""
    error_rate: float = 0.05
    """How often answers are wrong in calibration, where that had labels."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Limits of measures, by name: what healthy windows, and harmless changes that the device made
    itself, did not exceed."""

    def real(self, inputs: npt.NDArray[Any]) -> Floats:
        """Return raw inputs as real numbers, shape (n, *layout.shape)."""
        scale, zero_point = self.quantization.tolist()
        return self.layout.read(inputs, scale, zero_point)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_arrays` takes."""
        layout = self.layout
        told = {"shape": layout.shape, "smooth": layout.smooth, "channel": layout.channel}
        found: dict[str, npt.NDArray[Any]] = {
            _LAYOUT: np.frombuffer(json.dumps(told).encode(), np.uint8),
            _BOUNDS: np.frombuffer(json.dumps(dict(self.bounds)).encode(), np.uint8),
        }
        if layout.centre is not None and layout.components is not None:
            found["centre"], found["components"] = layout.centre, layout.components
        for part in fields(self):
            if part.name not in (_LAYOUT, _BOUNDS):
                found[part.name] = np.asarray(getattr(self, part.name))
        return found

    @classmethod
    def found(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Profile | None:
        """Return what a baseline has; None, which is logged, where it cannot be read."""
        if not arrays:
            return None
        try:
            return cls.from_arrays(arrays)
        except (ValueError, LookupError, TypeError):
            logger().warning("the baseline's profile cannot be read", exc_info=True)
            return None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Profile:
        """Read what `to_arrays` returned.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that.
        """
        told = json.loads(arrays[_LAYOUT].tobytes())
        bounds = json.loads(arrays[_BOUNDS].tobytes())
        channel = told["channel"]
        layout = Layout(
            tuple(int(n) for n in told["shape"]),
            tuple(int(n) for n in told["smooth"]),
            None if channel is None else int(channel),
            arrays.get("centre"),
            arrays.get("components"),
        )
        rest: dict[str, Any] = {}
        for part in fields(cls):
            if part.name in (_LAYOUT, _BOUNDS):
                continue
            value = arrays[part.name]
            rest[part.name] = value if value.ndim else value.item()
        return cls(layout=layout, bounds={str(k): float(v) for k, v in bounds.items()}, **rest)
