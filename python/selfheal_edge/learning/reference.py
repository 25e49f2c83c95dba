"""What calibration keeps for learning: some of its inputs, and moments of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_PLACES", "LearningReference", "Moments", "learn_reference"]

Floats = npt.NDArray[np.float64]

_PREFIX: Final = "learning_"
_MOST_HELD: Final = 256
_LEAST_HELD: Final = 16
_HELD_BYTES: Final = 96 << 10
_MOST_NUMBERS: Final = 1 << 15
LEAST_PLACES: Final = 4
"""Of an input, for what is carried into a condition."""
_PULL: Final = 4.0  # samples that a class's moments are pulled to all classes' by
_MOST: Final = 1e12
_FLOOR: Final = 0.01
"""Of the mean variance: below it a number that hardly varies would outweigh all others."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Means and variances of numbers (features, or dimensions of an embedding), class by class."""

    mean: npt.NDArray[np.float32]
    """Shape (classes or 1, numbers)."""
    variance: npt.NDArray[np.float32]
    """Within a class; shape (classes or 1, numbers)."""

    def of_mix(self, shares: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation where classes come in these shares.

        Parameters
        ----------
        shares
            Shape (classes,), they sum to 1; not looked at where one row stands for all classes.

        Returns
        -------
        ndarray, ndarray
            Shape (numbers,), float64.
        """
        if len(self.mean) == 1:
            return self.mean[0].astype(np.float64), np.sqrt(self.variance[0].astype(np.float64))
        mean = shares @ self.mean.astype(np.float64)
        away = np.square(self.mean - mean)
        return mean, np.sqrt(shares @ (self.variance + away))

    @property
    def variance_within(self) -> Floats:
        """The variance of each number within a class, shape (numbers,), none next to zero."""
        within = self.variance.astype(np.float64).mean(axis=0)
        return np.asarray(within + _FLOOR * within.mean() + 1e-30)


@dataclass(frozen=True, slots=True, eq=False)
class LearningReference:
    """Golden's normal operation, as far as a repair by learning needs it. Immutable.

    Made by calibration (`learn_reference`), kept among `Baseline.profile`'s arrays.

    Raises
    ------
    ValueError
        When the arrays do not belong together.
    """

    inputs: npt.NDArray[Any]
    """Raw calibration inputs, shape (n, *sample), without the batch's axis of one: the hold-out on
    which no repair may do harm. At least 16, at most 256, as many as 96 KiB hold."""
    labels: npt.NDArray[np.int64]
    """Shape (n,): their true classes where calibration was told, else golden's answers."""
    has_truth: bool
    """Whether calibration was told true classes."""
    axis: int
    """Axis of one sample that counts features (channels, colours, coefficients, sensors)."""
    is_shared: bool
    """Whether features are moments of one signal, and have one correction in common."""
    quantization: Floats
    """Shape (2,): scale and zero point of the input; 1 and 0 for real numbers."""
    limits: Floats
    """Shape (2,): the least and the greatest real value that the input can hold."""
    priors: Floats
    """Shape (classes,): shares of the classes; one number for a model without classes."""
    features: Moments
    """Of the inputs' features, real units."""
    embeddings: Moments | None
    """Of the embedding's dimensions, real units; None where none is watched."""
    targets: npt.NDArray[np.float32] | None = None
    """Of a regressor that was calibrated with them, what is right for each of `inputs`: shape
    (n, numbers), in the answers' units."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        shape = self.inputs.shape[1:]
        if len(self.labels) != len(self.inputs) or not 0 <= self.axis < len(shape):
            raise ValueError(
                f"reference: expected a label for each input and an axis of {shape}, got "
                f"{len(self.labels)} labels for {len(self.inputs)} inputs and axis {self.axis}"
            )
        for moments in (self.features, self.embeddings):
            if moments is None:
                continue
            if moments.mean.shape != moments.variance.shape or len(moments.mean) not in (
                1,
                len(self.priors),
            ):
                raise ValueError(
                    f"reference: expected moments of {len(self.priors)} classes or of all, "
                    f"got shapes {moments.mean.shape} and {moments.variance.shape}"
                )
            if not (np.isfinite(moments.mean).all() and (moments.variance >= 0).all()):
                raise ValueError("reference: expected finite means and variances from 0 on")
        targets = self.targets
        if targets is not None and not (
            targets.ndim == 2 and len(targets) == len(self.inputs) and np.isfinite(targets).all()
        ):
            raise ValueError(
                f"reference: expected finite targets of {len(self.inputs)} inputs, "
                f"got shape {targets.shape}"
            )
        if self.features.mean.shape[1] != shape[self.axis]:
            raise ValueError(
                f"reference: expected moments of {shape[self.axis]} features, "
                f"got {self.features.mean.shape[1]}"
            )

    @property
    def may_be_learned(self) -> npt.NDArray[np.bool_]:
        """Which half of the held inputs a head may learn as they are, shape (n,).

        The others judge it. Drawn once and for all: in calibration's order neighbours may be alike.
        """
        count = len(self.inputs)
        found = np.zeros(count, bool)
        found[np.random.default_rng(count).permutation(count)[: count // 2]] = True
        return found

    @property
    def can_be_carried(self) -> bool:
        """Whether inputs have places enough (moments, pixels) of two features or more.

        Then held inputs can be carried into a condition: `learning.alignment.carried`.
        """
        features = self.features.mean.shape[1]
        return features >= 2 and self.places >= LEAST_PLACES and not self.is_shared

    @property
    def places(self) -> int:
        """How many places an input has, as moments or pixels: elements of one feature."""
        elements = int(np.prod(self.inputs.shape[1:], dtype=np.int64))
        return elements // len(self.features.mean[0])

    @property
    def classes(self) -> int:
        """How many classes there are; 1 for a model without any."""
        return len(self.priors)

    def by_feature(self, raw: npt.NDArray[Any]) -> Floats:
        """Return raw inputs as real numbers, shape (n, elements of a feature, features).

        They may have a batch's axis of one.

        What is no number counts as zero, and none lies beyond 1e12.
        """
        scale, zero_point = self.quantization.tolist()
        raw = raw.reshape(len(raw), *self.inputs.shape[1:])
        return _by_feature(raw, self.axis, scale, zero_point)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_arrays` takes: names that begin with "learning_"."""
        found: dict[str, npt.NDArray[Any]] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if value is None:
                continue
            if isinstance(value, Moments):
                found[f"{_PREFIX}{part.name}_mean"] = value.mean
                found[f"{_PREFIX}{part.name}_variance"] = value.variance
            else:
                found[_PREFIX + part.name] = np.asarray(value)
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> LearningReference | None:
        """Read what `to_arrays` returned, among other arrays; None where there is none of it.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that.
        """
        if _PREFIX + "inputs" not in arrays:
            return None

        def moments(name: str) -> Moments | None:
            name = _PREFIX + name
            if name + "_mean" not in arrays:
                return None
            return Moments(arrays[name + "_mean"], arrays[name + "_variance"])

        features = moments("features")
        if features is None:
            raise LookupError("reference: expected moments of the features, got none")
        return cls(
            inputs=arrays[_PREFIX + "inputs"],
            labels=arrays[_PREFIX + "labels"].astype(np.int64),
            has_truth=bool(arrays[_PREFIX + "has_truth"]),
            axis=int(arrays[_PREFIX + "axis"]),
            is_shared=bool(arrays[_PREFIX + "is_shared"]),
            quantization=arrays[_PREFIX + "quantization"].astype(np.float64),
            limits=arrays[_PREFIX + "limits"].astype(np.float64),
            priors=arrays[_PREFIX + "priors"].astype(np.float64),
            features=features,
            embeddings=moments("embeddings"),
            targets=arrays.get(_PREFIX + "targets"),
        )


def learn_reference(
    inputs: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    classes: int,
    embeddings: npt.NDArray[np.float32] | None,
    quantization: tuple[float, int],
    *,
    has_truth: bool,
    axis: int | None,
    targets: npt.NDArray[Any] | None = None,
    seed: int = 1,
) -> LearningReference:
    """Learn from calibration what a repair by learning compares with.

    Parameters
    ----------
    inputs
        Raw, shape (n, *sample), without a batch's axis.
    labels
        Shape (n,): true classes, or golden's answers; zeros for a model without classes.
    classes
        How many there are; 1 for a model without any.
    embeddings
        Shape (n, width), real units; None without any.
    quantization
        Scale and zero point of the input; 1 and 0 for real numbers.
    has_truth
        Whether the labels are true ones.
    axis
        Axis of one sample that counts features of their own; None: there is one signal, and one
        correction for all of it.
    targets
        What a regressor should answer, shape (n, numbers).

    Notes
    -----
    Deterministic, no inference. Which inputs are held is drawn at random.
    """
    rng = np.random.default_rng(seed)
    shape = inputs.shape[1:]
    is_shared = axis is None
    if axis is None:
        ones = [i for i, size in enumerate(shape) if size == 1]
        axis = ones[-1] if ones else len(shape) - 1
    scale, zero_point = float(quantization[0]), int(quantization[1])
    counts = np.bincount(labels, minlength=classes)
    numbers = [
        _moments_of_one(inputs[n : n + 1], axis, scale, zero_point, is_shared=is_shared)
        for n in range(len(inputs))
    ]
    features = _moments(
        np.stack([mean for mean, _ in numbers]), np.stack([v for _, v in numbers]), labels, classes
    )
    inside = None
    if embeddings is not None and np.isfinite(embeddings).all():
        values = embeddings.astype(np.float64)
        inside = _moments(values, np.zeros_like(values), labels, classes)
    most = int(np.clip(_HELD_BYTES // max(1, inputs[0].nbytes), _LEAST_HELD, _MOST_HELD))
    held = np.sort(rng.choice(len(inputs), min(most, len(inputs)), replace=False))
    return LearningReference(
        inputs=inputs[held],
        labels=labels[held].astype(np.int64),
        has_truth=has_truth,
        axis=axis,
        is_shared=is_shared,
        quantization=np.array([scale, zero_point], np.float64),
        limits=_limits(inputs.dtype, scale, zero_point),
        priors=(counts + 0.5) / (counts.sum() + 0.5 * classes),
        features=features,
        embeddings=inside,
        targets=None if targets is None else targets[held].astype(np.float32),
    )


def _moments_of_one(
    raw: npt.NDArray[Any], axis: int, scale: float, zero_point: int, *, is_shared: bool
) -> tuple[Floats, Floats]:
    """Return means and variances of one input's features: samples may be large."""
    x = _by_feature(raw, axis, scale, zero_point)[0]
    if is_shared:
        ones = np.ones(x.shape[1])
        return x.mean() * ones, x.var() * ones
    return x.mean(axis=0), x.var(axis=0)


def _limits(dtype: np.dtype[Any], scale: float, zero_point: int) -> Floats:
    if dtype.kind not in "iu":
        return np.array([-_MOST, _MOST])
    info = np.iinfo(dtype)
    return scale * (np.array([info.min, info.max], np.float64) - zero_point)


def _by_feature(raw: npt.NDArray[Any], axis: int, scale: float, zero_point: float) -> Floats:
    values = np.moveaxis(raw, axis + 1, -1)
    real = values.reshape(len(raw), -1, values.shape[-1]).astype(np.float64)
    if raw.dtype.kind == "f":
        real = np.nan_to_num(real, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip((real - zero_point) * scale, -_MOST, _MOST)


def _moments(
    mean: Floats, variance: Floats, labels: npt.NDArray[np.int64], classes: int
) -> Moments:
    """Return moments by class of samples of which each has a mean and a variance of its own."""
    overall = mean.mean(axis=0)
    spread = variance.mean(axis=0) + mean.var(axis=0)
    if classes == 1 or classes * mean.shape[1] > _MOST_NUMBERS:
        return Moments(overall[None].astype(np.float32), spread[None].astype(np.float32))
    means = np.empty((classes, mean.shape[1]))
    for label in range(classes):
        mine = mean[labels == label]
        means[label] = (mine.sum(axis=0) + _PULL * overall) / (len(mine) + _PULL)
    away = variance + np.square(mean - means[labels])
    within = away.mean(axis=0)
    variances = np.empty_like(means)
    for label in range(classes):
        mine = away[labels == label]
        variances[label] = (mine.sum(axis=0) + _PULL * within) / (len(mine) + _PULL)
    return Moments(means.astype(np.float32), variances.astype(np.float32))
