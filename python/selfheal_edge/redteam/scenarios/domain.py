"""What an input is: image, spectrogram or vector, its raw form, and the range that is usual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "Domain", "InputKind", "Raw", "Real", "kind_of"]

InputKind: TypeAlias = Literal["image", "spectrogram", "vector"]
Raw: TypeAlias = npt.NDArray[Any]
Real: TypeAlias = npt.NDArray[np.float64]

KINDS: Final[tuple[InputKind, ...]] = ("image", "spectrogram", "vector")

_COLOURS: Final = (1, 3, 4)
_SQUARE: Final = 2.5
"""Two axes of a ratio beyond this are time and frequency."""
_DEVIATIONS: Final = 2.5
"""What a strength of 1 is, where the range is that of a few outliers."""
_FLOOR: Final = 0.1
"""The least spread of an element, as a share of the median one: columns may be blank."""


def kind_of(shape: tuple[int, ...]) -> InputKind:
    """Tell the kind of input by the shape of one sample.

    Three axes that are not 1, or a last one of 3 or 4 behind another two, are an image; two are an
    image as well, unless one is more than 2.5 times the other: then a spectrogram; one is a vector.

    Examples
    --------
    >>> kind_of((1, 8, 8, 1)), kind_of((1, 49, 10, 1)), kind_of((128,))
    ('image', 'spectrogram', 'vector')
    """
    axes = [n for n in shape if n != 1]
    if len(axes) < 2:
        return "vector"
    if len(axes) > 2:
        return "image"
    return "image" if max(axes) <= _SQUARE * min(axes) else "spectrogram"


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """How raw inputs of one model are read and written, and what is usual of them.

    `Domain.of` makes one from inputs of normal operation.

    Attributes
    ----------
    kind : str
        "image", "spectrogram" or "vector".
    shape : tuple of int
        Of one raw sample, without the axis that counts samples.
    dtype : numpy.dtype
        Of raw samples.
    scale, zero_point : float, int
        Of a quantised input, real = scale * (raw - zero_point); a scale of 0 for one that is not.
    low, high : ndarray of float64
        The least and the greatest real value seen: of an image over all, of a spectrogram for each
        frequency, of a vector for each feature.
    unit : ndarray of float64
        What a strength of 1 means, alike: an image's range, otherwise 2.5 standard deviations,
        as an image's range has them.
    centre : ndarray of float64
        Means, alike.
    is_channels_first : bool
        Whether an image's colours are its first axis.
    """

    kind: InputKind
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    low: Real
    high: Real
    unit: Real
    centre: Real
    is_channels_first: bool = False

    @classmethod
    def of(
        cls,
        inputs: Raw,
        *,
        kind: InputKind | None = None,
        scale: float = 0.0,
        zero_point: int = 0,
    ) -> Domain:
        """Learn from raw inputs of normal operation, shape (n, *sample).

        Parameters
        ----------
        inputs
            Integers or floats, 2 samples or more.
        kind
            None tells it by the shape, see `kind_of`.
        scale, zero_point
            The model's, of a quantised input.

        Raises
        ------
        ValueError
            Where the kind does not fit the shape, or there are fewer than 2 samples.
        """
        given = np.asarray(inputs)
        if given.ndim < 2 or len(given) < 2 or given[0].size == 0:
            raise ValueError(f"inputs: expected 2 samples or more, got shape {given.shape}")
        if given.dtype.kind not in "iuf":
            raise ValueError(f"inputs: expected numbers, got dtype {given.dtype.name}")
        shape = given.shape[1:]
        axes = [n for n in shape if n != 1]
        found = kind_of(shape) if kind is None else kind
        if found not in KINDS:
            raise ValueError(f"kind: expected one of {KINDS}, got {found!r}")
        if (found == "image" and not 1 <= len(axes) <= 3) or (
            found == "spectrogram" and len(axes) != 2
        ):
            raise ValueError(f"kind: {found} does not fit samples of shape {shape}")
        if found == "image" and len(axes) == 3 and axes[2] not in _COLOURS:
            if axes[0] not in _COLOURS:
                raise ValueError(
                    f"kind: an image of shape {shape} has no axis of 1, 3 or 4 colours"
                )
            is_channels_first = True
        else:
            is_channels_first = False
        blank = np.zeros(0)
        raw = cls(
            found, shape, given.dtype, scale, zero_point, blank, blank, blank, blank,
            is_channels_first,
        )  # fmt: skip
        real = raw.real(given)
        over = None if found == "image" else (0, 1) if found == "spectrogram" else (0,)
        low, high = np.min(real, over), np.max(real, over)
        sd = np.std(real, over)
        unit = np.asarray(high - low if found == "image" else _DEVIATIONS * sd)
        floor = _FLOOR * float(np.median(unit[unit > 0])) if np.any(unit > 0) else 1.0
        return cls(
            found, shape, given.dtype, scale, zero_point,
            np.asarray(low), np.asarray(high), np.maximum(unit, floor),
            np.asarray(np.mean(real, over)), is_channels_first,
        )  # fmt: skip

    @property
    def axes(self) -> tuple[int, ...]:
        """Shape of one sample as `real` gives it: (H, W, C), (time, frequency) or (features,)."""
        axes = [n for n in self.shape if n != 1]
        if self.kind == "vector":
            return (int(np.prod(self.shape)),)
        if self.kind == "spectrogram":
            return (axes[0], axes[1])
        if len(axes) == 3:
            return (axes[1], axes[2], axes[0]) if self.is_channels_first else tuple(axes)
        if len(axes) == 2:
            return (axes[0], axes[1], 1)
        return (axes[0], 1, 1)

    @property
    def colours(self) -> int:
        """Channels of an image; 1 of anything else."""
        return self.axes[2] if self.kind == "image" else 1

    def real(self, raw: Raw) -> Real:
        """Return real values, float64, shape (n, *axes)."""
        values = np.asarray(raw, np.float64)
        if self.scale:
            values = (values - self.zero_point) * self.scale
        values = values.reshape(len(values), -1)
        if self.is_channels_first:
            height, width, colours = self.axes
            values = values.reshape(len(values), colours, height, width)
            return np.ascontiguousarray(np.moveaxis(values, 1, 3))
        return values.reshape(len(values), *self.axes)

    def raw(self, real: Real) -> Raw:
        """Return raw samples: rounded half to even and saturated where they are integers."""
        values = np.moveaxis(real, 3, 1) if self.is_channels_first else real
        values = np.ascontiguousarray(values).reshape(len(values), *self.shape)
        if self.scale:
            values = values / self.scale + self.zero_point
        if self.dtype.kind in "iu":
            info = np.iinfo(self.dtype)
            values = np.clip(np.rint(values), info.min, info.max)
        return values.astype(self.dtype)

    def inside(self, real: Real) -> Real:
        """Return values held within what was seen."""
        return np.clip(real, self.low, self.high)
