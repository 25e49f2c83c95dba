"""Build the runtime's instance anew: heals what it keeps in memory of its own."""

from __future__ import annotations

from selfheal_edge.repair.protocol import RepairCase, RepairOutcome, RepairTarget

__all__ = ["Rebuild"]


class Rebuild:
    """Rebuild from the source bytes, if those are sound."""

    name = "rebuild"
    heals = True

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:  # noqa: ARG002
        """Check the source and rebuild."""
        corrupt = target.weights.check()
        if any(block.image == "source" for block in corrupt):
            return RepairOutcome(False, "the source bytes are corrupt")
        target.rebuild()
        return RepairOutcome(True, "runtime rebuilt from verified bytes")
