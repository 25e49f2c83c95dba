"""A trial of new against old: which labels decide it, and when they have.

Only a *decisive* label tells the two apart: exactly one of them was right. If the new state is no
better, each decisive label is at most a fair coin. A bettor who stakes on the new one multiplies
the stake by twice the odds bet on whenever it wins; averaged over several odds, that capital is a
martingale under "no better", so it ever reaches 1 / error with a probability of at most that error,
however often it is looked at (Ville's inequality). The same bet with the sides exchanged rejects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

__all__ = ["MOST_SOURCES", "OTHERS", "Evidence", "Tally", "Verdict", "capital"]

_ODDS: Final = (0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90)
_STAKES: Final = tuple(part / 30 for part in (2, 4, 6, 6, 6, 4, 1, 1))
"""Of a stake of 1, what is bet at each of the odds: most of it where real gains lie. Gains of 5 to
15 points, on answers that part on 10 points more, have odds of 0.67 to 0.8; a bet at 0.9 wins by a
short run of luck."""
_REJECTS: Final = 10.0
"""Capital at which the mirrored bet rejects: going back to golden by mistake costs little."""

MOST_SOURCES: Final = 32
"""Sources that are told apart in one trial; those of more count together."""
OTHERS: Final = "(others)"

Verdict: TypeAlias = Literal["confirm", "reject"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Decisive labels of one source."""

    new: int = 0
    """The new state was right, the old one wrong."""
    old: int = 0
    """The other way round."""


def capital(new: int, old: int) -> float:
    """Return what a stake of 1 on the new state has become: 1 on average if it is no better.

    Parameters
    ----------
    new, old
        Decisive labels that the new state, or the old one, has won: at least 0.

    Examples
    --------
    >>> capital(0, 0)
    1.0
    >>> round(capital(20, 4), 1)
    133.8
    """
    if new < 0 or old < 0:
        raise ValueError(f"new, old: expected counts of at least 0, got {new} and {old}")
    logs = [new * math.log(2 * p) + old * math.log(2 * (1 - p)) for p in _ODDS]
    most = max(logs)
    shares = (part * math.exp(v - most) for part, v in zip(_STAKES, logs, strict=True))
    return math.exp(min(700.0, most)) * sum(shares)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What labels have said in one trial. Immutable; a few bytes a source."""

    tallies: tuple[tuple[str, Tally], ...] = ()
    """By source, in the order in which they came."""
    asked: int = 0
    """Labels that were drawn where new and old part, decisive or not."""

    def with_label(self, source: str, *, new_right: bool, old_right: bool) -> Evidence:
        """Return the evidence with one more label.

        Parameters
        ----------
        source
            Where the label comes from.
        new_right, old_right
            Whether the new and the old state named the class that the label names.

        Notes
        -----
        Only labels that were asked for, drawn before the answer was known, among answers on which
        the two part: of errors that are reported, every decisive one favours the new state.
        """
        evidence = replace(self, asked=self.asked + 1)
        if new_right == old_right:
            return evidence
        known = dict(self.tallies)
        if source not in known and len(known) >= MOST_SOURCES:
            source = OTHERS
        was = known.get(source, Tally())
        known[source] = Tally(was.new + new_right, was.old + old_right)
        return replace(evidence, tallies=tuple(known.items()))

    def without_source(self, source: str) -> Evidence:
        """Return the evidence without all that one source has said."""
        known = {name for name, _ in self.tallies}
        gone = source if source in known else OTHERS  # it may have been counted among those
        return replace(self, tallies=tuple(t for t in self.tallies if t[0] != gone))

    def without_label(self, source: str, *, new_right: bool, old_right: bool) -> Evidence:
        """Return the evidence without one label that `with_label` has counted."""
        known = dict(self.tallies)
        was = known.get(source)
        if was is None or new_right == old_right:
            return self
        known[source] = Tally(max(0, was.new - new_right), max(0, was.old - old_right))
        return replace(self, tallies=tuple(known.items()))

    @property
    def total(self) -> Tally:
        """Decisive labels of all sources."""
        return Tally(sum(t.new for _, t in self.tallies), sum(t.old for _, t in self.tallies))

    @property
    def weakest(self) -> float:
        """The capital without the source that has helped the new state most; 1 with one source."""
        total = self.total
        without = [capital(total.new - t.new, total.old - t.old) for _, t in self.tallies]
        return min((*without, capital(total.new, total.old)))

    def verdict(self, error: float, owner: str | None = None) -> Verdict | None:
        """Return what the labels decide so far; None: nothing yet.

        Parameters
        ----------
        error
            Allowed probability that a state which is no better is ever confirmed, above 0.
        owner
            A source whose word needs no second one; else the verdict has to hold without any one.
        """
        total = self.total
        if capital(total.old, total.new) >= _REJECTS:
            # One liar among others who say the contrary has nothing that is good taken back.
            rest = (capital(total.old - t.old, total.new - t.new) for _, t in self.tallies)
            return "reject" if min(rest) >= 1.0 else None
        if capital(total.new, total.old) < 1.0 / error:
            return None
        # Whatever one source has said may be false: all others together have to say the same.
        others = (t for source, t in self.tallies if source != owner)
        without = (capital(total.new - t.new, total.old - t.old) for t in others)
        return "confirm" if min(without, default=math.inf) >= 1.0 / error else None

    def __str__(self) -> str:
        total = self.total
        return (
            f"{total.new} of {total.new + total.old} decisive labels for it, from "
            f"{len(self.tallies)} source(s); {capital(total.new, total.old):.3g} to 1, "
            f"{self.weakest:.3g} to 1 without any one source"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"asked": self.asked, "tallies": [[s, t.new, t.old] for s, t in self.tallies]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Evidence:
        """Read what `to_dict` returned.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that.
        """
        tallies = tuple((str(s), Tally(int(new), int(old))) for s, new, old in fields["tallies"])
        if any(t.new < 0 or t.old < 0 for _, t in tallies) or len(tallies) > MOST_SOURCES + 1:
            raise ValueError("tallies: expected counts of at least 0, of few sources")
        return cls(tallies, int(fields["asked"]))
