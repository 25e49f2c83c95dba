"""What was learned from a source that is revoked goes, and is learned again without it.

Part of `loop.decision`, and pure like it. In this order, so that whenever the process ends the
store has what was before, or nothing that was learned from what is revoked:

1.  Samples go from the pool, and the store is told that they were revoked (`loop.revoking`).
2.  Every generation that was learned from them leaves, and what serves in normal operation takes
    the place of one that serves (`revoked`).
3.  All of that is written.
4.  Each repair is learned again from what is left, and begins a probation (`learned_again`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from selfheal_edge.integrity.generations import GOLDEN
from selfheal_edge.loop import actions as do
from selfheal_edge.loop import incidents as heard
from selfheal_edge.loop.actions import Action
from selfheal_edge.loop.adaptation import UNAUTHENTICATED
from selfheal_edge.loop.learned_repair import LearnedRepair
from selfheal_edge.loop.learning_pace import MORE_INPUTS, begin_trial, put_off
from selfheal_edge.loop.passages import SAMPLES_TO_LEARN
from selfheal_edge.loop.state import Learning, LoopState
from selfheal_edge.store.journal import EventKind
from selfheal_edge.trial.betting import Evidence

__all__ = ["learned_again", "revoked"]

Decision: TypeAlias = tuple[LoopState, tuple[Action, ...]]


def revoked(state: LoopState, found: heard.Revoked) -> Decision:
    """Take out of service what was learned from what is revoked, and judge the rest without it."""
    told: list[Action] = [
        do.Record(EventKind.REVOKED, outcome=found.what, details=found.details),
    ]
    after: list[Action] = []
    again: list[Action] = []
    for repair in state.learned:
        tainted = [g for g in _generations(repair) if g in found.tainted]
        if not tainted:
            state, more = _judged_without(state, repair, found)
            told += more
            continue
        is_served = state.condition == repair.condition
        why, lesson = found.tainted[tainted[0]]
        outcome = f"{repair.condition}: generation {tainted[0]}: {why}"
        told.append(do.Record(EventKind.REVERTED, repair.diagnosis.cause, outcome=outcome))
        state, more = _taken_out(state, repair)
        after += more
        again.append(
            do.LearnAgain(repair.condition, repair.diagnosis, tainted[0], lesson, is_served)
        )
    known = {gone for gone, _ in state.leaving}
    if state.home in found.tainted:  # what the user has put there was learned as well
        state = replace(state, home=GOLDEN)
        after = [do.SwitchTo(GOLDEN, "")] if not state.condition else []
        after += [do.Forget(gone, None) for gone in known & set(found.tainted)]
    for gone in sorted(set(found.tainted) - known):  # saved states of the same weights
        state = replace(state, leaving=(*state.leaving, (gone, None)))
        after.append(do.Forget(gone, None))
        outcome = f"generation {gone}: {found.tainted[gone][0]}"
        told.append(do.Record(EventKind.REVERTED, outcome=outcome))
    return state, (*told, do.Keep(), *after, *again)


def _generations(repair: LearnedRepair) -> tuple[int, ...]:
    both = repair.generation, repair.confirmed
    return tuple(dict.fromkeys(g for g in both if g is not None))


def _taken_out(state: LoopState, repair: LearnedRepair) -> Decision:
    """Have a repair serve no more; its condition stays known until it is learned again, or not."""
    others = tuple(r for r in state.learned if r.condition != repair.condition)
    gone = _generations(repair)
    state = replace(
        state, learned=others, leaving=(*state.leaving, *((number, None) for number in gone))
    )
    forget = tuple(do.Forget(number, None) for number in gone)
    if state.condition != repair.condition:
        return state, forget
    state = replace(
        state,
        condition="",
        learning=None,
        pending=(),
        trouble=state.trouble or repair.diagnosis,
        trust=replace(state.trust, is_marked=True),
    )
    return state, (do.SwitchTo(state.home, ""), *forget)


def _judged_without(state: LoopState, repair: LearnedRepair, found: heard.Revoked) -> Decision:
    """Count what labels said of a repair without those that are revoked."""
    evidence = repair.evidence
    if found.source is not None:
        name = found.source if found.is_authenticated else UNAUTHENTICATED
        evidence = evidence.without_source(name)
    else:
        for record in found.judged:
            asked = record.question
            if asked is None or asked.generation not in repair.generations:
                continue
            if asked.answers_before or not asked.is_decisive or record.label is None:
                continue
            new_right, old_right = asked.judged(record.label)
            evidence = evidence.without_label(
                record.source if record.authenticated else UNAUTHENTICATED,
                new_right=new_right,
                old_right=old_right,
            )
    if evidence == repair.evidence:
        return state, ()
    judged = replace(repair, evidence=evidence)
    is_still = evidence.verdict(repair.error, state.policy.owner) == "confirm"
    if repair.is_confirmed and not is_still:
        judged = replace(judged, confirmed=None)
    others = tuple(r for r in state.learned if r.condition != repair.condition)
    state = replace(state, learned=(*others, judged))
    if judged.is_confirmed == repair.is_confirmed:
        return state, ()
    if state.condition == repair.condition:
        state = replace(state, trust=replace(state.trust, is_marked=True))
    outcome = f"{repair.condition}: on probation again, without what is revoked: {evidence}"
    return state, (do.Record(EventKind.PROBATION, repair.diagnosis.cause, outcome=outcome),)


def learned_again(state: LoopState, found: heard.LearnedAgain) -> Decision:
    """Begin the probation of what was learned again, or leave its condition."""
    cause = found.diagnosis.cause
    if found.generation is None:
        outcome = f"{found.condition}: not learned again: {found.text}"
        record = do.Record(EventKind.REVERTED, cause, outcome=outcome)
        state = put_off(state, cause)  # what is learned next is learned from other inputs
        return state, (record, do.Forget(found.gone, found.condition), do.Keep())
    state, error = begin_trial(state)
    number = state.now.prediction
    repair = LearnedRepair(
        found.condition,
        found.diagnosis,
        (found.generation,),
        error,
        Evidence(),
        harm=found.harm,
        refine_at=number + MORE_INPUTS if found.serves else None,
        seen_last=state.before + number,
    )
    state = replace(state, learned=(*state.learned, repair))
    outcome = f"{found.condition}: learned again as generation {found.generation}: {found.text}"
    record = do.Record(EventKind.PROBATION, cause, outcome=outcome)
    if not found.serves:
        return state, (record, do.Keep())
    state = replace(
        state,
        trouble=None,
        pending=(),
        condition=found.condition,
        learning=Learning(state.now.sample, number + SAMPLES_TO_LEARN, found.condition),
        recovered_at=state.now.sample,
        trust=replace(state.trust, is_marked=True),
    )
    return state, (record, do.ResetMonitor(), do.Keep())
