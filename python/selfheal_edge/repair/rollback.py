"""Put saved bytes back: the corrupt blocks, their modules, or the whole model."""

from __future__ import annotations

from typing import Literal

from selfheal_edge.repair.protocol import RepairCase, RepairOutcome, RepairTarget
from selfheal_edge.tflite.protocol import Coverage
from selfheal_edge.weights import Weights

__all__ = ["Rollback"]


def _needs_rebuild(weights: Weights, case: RepairCase) -> bool:
    """Whether the runtime may have copied bytes while they were corrupt."""
    touched = {n for block in case.corrupt if block.image == "source" for n in block.regions}
    return any(
        row.coverage is not Coverage.EXECUTING
        for row in weights.coverage.rows
        if row.region.name in touched
    )


class Rollback:
    """Restore from the active generation, in place; rebuild where the runtime keeps copies.

    Parameters
    ----------
    scope
        How much to put back.
    """

    heals = True

    def __init__(self, scope: Literal["block", "module", "model"]) -> None:
        self._scope = scope
        self.name = f"rollback_{scope}"

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
        """Restore the blocks in scope."""
        weights = target.weights
        if not case.corrupt and self._scope != "model":
            return RepairOutcome(False, "no block is corrupt")
        ranges: dict[str, list[tuple[int, int]]] = {}
        if self._scope == "block":
            for block in case.corrupt:
                ranges.setdefault(block.image, []).append((block.block, 1))
        else:
            modules = case.modules if self._scope == "module" else None
            if modules == ():
                return RepairOutcome(False, "the corrupt blocks belong to no module")
            for name, image in weights.images.items():
                ranges[name] = image.blocks_of(modules)
        report = weights.restore(weights.active, ranges)
        if report.refused:
            return RepairOutcome(False, f"{report.refused} saved block(s) are damaged themselves")
        rebuild = self._scope == "model" or _needs_rebuild(weights, case)
        if rebuild:
            target.rebuild()
        done = f"{report.rewritten} block(s) restored from generation {weights.active}"
        return RepairOutcome(True, done + (", runtime rebuilt" if rebuild else ""))
