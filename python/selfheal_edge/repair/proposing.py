"""Have strategies that learn build on each other, and pick one of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.selection import Proposal, choose
from selfheal_edge.learning.without import without
from selfheal_edge.repair.protocol import LearningStrategy, is_costly

__all__ = ["propose"]


def propose(
    material: Material, strategies: Sequence[LearningStrategy], owner: str | None = None
) -> Proposal:
    """Return what is to serve, golden if nothing better.

    What was learned from labels of others than the owner has to hold without the word of any one
    of them (`learning.without`). If it does not, of those sources without whose word it does not
    hold the one that it hangs on most is left out, and so on: without any, it is what is proposed
    on the owner's word, or without labels.

    Parameters
    ----------
    material
        What is known of the condition.
    strategies
        In the order of `Policy.responses`.
    owner
        The source whose word needs no second one.
    """
    trusted = set() if owner is None else {owner}
    kept = sorted(set(material.labelled.sources) - trusted)
    if not kept:
        return _best(material, strategies)
    plain: Proposal | None = None
    told: tuple[str, ...] = ()
    while kept:
        heard = material.of_sources(trusted.union(kept))
        found = _best(heard, strategies)
        if found.patch is None:
            return replace(found, evidence=(*told, *found.evidence))
        if plain is None:
            plain = _best(material.of_sources(trusted), strategies)
        beside = heard.golden if plain.patch is None else plain.patch
        fares = [without(heard, source, found.patch, beside) for source in kept]
        if all(one.holds for one in fares):
            evidence = (*told, *found.evidence, *map(str, fares))
            return replace(found, evidence=evidence, sources=frozenset(trusted.union(kept)))
        worst = min((o for o in fares if not o.holds), key=lambda one: one.over_golden)
        told = (*told, f"{'+'.join(found.names)} is not taken: {worst}")
        kept.remove(worst.source)
    assert plain is not None, "there was a source"
    return replace(plain, evidence=(*told, *plain.evidence), sources=frozenset(trusted))


def _best(material: Material, strategies: Sequence[LearningStrategy]) -> Proposal:
    """Return the best of what strategies make, each upon what those before it made.

    Every stage is a candidate. What begins at golden without the first of them is one as well:
    alignment is wrong where inputs have not moved. What takes seconds builds on the best of all.
    """
    costly = [strategy for strategy in strategies if is_costly(strategy)]
    strategies = [strategy for strategy in strategies if not is_costly(strategy)]
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
    for strategy in costly:
        if found.patch is None:
            break
        made = strategy.propose(material, found.patch)
        if isinstance(made, str):
            refused[strategy.name] = made
            continue
        candidates.append(("+".join((*found.names, strategy.name)), made))
        found = choose(material, candidates)
    reasons = tuple(f"{name}: {why}" for name, why in refused.items())
    return Proposal(
        found.patch, found.names, (*reasons, *found.evidence), found.gain, found.details
    )
