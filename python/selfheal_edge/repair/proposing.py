"""Have strategies that learn build on each other, and pick one of the results."""

from __future__ import annotations

from collections.abc import Sequence

from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.selection import Proposal, choose
from selfheal_edge.repair.protocol import LearningStrategy

__all__ = ["propose"]


def propose(material: Material, strategies: Sequence[LearningStrategy]) -> Proposal:
    """Return what is to serve, golden if nothing better.

    Each strategy extends what those before it made; every stage is a candidate. What begins at
    golden without the first of them is one as well: alignment is wrong where inputs have not moved.

    Parameters
    ----------
    material
        What is known of the condition.
    strategies
        In the order of `Policy.responses`.
    """
    candidates: list[tuple[str, Patch]] = []
    refused: dict[str, str] = {}
    for first in range(min(2, len(strategies))):
        patch, names = material.golden, ""
        for strategy in strategies[first:]:
            made = strategy.propose(material, patch)
            if isinstance(made, str):
                refused[strategy.name] = made
                continue
            names = f"{names}+{strategy.name}" if names else strategy.name
            patch = made
            if all(name != names for name, _ in candidates):
                candidates.append((names, patch))
    candidates.sort(key=lambda found: found[0].count("+"))
    found = choose(material, candidates)
    reasons = tuple(f"{name}: {why}" for name, why in refused.items())
    return Proposal(
        found.patch, found.names, (*reasons, *found.evidence), found.gain, found.details
    )
