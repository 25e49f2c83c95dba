"""Corrections of a model's input, feature by feature, as bytes that the hot path reads.

A correction is gain times the value plus an offset, in real units. Of an 8-bit input each feature
has a table of what every level becomes, so that nothing is computed when it is applied; of a
float32 input its gain and its offset. All of it is one stretch of bytes, which is guarded, saved
and rolled back like weights:

====================  ==============================================================================
bytes                 content
====================  ==============================================================================
0                     0: inputs go in as they come. Otherwise 1 + the axis that counts features, of
                      one sample (without the batch's axis, if that is 1)
1 to 3                zero
4 to 7                of an autoencoder: the reconstruction error above which inputs are abnormal,
                      float32; zero: calibration's. The hot path does not read it
8 to 63               zero
from 64               8-bit: 256 bytes a feature, the new level at the place of the old one, both as
                      unsigned bytes. float32: the gains, then the offsets
====================  ==============================================================================

"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["HEADER_BYTES", "MOST_FEATURES", "InputTable", "threshold_in", "with_threshold"]

HEADER_BYTES: Final = 64
"""Before the features: a cache line."""
MOST_FEATURES: Final = 1024
"""Along the axis that is corrected."""
_LEVELS: Final = 256
_MOST_AXES: Final = 8
_THRESHOLD: Final = struct.Struct("<4xf")

Floats = npt.NDArray[np.float32]


def with_threshold(data: bytes, threshold: float) -> bytes:
    """Return a correction's bytes, or those of none, with what is abnormal; 0: nothing is said."""
    return data[:4] + struct.pack("<f", threshold) + data[8:]


def threshold_in(data: bytes | memoryview) -> float:
    """Return what `with_threshold` has written; 0 where damage says what cannot be."""
    (found,) = _THRESHOLD.unpack_from(data)
    return float(found) if np.isfinite(found) and found > 0.0 else 0.0


class InputTable:
    """How the corrections of one input are written down and applied.

    Parameters
    ----------
    spec
        The input: int8, uint8 or float32.

    Raises
    ------
    ValueError
        For an input of another dtype, or without an axis.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self.shape = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
        """Of one sample."""
        self.dtype = spec.dtype
        if spec.dtype.name not in ("int8", "uint8", "float32"):
            raise ValueError(f"input: expected int8, uint8 or float32, got {spec.dtype.name}")
        if not 1 <= len(self.shape) <= _MOST_AXES or 0 in self.shape:
            raise ValueError(
                f"input: expected 1 to {_MOST_AXES} axes of at least one element, got {self.shape}"
            )
        self._scale, self._zero_point = (
            (spec.scale, spec.zero_point) if spec.quantized else (1.0, 0)
        )

    @classmethod
    def of(cls, inputs: Sequence[TensorSpec]) -> InputTable | None:
        """Return that of a model's input; None where there are several, or it cannot be had."""
        if len(inputs) != 1:
            return None
        try:
            return cls(inputs[0])
        except ValueError:
            return None

    @property
    def feature_bytes(self) -> int:
        """Bytes that one feature takes."""
        return 8 if self.dtype.kind == "f" else _LEVELS

    def nbytes(self, features: int) -> int:
        """Return the bytes of a correction of so many features."""
        return HEADER_BYTES + features * self.feature_bytes

    def features(self, axis: int) -> int:
        """Return how many features an axis of one sample counts.

        Raises
        ------
        ValueError
            For an axis that is not there, or that is longer than `MOST_FEATURES`.
        """
        if isinstance(axis, bool) or not 0 <= axis < len(self.shape):
            raise ValueError(f"axis: expected 0 to {len(self.shape) - 1}, got {axis!r}")
        if self.shape[axis] > MOST_FEATURES:
            raise ValueError(
                f"axis: expected at most {MOST_FEATURES} features, got {self.shape[axis]}"
            )
        return self.shape[axis]

    def levels(self, axis: int, gain: Floats, offset: Floats) -> Array:
        """Return what each feature becomes.

        Parameters
        ----------
        axis
            Of one sample, that counts features.
        gain, offset
            Shape (features,), float32; the offset in real units.

        Returns
        -------
        numpy.ndarray
            8-bit: shape (features, 256), uint8, rounded half to even and saturated, by the level as
            an unsigned byte. float32: shape (2, features), gains and offsets.

        Raises
        ------
        ValueError
            For an axis that is not there, and for vectors of another length.
        """
        features = self.features(axis)
        if gain.shape != (features,) or offset.shape != (features,):
            raise ValueError(
                f"gain, offset: expected {features} numbers each, as axis {axis} of the input has "
                f"features, got {gain.shape} and {offset.shape}"
            )
        if self.dtype.kind == "f":
            return np.stack([gain, offset]).astype(np.float32)
        info = np.iinfo(self.dtype)
        level = np.arange(_LEVELS, dtype=np.uint8).view(self.dtype).astype(np.float64)
        steps = gain.astype(np.float64)[:, None] * (level - self._zero_point)
        steps = np.rint(steps + (offset.astype(np.float64) / self._scale)[:, None])
        return np.clip(steps + self._zero_point, info.min, info.max).astype(self.dtype).view("u1")

    def encode(self, axis: int, gain: Floats, offset: Floats, nbytes: int | None = None) -> bytes:
        """Return the bytes of a correction, filled up with zeros to `nbytes`.

        Raises
        ------
        ValueError
            As `levels`; and where it takes more than `nbytes`.
        """
        head = bytes([1 + axis]) + bytes(HEADER_BYTES - 1)
        data = head + self.levels(axis, gain, offset).tobytes()
        room = len(data) if nbytes is None else nbytes
        if len(data) > room:
            raise ValueError(
                f"axis: expected a correction of at most {room} bytes, got {len(data)}"
            )
        return data + bytes(room - len(data))

    def apply(self, raw: Array, axis: int, levels: Array) -> Array:
        """Return corrected inputs, as the hot path corrects them.

        Parameters
        ----------
        raw
            The model's own dtype, shape (n, ...) with the elements of one sample.
        axis, levels
            From `levels`.

        Returns
        -------
        numpy.ndarray
            A new array of the same shape and dtype.
        """
        moved = np.moveaxis(raw.reshape(len(raw), *self.shape), axis + 1, -1)
        if self.dtype.kind == "f":
            with np.errstate(all="ignore"):  # what overflows is infinite, as in the hot path
                done = levels[0] * moved + levels[1]
        else:
            places = np.ascontiguousarray(moved).view(np.uint8)
            done = levels[np.arange(len(levels)), places].view(self.dtype)
        return np.ascontiguousarray(np.moveaxis(done, -1, axis + 1)).reshape(raw.shape)
