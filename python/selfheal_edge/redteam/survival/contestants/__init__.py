"""The four that live side by side: ours, and what a device has without us."""

from selfheal_edge.redteam.survival.contestants.entry import enter

__all__ = ["enter"]
