"""Conditions come and go, and with them what serves; part of `loop.decision`.

A repair that was learned belongs to its condition. When inputs have come to another one that is
known, that one's generation serves: at once, without a trial.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeAlias

from selfheal_edge.integrity.generations import GOLDEN
from selfheal_edge.loop import actions as do
from selfheal_edge.loop import incidents as heard
from selfheal_edge.loop.actions import Action
from selfheal_edge.loop.state import Learning, LoopState
from selfheal_edge.store.journal import EventKind

__all__ = [
    "PAUSE",
    "SAMPLES_TO_LEARN",
    "condition_known",
    "forgotten",
    "generation_seen",
    "leave",
    "switched",
]

Decision: TypeAlias = tuple[LoopState, tuple[Action, ...]]

SAMPLES_TO_LEARN: Final = 128
"""Predictions from which the charts learn the level of a repair's condition."""

_FLICKERS: Final = 8
_FLICKERS_IN: Final = 1024
"""So many passages within so many predictions are answered by as many without any."""

PAUSE: Final = 4096
"""Predictions before inputs are looked at again, where what should serve could not, or may not."""


def condition_known(state: LoopState, name: str) -> Decision:
    """Have the generation of a condition serve that inputs have come to."""
    if state.is_damaged:
        return replace(state, repair=None), ()
    if name == state.condition:
        return replace(state, repair=None, pending=()), ()
    if state.heal != "all" and (name or state.heal == "observe"):
        record = do.Record(EventKind.REGIME, outcome=f"would have switched to {name or 'golden'}")
        return _held_off(state), (record,)
    generation = next((r.generation for r in state.learned if r.condition == name), state.home)
    return state, (do.SwitchTo(generation, name),)


def _held_off(state: LoopState) -> LoopState:
    """Look at inputs again much later; what has alarmed is diagnosed as if none were known."""
    repair, number = state.repair, state.now.prediction
    told = () if repair is None else repair.alarms
    known = {alarm.signal for alarm in told}
    pending = (*told, *(alarm for alarm in state.pending if alarm.signal not in known))
    return replace(
        state,
        repair=None,
        pending=pending,
        diagnose_at=number + 1,
        looked_at=number + PAUSE,
    )


def _not_switched(state: LoopState, found: heard.Switched) -> Decision:
    """Go on with what serves; what is not held any more is not tried again."""
    record = do.Record(EventKind.REGIME, outcome=f"not switched: {found.text}")
    state = _held_off(state)
    if found.is_held:
        return state, (record,)
    gone = next((r for r in state.learned if r.condition == found.condition), None)
    if gone is None:
        # The user has dropped what served in normal operation; golden is always there.
        is_home = not found.condition and state.home != GOLDEN
        golden = (do.SwitchTo(GOLDEN, ""),) if is_home else ()
        return replace(state, home=GOLDEN), (record, *golden)
    others = tuple(r for r in state.learned if r is not gone)
    leaving = (*state.leaving, (gone.generation, gone.condition))
    state = replace(state, learned=others, leaving=leaving)
    return state, (record, do.Forget(gone.generation, gone.condition))


def switched(state: LoopState, found: heard.Switched) -> Decision:
    """Go on in a condition that is known, as if nothing had happened."""
    trouble = state.trouble
    if not found.is_sound:
        return _not_switched(state, found)
    if found.condition == state.condition:  # taken back
        is_flagged = state.trouble is not None or state.probation is not None
        state = replace(
            state,
            repair=None,
            pending=(),
            recovered_at=state.now.sample,
            trust=replace(state.trust, is_marked=is_flagged),
        )
        return state, (do.ResetMonitor(),)
    is_captured = not found.condition and _comes_and_goes(state)
    state = replace(
        state,
        switched_at=(*state.switched_at, state.now.prediction)[-_FLICKERS:],
        looked_at=state.now.prediction + _FLICKERS_IN if is_captured else state.looked_at,
        condition=found.condition,
        repair=None,
        trouble=None,
        pending=(),
        since=state.now.sample,
        learning=None,
        pause=state.policy.rediagnose_after,
        recovered_at=state.now.sample,
    )
    serving, has_moved = state.in_service, False
    if serving is not None:
        number = state.before + state.now.prediction
        others = tuple(r for r in state.learned if r is not serving)
        state = replace(state, learned=(*others, replace(serving, seen_last=number)))
        has_moved = found.is_learned and _was_left(state)
        if has_moved or not found.is_learned:
            until = state.now.prediction + SAMPLES_TO_LEARN
            again = Learning(state.now.sample, until, serving.condition, adds=has_moved)
            state = replace(state, learning=again)
    is_unproven = state.probation is not None or has_moved
    state = replace(state, trust=replace(state.trust, is_marked=is_unproven))
    record = do.Record(
        EventKind.REGIME,
        outcome=f"known: {found.condition or 'normal'}; {found.text}"
        + (f"; no other one is for {_FLICKERS_IN} predictions" if is_captured else ""),
    )
    if trouble is None:
        return state, (record, do.ResetMonitor())
    return state, (record, do.ResetMonitor(), do.Record(EventKind.RECOVERED, trouble.cause))


def _was_left(state: LoopState) -> bool:
    """Whether the charts had the condition left that its inputs say they have come back to.

    Night has fallen in a drift, say: the repair is still the one for it, and what the charts know
    of it is of the day alone. They would alarm again, and golden and the repair take turns.
    """
    return bool(state.hold) and state.now.prediction < state.left_at + PAUSE


def _comes_and_goes(state: LoopState) -> bool:
    """Whether conditions come and go as no world has them, but one who imitates them.

    Each passage takes time, and has some inputs answered by a repair that is not for them. What
    serves in normal operation then does so for a while.
    """
    latest = state.switched_at
    return len(latest) == _FLICKERS and state.now.prediction - latest[0] < _FLICKERS_IN


def leave(state: LoopState) -> tuple[Action, ...]:
    """Return what takes generations out of service that were taken back, and drops them."""
    actions: list[Action] = []
    for generation, condition in state.leaving:
        if state.now.generation == generation:
            serving = state.in_service
            to = state.home if serving is None else serving.generation
            actions.append(do.SwitchTo(to, state.condition))
        actions.append(do.Forget(generation, condition))
    return tuple(actions)


def forgotten(state: LoopState, generation: int) -> LoopState:
    """Take note that a generation is dropped."""
    leaving = tuple(one for one in state.leaving if one[0] != generation)
    return replace(state, leaving=leaving)


def generation_seen(state: LoopState) -> LoopState:
    """Take note of the generation that serves, where another than the loop has put it there."""
    serving, live = state.in_service, state.now.generation
    if live == (state.home if serving is None else serving.generation):
        return state
    now = (r for r in state.learned if live in (r.generation, r.confirmed))
    found = next(now, None)
    if found is not None:
        return replace(state, condition=found.condition)
    is_leaving = any(live == generation for generation, _ in state.leaving)
    return replace(state, condition="", home=state.home if is_leaving else live)
