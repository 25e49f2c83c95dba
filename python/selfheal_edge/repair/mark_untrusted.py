"""The mildest response: go on serving, and say that the answers cannot be relied on."""

from __future__ import annotations

from selfheal_edge.repair.protocol import RepairCase, RepairOutcome, RepairTarget

__all__ = ["MarkUntrusted"]


class MarkUntrusted:
    """Flag answers until the trouble is over."""

    name = "mark_untrusted"
    heals = False

    def apply(self, target: RepairTarget, case: RepairCase) -> RepairOutcome:  # noqa: ARG002
        """Mark the model's answers."""
        target.mark_untrusted()
        return RepairOutcome(True, "answers are marked untrusted until the signals settle")
