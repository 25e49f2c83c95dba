"""Put saved bytes back: the corrupt blocks, their modules, or the whole model."""

from __future__ import annotations

from typing import Literal

from selfheal_edge.integrity.weights import Weights
from selfheal_edge.repair.protocol import RepairCase, RepairOutcome, RepairTarget
from selfheal_edge.tflite.coverage.table import Coverage

__all__ = ["Rollback"]


def _needs_rebuild(weights: Weights, case: RepairCase) -> bool:
    """Whether the runtime may have copied bytes while they were corrupt."""
    touched = {n for block in case.corrupt if block.image == "source" for n in block.regions}
    return bool(touched) and any(
        row.coverage is not Coverage.EXECUTING
        for row in weights.coverage.rows
        if row.region.name in touched
    )


class Rollback:
    """Restore in place; rebuild where the runtime keeps copies.

    Blocks come from whatever verifies, copy or parity; modules and the model from the active
    generation, to the byte.

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
        rebuild = self._scope == "model" or _needs_rebuild(weights, case)
        if self._scope == "block":
            done = _heal_blocks(weights, case)
            if done is None:
                return RepairOutcome(False, "no copy and no parity verifies for all blocks")
        else:
            modules = case.modules if self._scope == "module" else None
            if modules == ():
                return RepairOutcome(False, "the corrupt blocks belong to no module")
            if not weights.generations:
                return RepairOutcome(False, "there are no snapshots")
            ranges = {name: i.ranges_of(modules) for name, i in weights.images.items()}
            report = weights.restore(weights.active, ranges)
            if report.refused:
                return RepairOutcome(
                    False, f"{report.refused} saved block(s) are damaged themselves"
                )
            done = f"{report.rewritten} block(s) restored from generation {weights.active}"
        if rebuild:
            target.rebuild()
        return RepairOutcome(True, done + (", runtime rebuilt" if rebuild else ""))


def _heal_blocks(weights: Weights, case: RepairCase) -> str | None:
    """Heal what the core has not healed yet; say what was done, or None if some resists."""
    late = [block for block in case.corrupt if block.source is None]
    done = [block for block in case.corrupt if block.source is not None]
    if late:
        done += weights.heal_blocks(late)
        if any(block.source is None for block in done):
            return None
    from_parity = sum(block.source == "parity" for block in done)
    from_file = sum(block.source == "file" for block in done)
    bits = sum(block.wrong_bits for block in done)
    parts = []
    count = len(done) - from_parity - from_file
    if count:
        parts.append(f"{count} block(s) restored from generation {weights.active}")
    if from_parity:
        parts.append(f"{from_parity} block(s) restored from parity")
    if from_file:
        parts.append(f"{from_file} block(s) restored from the file")
    return ", ".join(parts or ["no block was corrupt any more"]) + f" ({bits} wrong bits)"
