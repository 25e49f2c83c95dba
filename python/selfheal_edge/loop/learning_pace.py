"""How often repairs are learned, and how much all their trials may err; part of `loop.decision`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from selfheal_edge.causes import Cause
from selfheal_edge.loop.learned_repair import Putoff
from selfheal_edge.loop.state import LoopState

__all__ = ["ENOUGH_LABELS", "LARGEST_ERROR", "MORE_INPUTS", "begin_trial", "put_off"]

ENOUGH_LABELS: Final = 16
"""Labels that end a wait, or that the repair which serves is learned anew from."""
MORE_INPUTS: Final = 256
"""Predictions after which more inputs are worth learning anew."""
LARGEST_ERROR: Final = 0.005
_FIRST_PAUSE: Final = 1024
_LONGEST_PAUSE: Final = 64 * _FIRST_PAUSE


def put_off(
    state: LoopState,
    cause: Cause,
    *,
    longer: bool = True,
    first: int = _FIRST_PAUSE,
    labels: int = 0,
) -> LoopState:
    """Wait with this cause: twice as long as the time before, unless labels have ended that."""
    was = next((p for p in state.put_off if p.cause is cause), None)
    longer = longer and was is not None and was.labels < ENOUGH_LABELS
    pause = first if was is None else min((1 + longer) * was.pause, _LONGEST_PAUSE)
    others = tuple(p for p in state.put_off if p.cause is not cause)
    return replace(
        state, put_off=(*others, Putoff(cause, state.now.prediction + pause, pause, labels))
    )


def begin_trial(state: LoopState) -> tuple[LoopState, float]:
    """Return what a new trial may err, taken from the year's allowance."""
    left = state.allowed
    error = min(LARGEST_ERROR, left / 2)
    now = max(state.now.second, state.allowed_at)  # a clock that swings brings nothing back
    return replace(state, allowance=left - error, allowed_at=now), error
