"""What people or other systems say of answers: the record that a diagnosis reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Feedback"]


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """What one source says of one answer."""

    source: str
    predicted: int
    """The class that the model named."""
    label: int | None
    """The class that the source says is right; None where it says right or wrong alone."""
    correct: bool
    """Whether the source agrees with the model."""
    embedding: npt.NDArray[np.float32] | None = None
    """Shape (width,): where the input lies, as the profile's neighbours do."""
    is_ordinary: bool = True
    """Whether the input looks like the calibration's."""

    @classmethod
    def of_label(
        cls,
        source: str,
        predicted: int,
        label: int,
        embedding: npt.NDArray[np.float32] | None = None,
        *,
        is_ordinary: bool = True,
    ) -> Feedback:
        """Return one that names a class."""
        inside = None if embedding is None else np.asarray(embedding, np.float32).reshape(-1)
        return cls(source, predicted, label, predicted == label, inside, is_ordinary)
