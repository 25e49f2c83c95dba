"""What is kept of the latest inferences, for questions after an alarm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["RecentSamples"]


@dataclass(frozen=True, slots=True, eq=False)
class RecentSamples:
    """Copies of raw tensors of the latest inferences, oldest first.

    Of n <= 256 inferences, the inputs of the latest m <= n: the last row of each array belongs to
    the latest inference, row -k to the k-th latest. An inference that failed has no row; of one
    that was served anew after a repair the row has the answer that was given.
    """

    inputs: tuple[Array, ...]
    """One per measured input, in the model's order: shape (m, \\*input's without a leading 1)."""
    outputs: Array | None
    """Output 0 of a classifier: shape (n, classes); zeros where it had another size than usual.
    None for other models, and for more than 4 KiB an inference."""
    embeddings: Array | None
    """The embedding: shape (n, width); None without one, and for more than 4 KiB an inference."""
    labels: npt.NDArray[np.int64]
    """Classes that the model named: shape (n,); -1: none."""

    def __len__(self) -> int:
        """Return n, the number of inferences."""
        return len(self.labels)
