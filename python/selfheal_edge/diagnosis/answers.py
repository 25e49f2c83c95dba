"""What the model makes of inputs, read as probabilities and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from selfheal_edge.diagnosis.layout import MOST, Floats
from selfheal_edge.diagnosis.profile import Profile

__all__ = ["Answers", "Prober", "distances", "own_distance", "strangeness"]

_NEIGHBOURS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the model makes of some inputs."""

    outputs: Floats
    """Probabilities, shape (n, classes), two classes at least."""
    embeddings: Floats | None
    """Real or raw, but always the same; shape (n, width)."""

    @classmethod
    def of(
        cls,
        outputs: npt.NDArray[Any],
        quantization: tuple[float, int],
        kind: str,
        embeddings: npt.NDArray[Any] | None,
    ) -> Answers:
        """Read raw tensors.

        Parameters
        ----------
        outputs
            Output 0 of n inferences, shape (n, ...). A single sigmoid is the probability of class 1
            of two.
        quantization
            Its scale and zero point; 1 and 0 for real numbers.
        kind
            ``"probabilities"`` or ``"logits"``.
        embeddings
            Shape (n, ...), taken as they are; None without any.
        """
        scale, zero_point = quantization
        values = outputs.reshape(len(outputs), -1).astype(np.float32)
        values = np.nan_to_num((values - np.float32(zero_point)) * np.float32(min(scale, MOST)))
        values = np.clip(values, -MOST, MOST)
        if values.shape[1] == 1:
            if kind == "logits":
                values = 1 / (1 + np.exp(-values))
            values = np.concatenate([1 - values, values], axis=1)
        elif kind == "logits":
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
        inside = None
        if embeddings is not None:
            inside = embeddings.reshape(len(embeddings), -1).astype(np.float32)
            inside = np.clip(np.nan_to_num(inside), -MOST, MOST)
        return cls(values, inside)

    @property
    def labels(self) -> npt.NDArray[np.intp]:
        """Most likely classes."""
        return np.asarray(self.outputs.argmax(axis=1), np.intp)

    @property
    def margins(self) -> Floats:
        """Largest less second largest."""
        top = np.partition(self.outputs, -2, axis=1)[:, -2:]
        return top[:, 1] - top[:, 0]


class Prober(Protocol):
    """Asks the model about inputs beside the stream, within a budget."""

    def __call__(self, inputs: npt.NDArray[Any], /) -> Answers | None:
        """Run raw inputs, shape (n, *shape of one); None where the budget does not allow it."""
        ...


def distances(profile: Profile, embeddings: Floats) -> Floats:
    """Return root mean square distances to each class, in its spread: shape (n, classes)."""
    scaled = embeddings / profile.embedding_sd
    centres = profile.centroids / profile.embedding_sd
    squares = np.square(scaled).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)[None]
    return np.asarray(
        np.sqrt(np.maximum(squares - 2 * scaled @ centres.T, 0) / scaled.shape[1]), np.float32
    )


def own_distance(profile: Profile, answers: Answers) -> Floats:
    """Return the distance of each answer's embedding to the centre of the class it names."""
    assert answers.embeddings is not None
    far = distances(profile, answers.embeddings)
    return np.asarray(far[np.arange(len(far)), answers.labels], np.float32)


def strangeness(profile: Profile, answers: Answers) -> Floats:
    """Return each margin times the share of neighbours with another label, shape (n,)."""
    assert answers.embeddings is not None
    here = answers.embeddings / profile.embedding_sd
    there = profile.neighbours / profile.embedding_sd
    squares = np.square(here).sum(axis=1)[:, None] + np.square(there).sum(axis=1)[None]
    count = min(_NEIGHBOURS, len(there))
    nearest = np.argpartition(squares - 2 * here @ there.T, count - 1, axis=1)[:, :count]
    strange = (profile.neighbour_labels[nearest] != answers.labels[:, None]).mean(axis=1)
    return np.asarray(strange * answers.margins, np.float32)
