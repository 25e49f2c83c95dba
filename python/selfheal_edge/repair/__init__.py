"""Repairs: one strategy a file, listed once, in `repair.kit`."""

from selfheal_edge.repair.kit import ModelRepairKit
from selfheal_edge.repair.protocol import RepairCase, RepairOutcome, RepairTarget, Strategy

__all__ = ["ModelRepairKit", "RepairCase", "RepairOutcome", "RepairTarget", "Strategy"]
