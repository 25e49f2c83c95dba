"""Which members sleep, and which are held at a weight: decided from how each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from selfheal_edge.causes import Cause

__all__ = ["Condition", "Standing", "stand"]

_DAMAGE: Final = frozenset({Cause.WEIGHT_CORRUPTION, Cause.RUNTIME_FAULT})
_MILDNESS: Final = {
    Cause.ADVERSARIAL_INPUT: 1,
    Cause.POISONING: 2,
    Cause.RUNTIME_FAULT: 4,
    Cause.WEIGHT_CORRUPTION: 5,
}
_DOUBT: Final = 3  # integrity that is being looked at
_SILENT: Final = 9  # it gives no answer


@dataclass(frozen=True, slots=True)
class Condition:
    """How one member is, as its own loop says."""

    cause: Cause | None = None
    """Of the trouble that goes on."""
    is_trusted: bool = True
    """Whether its own answers, or those of a spare, may be relied on."""
    is_explained: bool = True
    """Whether an alarm that waits for its diagnosis says why they may not be: every byte is checked
    at the first alarm, so that this is no doubt of its integrity."""
    on_trial: bool = False
    """Whether what it serves with, a repair or a model file, can still be taken back."""
    failure: str = ""
    """Why it gives no answer; empty where it does."""

    @property
    def is_damaged(self) -> bool:
        """Whether its bytes or its runtime are in doubt."""
        if self.is_trusted:
            return False  # also where a proven spare serves
        return self.cause in _DAMAGE or (self.cause is None and not self.is_explained)


@dataclass(frozen=True, slots=True)
class Standing:
    """What follows for each member."""

    asleep: tuple[bool, ...]
    reasons: tuple[str, ...]
    """Why it sleeps; empty for one that is awake and fit."""
    on_call: int | None = None
    """The member that serves although it should sleep, since all should: its answers are not
    trusted."""


def _why(condition: Condition, others: Sequence[Condition]) -> tuple[int, str]:
    """Return how bad it is, from 0, and why it should sleep; empty where it need not."""
    if condition.failure:
        return _SILENT, condition.failure
    if condition.is_damaged:
        if condition.cause is None:
            return _DOUBT, "its weights are being looked at"
        return _MILDNESS[condition.cause], f"{condition.cause.value} was named"
    if condition.cause is Cause.POISONING:
        return _MILDNESS[Cause.POISONING], "what it learns from is poisoned"
    if condition.cause is Cause.ADVERSARIAL_INPUT:
        fit = [one for one in others if not one.failure and not one.is_damaged]
        if not any(one.cause is Cause.ADVERSARIAL_INPUT for one in fit):
            return _MILDNESS[Cause.ADVERSARIAL_INPUT], "it is attacked, and no other is"
    return 0, ""


def stand(conditions: Sequence[Condition]) -> Standing:
    """Say who sleeps.

    A member sleeps while its integrity is in doubt, its runtime fails, what it learns from is
    poisoned, or it alone is attacked. If all should, the one with the mildest trouble serves.

    Parameters
    ----------
    conditions
        One a member.
    """
    found = [
        _why(one, [other for k, other in enumerate(conditions) if k != n])
        for n, one in enumerate(conditions)
    ]
    asleep = [bool(reason) for _, reason in found]
    on_call = None
    if all(asleep):
        on_call = min(range(len(found)), key=lambda n: found[n][0])
        asleep[on_call] = False
    return Standing(tuple(asleep), tuple(reason for _, reason in found), on_call)
