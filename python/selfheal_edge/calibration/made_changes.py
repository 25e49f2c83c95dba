"""Harmless changes that a device makes itself from calibration inputs, whose labels are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["STRENGTHS", "ChangedInputs", "changes_of"]

Floats = npt.NDArray[np.float64]

STRENGTHS: Final = (0.25, 0.5, 1.0, 1.6)
"""In standard deviations of an input's elements."""

_MEASURABLE: Final = frozenset({"int8", "uint8", "int16", "float32"})
_LEAST_SPREAD: Final = 0.25  # of an element's, in an image, as a share of all elements' together
_SMOOTHED: Final = 3
_AT_ONCE: Final = 1 << 14  # elements, all inputs together


@dataclass(frozen=True, slots=True)
class ChangedInputs:
    """All inputs after one change."""

    family: str
    strength: float
    rows: Iterator[list[Array]]
    """One sample after the other, as the model takes it; drawn as they are asked for."""


def changes_of(
    samples: Sequence[Sequence[Array]], specs: Sequence[TensorSpec], rng: np.random.Generator
) -> Iterator[ChangedInputs]:
    """Yield every change of a family, at four strengths, of the same samples.

    Parameters
    ----------
    samples
        Raw inputs, one list of arrays each, at least 2.
    specs
        The model's inputs. Those that are neither int8, uint8, int16 nor float32 stay as they are.
    rng
        Draws noise, signs and patterns.

    Yields
    ------
    ChangedInputs
        Families of images and spectrograms, with two axes and more: noise, offset, gain, blur, a
        smooth pattern that stays (``"field"``), and another input that shines through
        (``"ghost"``). Of vectors: noise, offset, gain, ghost, and an offset and a gain of each
        element that stay (``"offsets"``, ``"gains"``).

    Notes
    -----
    Holds mean and spread of every element, and the changed inputs some at a time: as many as have
    2^14 elements.
    """
    places = [
        n for n, spec in enumerate(specs) if spec.dtype.name in _MEASURABLE and 0 not in spec.shape
    ]
    parts = [_Input(specs[n], [sample[n] for sample in samples]) for n in places]
    if not parts:
        return
    size = max(1, _AT_ONCE // sum(max(1, part.mean.size) for part in parts))
    last = ("blur", "field") if any(part.axes for part in parts) else ("offsets", "gains")
    for family in ("noise", "offset", "gain", "ghost", *last):
        for strength in STRENGTHS:
            patterns = [part.pattern(family, rng) for part in parts]

            def rows(
                family: str = family,
                strength: float = strength,
                patterns: list[Floats] = patterns,
            ) -> Iterator[list[Array]]:
                for begin in range(0, len(samples), size):
                    some = samples[begin : begin + size]
                    signs = np.empty(len(some))
                    noise = [np.empty((len(some), *part.mean.shape)) for part in parts]
                    for n in range(len(some)):  # in this order, so that `size` changes nothing
                        signs[n] = (-1.0, 1.0)[rng.integers(2)]
                        for drawn in noise if family == "noise" else ():
                            drawn[n] = rng.standard_normal(drawn.shape[1:])
                    columns = [
                        part.changed(
                            family, strength, [row[place] for row in some], signs, draws, pattern
                        )
                        for part, place, draws, pattern in zip(
                            parts, places, noise, patterns, strict=True
                        )
                    ]
                    for n, sample in enumerate(some):
                        changed = list(sample)
                        for place, column in zip(places, columns, strict=True):
                            changed[place] = column[n]
                        yield changed

            yield ChangedInputs(family, strength, rows())


class _Input:
    """What is known of one of the model's inputs."""

    def __init__(self, spec: TensorSpec, rows: Sequence[Array]) -> None:
        self.spec = spec
        self.rows = rows
        # The innermost axis of several channels is no place.
        shape = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
        first = len(spec.shape) - len(shape)
        wide = [first + n for n, size in enumerate(shape) if size > 2]
        self.axes = wide if len(wide) > 1 else []
        total = np.zeros(spec.shape)
        squares = np.zeros(spec.shape)
        for row in rows:
            total += self.real([row])[0]
        self.mean = total / len(rows)
        for row in rows:
            squares += np.square(self.real([row])[0] - self.mean)
        spread = np.sqrt(squares / len(rows))
        self.overall = float(np.sqrt(np.square(spread).mean()))
        self.level = float(self.mean.mean()) if self.axes else 0.0
        self.spread = np.maximum(spread, _LEAST_SPREAD * self.overall) if self.axes else spread

    def real(self, rows: Sequence[Array]) -> Floats:
        """Return raw rows as numbers, one after the other."""
        values = np.stack(rows).reshape(len(rows), *self.spec.shape).astype(np.float64)
        if self.spec.quantized:
            values = self.spec.scale * (values - self.spec.zero_point)
        return np.where(np.isfinite(values), values, 0.0)

    def raw(self, values: Floats, like: Array) -> Array:
        """Return numbers as the model takes them, each row of the shape of `like`."""
        dtype = self.spec.dtype
        shape = len(values), *like.shape
        if dtype.kind == "f":
            return values.astype(dtype).reshape(shape)
        if self.spec.quantized:
            values = values / self.spec.scale + self.spec.zero_point
        info = np.iinfo(dtype)
        return np.clip(np.rint(values), info.min, info.max).astype(dtype).reshape(shape)

    def pattern(self, family: str, rng: np.random.Generator) -> Floats:
        """Return what is the same for all samples of one change, in units of its strength."""
        if family == "ghost":
            other = self.rows[int(rng.integers(len(self.rows)))]
            shine: Floats = self.real([other])[0]
            return 0.7 * (shine - self.mean)
        drawn = rng.standard_normal(self.spec.shape)
        if family == "field":
            for _ in range(_SMOOTHED):
                drawn = self.smoothed(drawn)
            spread = float(drawn.std())
            return drawn * (self.overall / spread if spread > 0 else 0.0)
        return drawn

    def smoothed(self, values: Floats) -> Floats:
        """Return values, of one row or of several, after a binomial filter along each axis."""
        for axis in self.axes:
            along = axis + values.ndim - len(self.spec.shape)
            last = values.shape[along] - 1
            before = values.take([0, *range(last)], along)
            after = values.take([*range(1, last + 1), last], along)
            values = 0.25 * before + 0.5 * values + 0.25 * after
        return values

    def changed(
        self,
        family: str,
        strength: float,
        rows: Sequence[Array],
        signs: Floats,
        noise: Floats,
        pattern: Floats,
    ) -> Array:
        """Return raw rows after a change, one after the other."""
        x = self.real(rows)
        sign = signs.reshape(-1, *(1 for _ in self.spec.shape))
        match family:
            case "noise":
                x = x + strength * self.spread * noise
            case "offset":
                x = x + strength * sign * (self.overall if self.axes else self.spread)
            case "gain":
                x = self.level + (x - self.level) * np.exp(0.5 * strength * sign)
            case "blur":
                x = self.blurred(x, strength)
            case "offsets":
                x = x + strength * self.spread * pattern
            case "gains":
                x = x * np.exp(0.5 * strength * pattern)
            case _:
                x = x + strength * pattern
        return self.raw(x, rows[0])

    def blurred(self, x: Floats, strength: float) -> Floats:
        smooth = x
        for _ in range(max(1, round(2 * strength))):
            smooth = self.smoothed(smooth)
        return smooth if strength >= STRENGTHS[1] else 0.5 * (x + smooth)
