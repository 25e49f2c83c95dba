"""Repairs that are learned, as part of `loop.decision`: from a proposal to its end.

1.  A cause that learning may help against, and enough inputs or labels: strategies *propose*
    (`propose`, `proposed`). Nothing better than leaving things as they are: it waits.
2.  What they propose is made a generation. It serves, *on probation* (`adopted`), and its
    condition is learned. Answers stay flagged.
3.  Labels that the device has asked for, where golden and the repair part, confirm or reject it
    (`labels_came`); other labels train it further.
4.  A rejection, or an alarm that no known condition explains, takes it back (`taken_back`): to
    what serves in normal operation, golden or what the user has put there (`LoopState.home`).

It belongs to its condition; `loop.passages` has that.

Like `decide`, all of it is pure: state and news in, state and actions out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from selfheal_edge.causes import Cause
from selfheal_edge.diagnosis.resource_attack import comes_back_at_once
from selfheal_edge.diagnosis.symptoms import Diagnosis
from selfheal_edge.learning.feedback import FeedbackRecord
from selfheal_edge.loop import actions as do
from selfheal_edge.loop import incidents as heard
from selfheal_edge.loop import passages
from selfheal_edge.loop.actions import Action
from selfheal_edge.loop.calm import Calm
from selfheal_edge.loop.learned_repair import LearnedRepair, condition_name
from selfheal_edge.loop.learning_pace import (
    ENOUGH_LABELS,
    MORE_INPUTS,
    begin_trial,
    put_off,
)
from selfheal_edge.loop.passages import PAUSE, SAMPLES_TO_LEARN
from selfheal_edge.loop.state import Learning, LoopState, Repair, Why
from selfheal_edge.store.failures import Failure, with_failure
from selfheal_edge.store.journal import EventKind
from selfheal_edge.trial.betting import Evidence

__all__ = [
    "adopted",
    "labels_came",
    "learn_more",
    "left",
    "may_learn",
    "propose",
    "proposed",
    "refines_at",
    "restarted",
    "rolled_back",
]

Decision: TypeAlias = tuple[LoopState, tuple[Action, ...]]

UNAUTHENTICATED: Final = "(unauthenticated)"
"""All sources without a key are one: names can be made up."""

_MORE_LABELS: Final = 32
"""So many more after labels have rejected a repair: who answers against what the device sees shall
not have it learn anew at once, from the same answers."""
_ENOUGH_TO_REOPEN: Final = 32
"""For another probation after a confirmation: answers are flagged until its end."""
_MOST_CONDITIONS: Final = 4
_MOST_GENERATIONS: Final = 32
_FIRST_HOLD: Final = 32


# ---- 1. A proposal


FROZEN: Final = "frozen, since troubles come back as fast as they are healed"
"""Why nothing is learned under a resource attack."""


def may_learn(state: LoopState, cause: Cause) -> str:
    """Return why nothing is learned for a cause now; empty: it may be."""
    if state.heal == "corruption":
        return "the policy restores damage alone (heal='corruption')"
    if comes_back_at_once(state.returns):
        return FROZEN
    waits = next((p for p in state.put_off if p.cause is cause), None)
    if waits is not None and state.now.prediction < waits.until and waits.labels < ENOUGH_LABELS:
        left = waits.until - state.now.prediction
        more = ENOUGH_LABELS - waits.labels
        return f"put off for {left} predictions, or until {more} more labels have come"
    return ""


def propose(state: LoopState, names: tuple[str, ...], diagnosis: Diagnosis) -> do.Propose:
    """Return the action that has strategies learn for a cause that was named."""
    return do.Propose(names, diagnosis, diagnosis.since or 0, _left_in_this_drift(state, diagnosis))


def _left_in_this_drift(state: LoopState, diagnosis: Diagnosis) -> int | None:
    """Return the generation whose condition was left for this one; None where all was normal.

    Night falls in a drift: what labels have said by day holds by night as well, or a candidate that
    has learned them is no better there than golden.
    """
    latest = max(state.learned, key=lambda r: r.seen_last, default=None)
    if latest is None or not state.hold or latest.diagnosis.cause is not diagnosis.cause:
        return None
    began = state.now.sample if diagnosis.since is None else diagnosis.since
    gap = began + state.now.prediction - state.now.sample - state.left_at
    return latest.generation if gap <= SAMPLES_TO_LEARN else None


def refines_at(state: LoopState) -> int | None:
    """Return the prediction at which the repair that serves is learned anew."""
    serving = state.in_service
    return None if serving is None else serving.refine_at


def learn_more(state: LoopState) -> Decision:
    """Learn what is due: the repair that serves anew, or for a trouble whose wait is over."""
    refine_at = refines_at(state) if state.learned else None
    if refine_at is not None and state.now.prediction >= refine_at and state.is_calm:
        return _refine(state)
    return _try_again(state)


def _refine(state: LoopState) -> Decision:
    """Learn the repair that serves anew: more inputs, or labels, have come."""
    serving = state.in_service
    if serving is None or state.repair is not None:
        return state, ()
    names = _learners(state, serving.diagnosis.cause)
    state = _with(state, replace(serving, labels=0, refine_at=None))
    is_frozen = comes_back_at_once(state.returns)
    if not names or state.heal != "all" or state.is_damaged or is_frozen:
        return state, ()
    state = replace(state, repair=Repair(Why.LABELS, diagnosis=serving.diagnosis))
    return state, (do.Propose(names, serving.diagnosis, state.since, serving.generation),)


def _learners(state: LoopState, cause: Cause) -> tuple[str, ...]:
    return tuple(name for name in state.policy.response(cause) if name in state.learners)


def _with(state: LoopState, changed: LearnedRepair) -> LoopState:
    """Return a state in which a learned repair is replaced, or added."""
    others = tuple(r for r in state.learned if r.condition != changed.condition)
    return replace(state, learned=(*others, changed))


def proposed(state: LoopState, found: heard.Proposed) -> Decision:
    """Adopt what strategies have learned, or wait."""
    repair = state.repair
    assert repair is not None
    assert repair.diagnosis is not None
    cause, strategy = repair.diagnosis.cause, "+".join(found.names)
    refined = state.in_service if repair.why is Why.LABELS else None
    if found.is_refused:
        return _refused(state, found, repair, cause)
    if found.patch is None or state.heal == "observe":
        would = "" if found.patch is None else f"would have served on probation: {found.text}"
        outcome = would or f"not applied: {found.text}"
        record = do.Record(
            EventKind.REPAIR, cause, found.evidence, strategy, outcome, details=found.details
        )
        if refined is None:  # more inputs may say more
            state = put_off(state, cause, first=MORE_INPUTS)
        if repair.why is Why.LABELS:
            state = replace(state, repair=None)
        return state, (record, do.Keep())  # a crash buys back neither time nor a try
    record = do.Record(
        EventKind.REPAIR,
        cause,
        found.evidence,
        strategy,
        f"learned: {found.text}",
        details=found.details,
    )
    if refined is None:
        # Should it take the process down, the next one waits before it tries again.
        state = put_off(replace(state, named=state.named + 1), cause)
    condition = condition_name(state.named) if refined is None else refined.condition
    since = state.since if refined else repair.diagnosis.since or 0
    adopt = do.Adopt(found.names, found.patch, condition, since, found.lesson)
    return state, (record, do.Keep(), adopt)


def _refused(state: LoopState, found: heard.Proposed, repair: Repair, cause: Cause) -> Decision:
    """Wait until what was learned could serve; say once why it cannot."""
    is_new = found.text != state.told
    if repair.why is Why.LABELS:
        state = replace(state, repair=None)
    if not (repair.why is Why.LABELS and state.in_service):
        state = put_off(state, cause, longer=False)
    if not is_new:
        return state, ()
    outcome = f"not applied: {found.text}"
    record = do.Record(EventKind.REPAIR, cause, strategy="+".join(found.names), outcome=outcome)
    return replace(state, told=found.text), (record,)


def _with_room(state: LoopState) -> Decision:
    """Forget what is on probation and was not seen for longest, where there is no other room.

    What labels have confirmed makes no room for what is only tried: there is one place more for
    that, or who provokes repairs would have those forgotten that are worth having.
    """
    tried = [r for r in state.learned if r.confirmed is None and r.condition != state.condition]
    confirmed = sum(r.confirmed is not None for r in state.learned)
    if len(state.learned) < max(_MOST_CONDITIONS, confirmed + 1) or not tried:
        return state, ()
    return _forgotten(state, min(tried, key=lambda r: r.seen_last))


def _with_fewer(state: LoopState) -> Decision:
    """Forget the confirmed repair that was not seen for longest, where there are too many."""
    confirmed = [r for r in state.learned if r.confirmed is not None]
    if len(confirmed) <= _MOST_CONDITIONS:
        return state, ()
    idle = [r for r in confirmed if r.condition != state.condition]
    return _forgotten(state, min(idle, key=lambda r: r.seen_last))


def _forgotten(state: LoopState, gone: LearnedRepair) -> Decision:
    actions: tuple[Action, ...] = (do.Forget(gone.generation, gone.condition),)
    if gone.confirmed is not None and not gone.is_confirmed:  # on a trial of its own
        state = replace(state, leaving=(*state.leaving, (gone.confirmed, None)))
        actions = (*actions, do.Forget(gone.confirmed, None))
    return _without(state, gone), actions


def _without(state: LoopState, gone: LearnedRepair) -> LoopState:
    learned = tuple(r for r in state.learned if r.condition != gone.condition)
    condition = "" if state.condition == gone.condition else state.condition
    leaving = (*state.leaving, (gone.generation, gone.condition))
    return replace(state, learned=learned, condition=condition, leaving=leaving)


def _failed(state: LoopState, name: str, reason: str) -> LoopState:
    number = state.before + state.now.prediction
    failed = Failure("repair", name, reason, prediction=number)
    return replace(state, failures=with_failure(state.failures, failed))


# ---- 2. On probation


def adopted(state: LoopState, found: heard.Adopted) -> Decision:
    """Begin the probation of what serves now, or go on with it after a refinement."""
    repair = state.repair
    assert repair is not None
    assert repair.diagnosis is not None
    diagnosis, strategy = repair.diagnosis, "+".join(found.names)
    refined = state.in_service if repair.why is Why.LABELS else None
    if found.generation is None:
        state = _failed(state, f"{strategy} for {diagnosis.cause.value}", found.text)
        record = do.Record(
            EventKind.REPAIR, diagnosis.cause, strategy=strategy, outcome=f"failed: {found.text}"
        )
        if repair.why is Why.LABELS:
            state = replace(state, repair=None)
        return state, (record,)
    number = state.before + state.now.prediction
    actions: tuple[Action, ...] = ()
    if refined is not None:
        served = replace(
            refined,
            seen_last=number,
            harm=found.harm,
            certificate=None,
        )
        if refined.is_confirmed:  # a trial of its own, against golden as well
            state, error = begin_trial(state)
            served = replace(
                served, generations=(found.generation,), error=error, evidence=Evidence()
            )
        else:
            generations = (*refined.generations, found.generation)[-_MOST_GENERATIONS:]
            served = replace(served, generations=generations)
            actions = (do.Forget(refined.generation, None),)
            state = replace(state, leaving=(*state.leaving, (refined.generation, None)))
    else:
        state, actions = _with_room(state)
        waits = tuple(p for p in state.put_off if p.cause is not diagnosis.cause)
        state, error = begin_trial(replace(state, put_off=waits))
        served = LearnedRepair(
            condition_name(state.named),
            diagnosis,
            (found.generation,),
            error,
            harm=found.harm,
            refine_at=state.now.prediction + MORE_INPUTS,
            seen_last=number,
        )
    learning = Learning(state.now.sample, state.now.prediction + SAMPLES_TO_LEARN, served.condition)
    state = replace(
        _with(state, served),
        repair=None,
        trouble=None,
        pending=(),
        condition=served.condition,
        since=state.since if refined else diagnosis.since or 0,
        learning=learning,
        recovered_at=state.now.sample,
        ended_at=state.now.sample,
        trust=replace(state.trust, is_marked=True),
        told="",
    )
    outcome = f"generation {served.generation} serves while {served.condition} lasts: {found.text}"
    record = do.Record(EventKind.PROBATION, diagnosis.cause, strategy=strategy, outcome=outcome)
    return state, (record, do.ResetMonitor(), *actions, do.Keep())


# ---- 3. Labels


def labels_came(state: LoopState, records: Sequence[FeedbackRecord]) -> Decision:
    """Take labels into the trial; then into the repair, where there are enough of them."""
    number = sum(r.label is not None and r.weight > 0 for r in records)
    waiting = tuple(replace(p, labels=p.labels + number) for p in state.put_off)
    state = replace(state, put_off=waiting)
    actions: tuple[Action, ...] = ()
    for repair in state.learned:
        if not repair.is_confirmed:
            state, more = _judged(state, repair, records)
            actions = (*actions, *more)
    serving = state.in_service
    if serving is None:
        state, more = _try_again(state)
        return state, (*actions, *more)
    if any(isinstance(a, do.Certify) and a.condition == serving.condition for a in actions):
        return state, actions  # it is confirmed, and begins to count anew
    state = _with(state, replace(serving, labels=serving.labels + number))
    enough = _ENOUGH_TO_REOPEN if serving.is_confirmed else ENOUGH_LABELS
    if serving.labels + number >= enough and state.is_calm:
        state, more = _refine(state)
        actions = (*actions, *more)
    return state, actions


def _judged(state: LoopState, repair: LearnedRepair, records: Sequence[FeedbackRecord]) -> Decision:
    """Count what labels say of one repair, and decide on it where they suffice."""
    evidence = repair.evidence
    for record in records:
        asked, label = record.question, record.label
        if asked is None or label is None or asked.generation not in repair.generations:
            continue
        if asked.answers_before:  # the same question again is the same coin again
            continue
        if not asked.is_decisive:
            continue
        new_right, old_right = asked.judged(label)
        evidence = evidence.with_label(
            record.source if record.authenticated else UNAUTHENTICATED,
            new_right=new_right,
            old_right=old_right,
        )
    if evidence is repair.evidence:
        return state, ()
    judged = replace(repair, evidence=evidence)
    state = _with(state, judged)
    match evidence.verdict(repair.error, state.policy.owner):
        case "confirm":
            return state, (do.Certify(judged.condition, judged.generation),)
        case "reject":
            return taken_back(state, judged, str(evidence), EventKind.REJECTED)
    return state, ()


def certified(state: LoopState, found: heard.Certified) -> Decision:
    """Confirm a repair that labels have borne out, with what they could not have changed."""
    for repair in state.learned:
        if (repair.condition, repair.generation) == (found.condition, found.generation):
            return _confirmed(state, replace(repair, certificate=found.certificate))
    return state, ()


def _confirmed(state: LoopState, repair: LearnedRepair) -> Decision:
    before = repair.confirmed
    settled = replace(repair, confirmed=repair.generation, labels=0, refine_at=None)
    state = _with(state, settled)
    cause, certificate = repair.diagnosis.cause, repair.certificate
    details: dict[str, Any] = {"evidence": repair.evidence.to_dict()}
    if certificate is not None:
        details["certificate"] = certificate.to_dict()
    record = do.Record(
        EventKind.CONFIRMED,
        cause,
        () if certificate is None else (str(certificate),),
        outcome=f"{repair.condition}: {repair.evidence}",
        details=details,
    )
    actions: tuple[Action, ...] = (do.Confirm(repair.generation), record)
    if before is not None:
        actions = (*actions, do.Forget(before, None))
        state = replace(state, leaving=(*state.leaving, (before, None)))
    state, more = _with_fewer(state)
    actions = (*actions, *more)
    if state.condition != repair.condition or not state.is_calm:
        return state, actions
    state = replace(state, trust=replace(state.trust, is_marked=False))
    return state, (*actions, do.Record(EventKind.RECOVERED, cause))


def _try_again(state: LoopState) -> Decision:
    """Have strategies learn for the trouble that goes on, once its wait is over."""
    trouble = state.trouble
    if trouble is None or state.is_damaged or state.repair is not None:
        return state, ()
    names = _learners(state, trouble.cause)
    has_waited = any(p.cause is trouble.cause for p in state.put_off)
    if not names or not has_waited or may_learn(state, trouble.cause):
        return state, ()
    state = replace(state, repair=Repair(Why.LABELS, diagnosis=trouble))
    return state, (propose(state, names, trouble),)


# ---- 4. Taken back


def taken_back(
    state: LoopState,
    repair: LearnedRepair,
    reason: str,
    kind: EventKind = EventKind.REVERTED,
) -> Decision:
    """End a repair on probation; its cause waits.

    What was confirmed before serves, or what does in normal operation.
    """
    is_served = state.condition == repair.condition
    cause, gone, last = repair.diagnosis.cause, repair.generation, repair.confirmed
    record = do.Record(
        kind,
        cause,
        outcome=f"{repair.condition}: {reason}",
        details={"evidence": repair.evidence.to_dict()},
    )
    fewer = -_MORE_LABELS if kind is EventKind.REJECTED else 0
    state = put_off(state, cause, labels=fewer)
    state = _failed(state, f"{repair.condition} for {cause.value}", reason)
    if last is not None:
        kept = replace(repair, generations=(last,), evidence=Evidence(), labels=0, refine_at=None)
        state = replace(_with(state, kept), leaving=(*state.leaving, (gone, None)))
        forget = do.Forget(gone, None)
        if not is_served:
            return state, (record, forget)
        return state, (record, do.SwitchTo(last, repair.condition), forget)
    state = _without(state, repair)
    forget = do.Forget(gone, repair.condition)
    if not is_served:
        return state, (record, forget)
    trouble = state.trouble or repair.diagnosis
    trust = replace(state.trust, is_marked=True)
    state = replace(
        state,
        learning=None,
        trouble=trouble,  # it goes on
        calm=Calm(),
        ended_at=None,
        pending=(),
        trust=trust,
    )
    return state, (record, do.SwitchTo(state.home, ""), forget)


def left(state: LoopState, reason: str) -> Decision:
    """Have serve what does in normal operation, since what alarms is no condition that is known.

    A repair that is confirmed stays for its condition; one on probation is taken back.
    """
    serving = state.in_service
    if serving is None:
        return state, ()
    actions: tuple[Action, ...] = ()
    if not serving.is_confirmed:
        state, actions = taken_back(state, serving, reason)
        if serving.confirmed is None:
            return state, actions
    # The charts of normal operation say what it is; meanwhile no condition may claim these inputs
    # again, and for longer each time, where that goes on.
    number = state.now.prediction
    goes_on = state.hold and number < state.left_at + 2 * PAUSE
    hold = min(2 * state.hold, PAUSE) if goes_on else _FIRST_HOLD
    state = replace(state, hold=hold, left_at=number, looked_at=number + hold)
    return state, (*actions, do.SwitchTo(state.home, ""))


def rolled_back(state: LoopState) -> Decision:
    """Forget all that was learned: the user has put something else there."""
    live = state.now.generation
    if any(live in (r.generation, r.confirmed) for r in state.learned):
        return state, ()
    actions: list[Action] = []
    for repair in state.learned:
        state = put_off(state, repair.diagnosis.cause)
        if repair.confirmed is not None and not repair.is_confirmed:
            state = replace(state, leaving=(*state.leaving, (repair.confirmed, None)))
            actions.append(do.Forget(repair.confirmed, None))
        state = _without(state, repair)
        actions.append(do.Forget(repair.generation, repair.condition))
    state = replace(state, learning=None, trust=replace(state.trust, is_marked=False))
    record = do.Record(EventKind.REVERTED, outcome="rolled back: what was learned is forgotten")
    return state, (record, *actions, do.Keep())


def restarted(state: LoopState, found: heard.Restarted) -> Decision:
    """Go on with what the process before has learned, as far as it has a gate and is proven.

    What was on probation is taken back, however the process ended, but for what the store has put
    back since the policy has it go on. A repair whose condition is not known any more would serve
    without an end: it goes, as does a generation that was learned and that no repair is known of.
    """
    state, actions = _without_gate(state, found)
    for repair in state.learned:
        if repair.is_confirmed:
            continue
        if repair.generation in found.generations and state.heal == "all":
            actions = (*actions, _goes_on(state, repair))
            continue
        reason = "the process ended while it was on probation"
        state, more = taken_back(state, repair, reason)
        actions = (*actions, *more)
    serving = state.probation
    if serving is not None:
        until = state.now.prediction + SAMPLES_TO_LEARN
        anew = Learning(state.now.sample, until, serving.condition)
        learning = None if found.before.knows_level else anew
        state = replace(state, learning=learning, trust=replace(state.trust, is_marked=True))
    return state, actions


def _goes_on(state: LoopState, repair: LearnedRepair) -> Action:
    outcome = (
        f"{repair.condition}: goes on after the process has ended, for time {repair.restarts} of "
        f"{state.policy.probation_restarts}: {repair.evidence}"
    )
    details = {"evidence": repair.evidence.to_dict()}
    return do.Record(EventKind.PROBATION, repair.diagnosis.cause, outcome=outcome, details=details)


def _without_gate(state: LoopState, found: heard.Restarted) -> Decision:
    actions: list[Action] = []
    why = f" ({found.problem})" if found.problem else ""
    for repair in state.learned:
        if repair.condition in found.conditions:
            continue
        if repair.confirmed is not None and not repair.is_confirmed:
            state = replace(state, leaving=(*state.leaving, (repair.confirmed, None)))
        state = _without(state, repair)
        outcome = (
            f"{repair.condition}: what tells its condition from others is lost{why}; it does not "
            "serve"
        )
        actions.append(do.Record(EventKind.REVERTED, repair.diagnosis.cause, outcome=outcome))
    for generation in found.before.unknown(found.generations):
        outcome = f"generation {generation} was learned, for a condition that is not known any more"
        actions.append(do.Record(EventKind.REVERTED, outcome=outcome))
    return state, (*actions, *passages.leave(state))
