"""A model as most devices have it: the runtime, and nothing else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Raw
from selfheal_edge.redteam.survival.clock import SimulatedClock
from selfheal_edge.redteam.survival.contestant import Answers, Asked, Costs, Told
from selfheal_edge.redteam.survival.plain import PlainModel
from selfheal_edge.redteam.survival.world import World
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.session import ModelSource

__all__ = ["Undefended"]

_REMEMBERED: Final = 256


class Undefended:
    """The bare model; also what the two that heal otherwise are made from.

    Parameters
    ----------
    world
        What it lives in.
    folder
        Its flash.
    """

    name = "undefended"

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.clock = SimulatedClock()
        self.told: list[Told] = []
        self.predictions = 0
        self._cpu = 0.0
        self.model_file.write_bytes(ModelFile.of(world.model).data)
        self.plain = self._open(self.model_file)
        self._recent: deque[tuple[int, Raw, int]] = deque(maxlen=_REMEMBERED)

    def _open(self, model: ModelSource) -> PlainModel:
        return self.world.opened(model)

    @property
    def model_file(self) -> Path:
        """The file that it starts from."""
        return self.folder / "model.tflite"

    @property
    def store_file(self) -> Path | None:
        """It keeps nothing."""
        return None

    def serve(self, raw: Raw) -> Answers:
        """Answer n inputs."""
        began = time.process_time()
        outputs = self.plain.run(raw)
        labels = self.plain.output.labels(outputs)
        ids = self.predictions + np.arange(len(raw))
        self.clock.pass_(len(raw) * self.world.life.seconds_per_prediction)
        self.predictions += len(raw)
        self.watch(raw, outputs)
        self._cpu += time.process_time() - began
        for n in range(len(raw)):
            self._recent.append((int(ids[n]), raw[n], int(labels[n])))
        return Answers(outputs, labels, np.ones(len(raw), bool), ids)

    def watch(self, raw: Raw, outputs: Raw) -> None:
        """Look at what was served: nothing does."""

    def run_aside(self, raw: Raw) -> Raw:
        """Return the raw outputs that it would give now."""
        return self.plain.run(raw)

    def serves(self) -> str:
        """Name what serves now."""
        return "golden"

    def hour_begins(self) -> None:
        """Do nothing."""

    def is_worried(self) -> bool:
        """Whether it says so: never."""
        return False

    def wanted(self, limit: int) -> Sequence[Asked]:
        """Ask nothing."""
        del limit
        return ()

    def feedback(self, label: Any, id: int, source: str, *, authenticated: bool = False) -> bool:
        """Take nothing in."""
        del label, id, source, authenticated
        return False

    def memory(self, image: str = "executing") -> npt.NDArray[np.uint8] | None:
        """Return a writable view of live bytes; None where it has none."""
        return self.plain.memory(image)

    def report(self) -> dict[str, Any]:
        """Return what it tells: nothing."""
        return {}

    def restart(self, *, clean: bool) -> None:
        """Load the file anew, whatever it holds; one that does not load leaves the old one."""
        del clean
        try:
            fresh = self._open(self.model_file)
        except Exception:
            self.told.append(Told(self.predictions, "restart", None, "failed"))
            return
        self.plain.close()
        self.plain = fresh

    def costs(self) -> Costs:
        """Return what it has cost so far."""
        return Costs(self._cpu)

    def close(self) -> None:
        """Release the runtime's memory."""
        self.plain.close()
