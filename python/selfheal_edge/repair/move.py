"""Serve from other memory, where the same place has failed twice."""

from __future__ import annotations

from selfheal_edge.errors import IntegrityError
from selfheal_edge.repair.protocol import RepairCase, RepairOutcome, RepairTarget

__all__ = ["Move"]


class Move:
    """Put the weights into fresh memory and leave the old unused."""

    name = "move"
    heals = True

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:
        """Move all images, unless they have moved too often."""
        target.weights.heal_blocks(case.corrupt)
        try:
            where = target.move()
        except IntegrityError as error:
            return RepairOutcome(False, str(error))
        return RepairOutcome(True, f"weights moved to fresh memory; kept unused: {where}")
