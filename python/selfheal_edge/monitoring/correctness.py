"""How likely answers are right, told from the answers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.monitoring.embedding import Embedding
from selfheal_edge.monitoring.performance import Performance, not_estimable
from selfheal_edge.monitoring.signals import OutputKind
from selfheal_edge.tflite.runtimes.protocol import Array, TensorSpec

__all__ = ["SLACK", "Answers", "CorrectnessModel", "Guess", "read_answers"]

Floats = npt.NDArray[np.float64]

SLACK: Final = 0.1
"""Added to the size of a shift where an error is measured by it: a shift of zero has errors too."""

_LEAST: Final = 16
_FLOOR: Final = 1e-6
_FARTHEST: Final = 4.0
_TWO_SIDED: Final = 1.645  # 90 % of a normal distribution lie so many standard deviations around


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What is read from answers: of n answers, arrays of shape (n,)."""

    log_odds: Floats
    """Of the most likely class against all others, as the model states it."""
    log_distance: Floats
    """Logarithm of the embedding's distance to that class; NaN where its place is not known."""
    labels: npt.NDArray[np.int64]
    """The most likely class; -1 for an answer that is no number, which counts as least sure."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Answers:
        """Return the answers with these indices."""
        return Answers(self.log_odds[rows], self.log_distance[rows], self.labels[rows])

    def joined(self, other: Answers) -> Answers:
        """Return these answers and others after them."""
        return Answers(
            np.concatenate([self.log_odds, other.log_odds]),
            np.concatenate([self.log_distance, other.log_distance]),
            np.concatenate([self.labels, other.labels]),
        )


class Guess(NamedTuple):
    """An accuracy told from the answers alone, and where it is meant to lie."""

    accuracy: float
    low: float
    high: float
    chances: Floats
    """How likely each answer is right: shape (n,)."""

    @property
    def sd(self) -> float:
        """The error that the interval stands for."""
        return max((self.high - self.low) / (2.0 * _TWO_SIDED), 1e-3)


def _real(spec: TensorSpec, raw: Array) -> Floats:
    values = raw.reshape(len(raw), -1).astype(np.float64)
    return spec.scale * (values - spec.zero_point) if spec.quantized else values


def read_answers(
    outputs: Array,
    spec: TensorSpec,
    kind: OutputKind,
    embeddings: Array | None = None,
    tap: TensorSpec | None = None,
    embedding: Embedding | None = None,
) -> Answers:
    """Read answers of a classifier.

    Parameters
    ----------
    outputs
        Raw output 0 of n inferences: shape (n, ...). A single sigmoid is the probability of class 1
        of two.
    spec, kind
        What it is.
    embeddings, tap, embedding
        Raw embeddings, shape (n, elements), what they are, and where the classes lie among them;
        None where there are none.

    Notes
    -----
    A probability below half a step of a quantised output counts as half a step.
    """
    values = _real(spec, outputs)
    is_number = np.asarray(np.isfinite(values).all(axis=1))
    values = np.where(is_number[:, None], values, 0.0)
    floor = max(_FLOOR, spec.scale / 2.0 if spec.quantized and kind == "probabilities" else 0.0)
    if kind == "logits":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    elif values.shape[1] == 1:
        values = np.concatenate([1.0 - values, values], axis=1)
    labels = values.argmax(axis=1)
    top = values.max(axis=1)
    log_odds = np.log(np.maximum(top, floor)) - np.log(np.maximum(1.0 - top, floor))
    log_distance = np.full(len(values), np.nan)
    if embeddings is not None and tap is not None and embedding is not None:
        inside = _real(tap, embeddings)
        part = embedding.part(inside.shape[1])
        log_distance = np.log(embedding.distances(inside[:, part], labels) + _FLOOR)
    return Answers(
        np.where(is_number, log_odds, -np.inf),
        np.where(is_number, log_distance, np.nan),
        np.where(is_number, labels, -1).astype(np.int64),
    )


def _distance_between(sorted_a: Floats, b: Floats) -> float:
    """Return the largest difference of two distribution functions (Kolmogorov, Smirnov)."""
    if not len(sorted_a) or not len(b):
        return 0.0
    b = np.sort(b)
    at = np.concatenate([sorted_a, b])
    below_a = np.searchsorted(sorted_a, at, "right") / len(sorted_a)
    below_b = np.searchsorted(b, at, "right") / len(b)
    return float(np.abs(below_a - below_b).max())


@dataclass(frozen=True, slots=True, eq=False)
class CorrectnessModel:
    """How likely an answer is right: a logistic model with four coefficients.

    It is fitted to calibration samples and to changes of them that the device made itself
    (`selfheal_edge.calibration.correctness`). A confidence alone is too high under a drift; how far
    the embeddings of a whole window lie from their classes says how much.

    Notes
    -----
    The interval holds what was learned from such changes, and what nothing can be learned of. U,
    the largest distance between distribution functions of the window and of calibration, is at most
    the share of answers that are unlike any that calibration saw: of these, all or none may be
    right, so that an estimate p may be off by U p downwards and U (1 - p) upwards. Added where that
    is more: the largest error on changes of a kind that the model was not fitted to, in proportion
    to 0.1 + U.

    Immutable: any number of threads. At most 7 kB. An estimate takes some 0.2 ms for 256 answers.
    """

    coefficients: Floats
    """Of 1, the log odds, the log distance, and the mean log distance over the window, each
    standardised as in calibration: shape (4,)."""
    centre: Floats
    """Mean log odds and mean log distance in calibration: shape (2,)."""
    spread: Floats
    """Their standard deviations, positive: shape (2,)."""
    class_distance: Floats
    """Mean log distance by predicted class: shape (classes,)."""
    log_odds: Floats
    """Those of calibration, rising: shape (m,)."""
    log_distance: Floats
    """Likewise; empty where no embedding is watched."""
    within_class: Floats
    """Log distances less their class's mean, rising; empty likewise."""
    error_ratio: float
    """Largest error on a kind of change that was left out of the fit, over 0.1 + U."""
    accuracy: float
    """Share of calibration samples that are right."""

    def __post_init__(self) -> None:
        """Refuse numbers that no fit gives."""
        shapes = self.coefficients.shape, self.centre.shape, self.spread.shape
        lists = self.class_distance, self.log_odds, self.log_distance, self.within_class
        if (
            shapes != ((4,), (2,), (2,))
            or not all(part.ndim == 1 for part in lists)
            or not len(self.class_distance)
        ):
            raise ValueError(
                "correctness: expected 4, 2 and 2 numbers, and lists of which that of classes is "
                f"not empty, got shapes {shapes} and {[part.shape for part in lists]}"
            )
        parts = (getattr(self, part.name) for part in fields(self))
        if not all(np.isfinite(part).all() for part in parts) or not (self.spread > 0).all():
            raise ValueError("correctness: expected finite numbers, and spreads above 0")
        if not (0.0 <= self.accuracy <= 1.0 and self.error_ratio >= 0.0):
            raise ValueError(
                "correctness: expected an accuracy from 0 to 1 and a ratio that is not negative, "
                f"got {self.accuracy} and {self.error_ratio}"
            )

    @staticmethod
    def standardised(answers: Answers, centre: Floats, spread: Floats) -> Floats:
        """Return log odds and log distance as the fit takes them: shape (n, 3), with the mean.

        What is not known counts as usual, since it says nothing.
        """
        columns = np.stack([answers.log_odds, answers.log_distance], axis=1)
        z = np.clip((columns - centre) / spread, -_FARTHEST, _FARTHEST)
        z = np.where(np.isfinite(z), z, 0.0)
        mean = np.full((len(z), 1), z[:, 1].mean() if len(z) else 0.0)
        return np.concatenate([z, mean], axis=1)

    def chances(self, answers: Answers) -> Floats:
        """Return how likely each answer of a window is right: shape (n,)."""
        z = self.standardised(answers, self.centre, self.spread)
        return logistic(self.coefficients[0] + z @ self.coefficients[1:])

    def shift(self, answers: Answers) -> float:
        """Return the share of a window that may be unlike calibration: 0 to 1."""
        known = np.isfinite(answers.log_distance)
        distance = answers.log_distance[known]
        inside = distance - self._of_class(answers.labels[known])
        return max(
            _distance_between(self.log_odds, answers.log_odds),
            _distance_between(self.log_distance, distance),
            _distance_between(self.within_class, inside),
        )

    def _of_class(self, labels: npt.NDArray[np.int64]) -> Floats:
        return self.class_distance[np.minimum(labels, len(self.class_distance) - 1)]

    def guess(self, answers: Answers) -> Guess:
        """Return the accuracy over a window, told from its answers: at least one."""
        chances = self.chances(answers)
        mean = float(chances.mean())
        shift = self.shift(answers)
        # What chance does to the share of right answers among so few.
        noise = _TWO_SIDED * math.sqrt(max(mean * (1.0 - mean), 0.01) / len(chances))
        seen = self.error_ratio * (SLACK + shift)
        low = mean - math.hypot(max(seen, shift * mean), noise)
        high = mean + math.hypot(max(seen, shift * (1.0 - mean)), noise)
        return Guess(mean, max(0.0, low), min(1.0, high), chances)

    def estimate(self, answers: Answers) -> Performance:
        """Return the same for `health`, in words too."""
        n = len(answers)
        if n < _LEAST:
            return not_estimable(f"{n} of at least {_LEAST} inferences", expected=self.accuracy)
        found = self.guess(answers)
        text = (
            f"accuracy about {found.accuracy:.0%} ({found.low:.0%} to {found.high:.0%}), by the "
            f"confidences of the latest {n} answers; {self.accuracy:.0%} in calibration"
        )
        return Performance(
            "accuracy",
            found.accuracy,
            found.low,
            found.high,
            self.accuracy,
            "confidences",
            n,
            text=text,
        )

    def to_arrays(self) -> dict[str, Array]:
        """Return what `from_arrays` takes."""
        return {part.name: np.asarray(getattr(self, part.name)) for part in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> CorrectnessModel:
        """Read what `to_arrays` returned.

        Raises
        ------
        KeyError, TypeError, ValueError
            When it is not that.
        """
        floats = {name: array.astype(np.float64) for name, array in arrays.items()}
        return cls(
            coefficients=floats["coefficients"],
            centre=floats["centre"],
            spread=floats["spread"],
            class_distance=floats["class_distance"],
            log_odds=floats["log_odds"],
            log_distance=floats["log_distance"],
            within_class=floats["within_class"],
            error_ratio=float(floats["error_ratio"]),
            accuracy=float(floats["accuracy"]),
        )


def logistic(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))
