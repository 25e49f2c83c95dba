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
    Holds mean and spread of every element, and the changed inputs one at a time.
    """
    places = [
        n for n, spec in enumerate(specs) if spec.dtype.name in _MEASURABLE and 0 not in spec.shape
    ]
    parts = [_Input(specs[n], [sample[n] for sample in samples]) for n in places]
    if not parts:
        return
    last = ("blur", "field") if any(part.axes for part in parts) else ("offsets", "gains")
    for family in ("noise", "offset", "gain", "ghost", *last):
        for strength in STRENGTHS:
            patterns = [part.pattern(family, rng) for part in parts]

            def rows(
                family: str = family,
                strength: float = strength,
                patterns: list[Floats] = patterns,
            ) -> Iterator[list[Array]]:
                for sample in samples:
                    changed = list(sample)
                    sign = float(rng.choice((-1.0, 1.0)))
                    for part, place, pattern in zip(parts, places, patterns, strict=True):
                        changed[place] = part.changed(
                            family, strength, sample[place], sign, pattern, rng
                        )
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
            total += self.real(row)
        self.mean = total / len(rows)
        for row in rows:
            squares += np.square(self.real(row) - self.mean)
        spread = np.sqrt(squares / len(rows))
        self.overall = float(np.sqrt(np.square(spread).mean()))
        self.level = float(self.mean.mean()) if self.axes else 0.0
        self.spread = np.maximum(spread, _LEAST_SPREAD * self.overall) if self.axes else spread

    def real(self, row: Array) -> Floats:
        values = row.reshape(self.spec.shape).astype(np.float64)
        if self.spec.quantized:
            values = self.spec.scale * (values - self.spec.zero_point)
        return np.where(np.isfinite(values), values, 0.0)

    def raw(self, values: Floats, like: Array) -> Array:
        dtype = self.spec.dtype
        if dtype.kind == "f":
            return values.astype(dtype).reshape(like.shape)
        if self.spec.quantized:
            values = values / self.spec.scale + self.spec.zero_point
        info = np.iinfo(dtype)
        return np.clip(np.rint(values), info.min, info.max).astype(dtype).reshape(like.shape)

    def pattern(self, family: str, rng: np.random.Generator) -> Floats:
        """Return what is the same for all samples of one change, in units of its strength."""
        if family == "ghost":
            other = self.rows[int(rng.integers(len(self.rows)))]
            return 0.7 * (self.real(other) - self.mean)
        drawn = rng.standard_normal(self.spec.shape)
        if family == "field":
            for _ in range(_SMOOTHED):
                drawn = self.smoothed(drawn)
            spread = float(drawn.std())
            return drawn * (self.overall / spread if spread > 0 else 0.0)
        return drawn

    def smoothed(self, values: Floats) -> Floats:
        for axis in self.axes:
            before = np.concatenate(
                [values.take([0], axis), values.take(range(values.shape[axis] - 1), axis)], axis
            )
            after = np.concatenate(
                [values.take(range(1, values.shape[axis]), axis), values.take([-1], axis)], axis
            )
            values = 0.25 * before + 0.5 * values + 0.25 * after
        return values

    def changed(
        self,
        family: str,
        strength: float,
        row: Array,
        sign: float,
        pattern: Floats,
        rng: np.random.Generator,
    ) -> Array:
        x = self.real(row)
        match family:
            case "noise":
                x = x + strength * self.spread * rng.standard_normal(x.shape)
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
        return self.raw(x, row)

    def blurred(self, x: Floats, strength: float) -> Floats:
        smooth = x
        for _ in range(max(1, round(2 * strength))):
            smooth = self.smoothed(smooth)
        return smooth if strength >= STRENGTHS[1] else 0.5 * (x + smooth)
