"""What befalls a device, and when: phases on an axis of simulated days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfheal_edge.redteam.survival.attack import Attack
from selfheal_edge.redteam.survival.world import HOURS

__all__ = ["Phase", "Plan", "alone"]

_BEFORE, _AFTER = 0.5, 1.0
"""Quiet days before an attack that is met alone, and after it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One attack, for some days.

    Parameters
    ----------
    attack
        What is done.
    first_day
        When it begins, 0 or more: whole hours.
    days
        How long it lasts.
    strength
        1: as it is meant.
    share
        Of the device's inputs that are the attacker's; None: as the attack has it.
    """

    attack: Attack
    first_day: float
    days: float
    strength: float = 1.0
    share: float | None = None

    @property
    def first_hour(self) -> int:
        """The first one of the attack."""
        return round(self.first_day * HOURS)

    @property
    def hours(self) -> int:
        """How long it lasts: one at least."""
        return max(1, round(self.days * HOURS))

    @property
    def end(self) -> int:
        """The first hour after it."""
        return self.first_hour + self.hours


@dataclass(frozen=True, slots=True)
class Plan:
    """A life: phases that may overlap, in order of their beginning.

    Raises
    ------
    ValueError
        For phases beyond the last day, and out of order.
    """

    name: str
    days: float
    phases: Sequence[Phase]

    def __post_init__(self) -> None:
        """Check the order."""
        firsts = [phase.first_hour for phase in self.phases]
        if firsts != sorted(firsts):
            raise ValueError(f"phases: expected an order by first day, got {self.name!r}'s")
        for phase in self.phases:
            if phase.first_hour < 0 or phase.end > self.hours:
                raise ValueError(
                    f"phases: expected {phase.attack.name!r} within days 0 to {self.days:g}, got "
                    f"{phase.first_day:g} to {phase.first_day + phase.days:g}"
                )

    @property
    def hours(self) -> int:
        """Of the whole life."""
        return round(self.days * HOURS)


def alone(attack: Attack, *, days: float | None = None, strength: float = 1.0) -> Plan:
    """Return the plan of one attack between a quiet half day and a quiet day.

    Parameters
    ----------
    attack
        Which one.
    days
        In place of its own.
    strength
        1: as it is meant.
    """
    lasts = attack.days if days is None else days
    phase = Phase(attack, _BEFORE, lasts, strength)
    return Plan(attack.name, _BEFORE + lasts + _AFTER, (phase,))
