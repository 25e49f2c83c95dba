"""Read what a user revokes, and say what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from selfheal_edge.learning.claims import read_ids
from selfheal_edge.learning.revocation import Revocation
from selfheal_edge.learning.sources import UNAUTHENTICATED, FeedbackSource
from selfheal_edge.loop.executor import LoopExecutor
from selfheal_edge.text import LIST, shown

__all__ = ["revoke"]

_MOST_IDS: Final = 1024


def revoke(loop: LoopExecutor, source: FeedbackSource | str | None, id: Any) -> Revocation:
    """Do what `SelfHealingModel.revoke` says; called under the maintenance lock."""
    if source is not None:
        return _revoke_source(loop, source)
    ids = tuple(read_ids(id))
    if not 1 <= len(ids) <= _MOST_IDS:
        raise ValueError(f"id: expected 1 to {_MOST_IDS} at once, got {len(ids)}")
    return _revoke_ids(loop, ids)


def _revoke_source(loop: LoopExecutor, source: FeedbackSource | str) -> Revocation:
    labels = loop.labels
    labels.sources.named(source)  # raises for what is none
    name = source if isinstance(source, str) else source.name
    if not labels.knows(name):
        known = shown([*labels.sources.names, UNAUTHENTICATED], LIST)
        text = (
            f"no source {name!r} is known, so that nothing was learned from it: known are {known}"
        )
        return Revocation(name, (), text)
    is_repeated = name in labels.sources.revoked
    found = loop.revoke(f"source {name!r}", name, ())
    before = "was revoked before; " if is_repeated else ""
    return replace(found, text=f"source {name!r}: {before}{_done(found)}")


def _revoke_ids(loop: LoopExecutor, ids: tuple[int, ...]) -> Revocation:
    labels = loop.labels
    unknown = [one for one in ids if not labels.may_know(one)]
    known = tuple(one for one in ids if one not in unknown)
    if not known:
        return Revocation(None, ids, f"no prediction of this model has {_named(ids)}")
    is_repeated = labels.intake.revoked.issuperset(known)
    found = loop.revoke(_named(known), None, known)
    before = "revoked before; " if is_repeated else ""
    text = f"{_named(known)}: {before}{_done(found)}"
    if unknown:
        text += f"; no prediction of this model has {_named(unknown)}"
    return replace(found, ids=ids, text=text)


def _named(ids: Sequence[int]) -> str:
    return f"the id {ids[0]}" if len(ids) == 1 else f"{len(ids)} ids"


def _done(found: Revocation) -> str:
    if not found:
        return "nothing that is held was learned from it: no sample, no label, no generation"
    parts = [f"{len(found.samples)} sample(s) left the pool, {found.labels} label(s) do not count"]
    if found.taken_back:
        parts.append(f"generation(s) {shown(list(found.taken_back), LIST)} are gone")
    if found.learned_again:
        again = shown(list(found.learned_again), LIST)
        parts.append(f"learned again without it, on probation: {again}")
    elif found.taken_back:
        parts.append("nothing was learned again")
    return ", ".join(parts)
