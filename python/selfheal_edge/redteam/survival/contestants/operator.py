"""What an operator does without us: a cron job that restarts, and an alarm on mean confidence."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final

import numpy as np

from selfheal_edge.hashing import sha256
from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.contestant import Told
from selfheal_edge.redteam.survival.contestants.undefended import Undefended
from selfheal_edge.redteam.survival.world import World

__all__ = ["MeanConfidence", "Operator"]


class MeanConfidence:
    """An alarm that many devices have: the mean of the latest answers' confidence fell.

    Parameters
    ----------
    world
        Its calibration samples, by day and by night, say what is usual.
    """

    WINDOW: Final = 128
    DEVIATIONS: Final = 5.0
    """Standard errors of the mean of a window: one false alarm in weeks."""

    def __init__(self, world: World) -> None:
        self._output = world.golden.output
        usual = [self._values(world.golden.run(x)) for x in _both(world)]
        self._least = min(
            float(v.mean() - self.DEVIATIONS * v.std() / np.sqrt(self.WINDOW)) for v in usual
        )
        self._latest: deque[float] = deque(maxlen=self.WINDOW)

    def hears(self, outputs: Raw) -> bool:
        """Take the answers to more inputs; return whether it alarms."""
        self._latest.extend(self._values(outputs).tolist())
        is_full = len(self._latest) == self.WINDOW
        return is_full and not float(np.mean(self._latest)) >= self._least

    def forget(self) -> None:
        """Begin anew."""
        self._latest.clear()

    def _values(self, outputs: Raw) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return confidences; without classes, how near its answers lie to each other."""
        if self._output.kind == "classifier":
            return np.asarray(self._output.scores(outputs).max(axis=1))
        real = self._output.real(outputs)
        return np.asarray(-np.abs(real - np.median(real, axis=0)).mean(axis=1))


def _both(world: World) -> tuple[Raw, Raw]:
    return world.calibration, world.night(world.calibration)


class Operator(Undefended):
    """The bare model, restarted by the hour from a file that is held to its hash."""

    name = "operator"

    def __init__(self, world: World, folder: Path) -> None:
        super().__init__(world, folder)
        self._hash = sha256(self.model_file.read_bytes())
        self._alarm = MeanConfidence(world)

    def watch(self, raw: Raw, outputs: Raw) -> None:
        """Tell the operator, who is asleep."""
        del raw
        if self._alarm.hears(outputs):
            self.told.append(Told(self.predictions, "alarm"))
            self._alarm.forget()

    def hour_begins(self) -> None:
        """Restart."""
        self.restart(clean=True)

    def restart(self, *, clean: bool) -> None:
        """Load the file anew if it is still the one that was shipped."""
        if sha256(self.model_file.read_bytes()) != self._hash:
            self.told.append(Told(self.predictions, "alarm", None, "the file was changed"))
            return
        super().restart(clean=clean)
