"""Which generation gave which answer."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["GenerationLog"]

_MOST_SWITCHES: Final = 64


class GenerationLog:
    """What answered, of the latest 64 exchanges; used under the inference lock."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int]] = deque([(1, 0)], maxlen=_MOST_SWITCHES)

    @property
    def now(self) -> int:
        """The generation that answers."""
        return self._runs[-1][1]

    def note(self, number: int, generation: int) -> None:
        """Take note of what answers after inference `number`."""
        if self._runs[-1][1] != generation:
            self._runs.append((number + 1, generation))

    def of_all(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return what gave each of several answers: shape (n,)."""
        firsts, generations = (np.array(part, np.int64) for part in zip(*self._runs, strict=True))
        at = np.searchsorted(firsts, numbers, side="right") - 1
        found: npt.NDArray[np.int64] = generations[np.maximum(at, 0)]
        return found

    def of(self, number: int) -> int:
        """Return what gave an answer."""
        runs = [generation for first, generation in self._runs if first <= number]
        return runs[-1] if runs else self._runs[0][1]
