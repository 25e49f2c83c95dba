"""Inputs that repairs in service were learned from, for learning them again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.samples import Sample, SampleShape, SampleTable

__all__ = ["LESSON_INPUTS", "LessonInputs"]

LESSON_INPUTS: Final = "labels.lessons"
"""The row of a store that holds them."""

_MOST: Final = 1024


class LessonInputs:
    """The inputs of lessons, each once, in fixed memory.

    Parameters
    ----------
    shape
        What samples look like.
    budget_bytes
        For all of them; at most 1024 are held.
    clock
        Monotonic seconds.
    guard
        Makes the context in which no other thread changes it.

    Notes
    -----
    Where there is no room for all, those of the latest lesson stay. A repair whose inputs are gone
    cannot be learned again; it can be taken back.
    """

    def __init__(
        self,
        shape: SampleShape,
        budget_bytes: int,
        *,
        clock: Callable[[], float],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.table = SampleTable(SampleShape(shape.inputs, 0), budget_bytes, most=_MOST)
        self._clock = clock
        self._guard = guard

    def __len__(self) -> int:
        return len(self.table)

    @property
    def memory_bytes(self) -> int:
        """Bytes, whether used or not."""
        return self.table.memory_bytes

    def hold(self, lesson: Lesson, needed: Collection[int]) -> bool:
        """Hold a lesson's inputs; return whether all of them are held.

        Parameters
        ----------
        lesson
            With its inputs.
        needed
            Ids that other lessons need: of these the oldest go first where room is short.
        """
        if lesson.inputs is None:
            return False
        with self._guard():
            mine = set(lesson.window.tolist())
            self._keep(mine | set(needed))
            if len(mine) > self.table.capacity:
                self._keep(set(needed))
                return False
            now = self._clock()
            for id, row in zip(lesson.window.tolist(), lesson.inputs, strict=True):
                if self.table.find(id) is None:
                    self.table.put(self._place(mine), Sample(id, (row,), now))
            return True

    def _place(self, mine: Collection[int]) -> int:
        free = self.table.free()
        if free is not None:
            return free
        return next(
            int(row) for row in self.table.used if int(self.table.rows["id"][row]) not in mine
        )

    def _keep(self, ids: Collection[int]) -> None:
        for row in self.table.used:
            if int(self.table.rows["id"][row]) not in ids:
                self.table.clear(int(row))

    def keep_only(self, ids: Collection[int]) -> None:
        """Forget all inputs but these."""
        with self._guard():
            self._keep(ids)

    def find(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any] | None:
        """Return copies of inputs, shape (n, ...); None unless all of them are held."""
        with self._guard():
            found = []
            for id in ids.tolist():
                row = self.table.find(id)
                if row is None or not self.table.rows["has_input"][row]:
                    return None
                inputs = self.table.get(row).inputs
                assert inputs is not None
                found.append(inputs[0])
            return np.stack(found) if found else None
