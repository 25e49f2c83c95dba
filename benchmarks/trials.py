"""What trials confirm: harmful repairs among those confirmed, and the power against real gains.

    python benchmarks/trials.py --json docs/benchmarks/trials.json

Verdicts are those of `trial.betting` after each label (its capital for all counts, in a table), at
the largest error that the loop allows one trial: a year's allowance only makes it smaller.
Simulated are the repairs (how often golden and the repair part, and which of them is right there)
and who labels. What is expected at most is exact: the chain of all counts of honest labels.

A label is *wanted* where it is drawn among answers on which the two part, and *random* where it is
drawn among all.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from harness import Row, arguments, report
from selfheal_edge.loop.learning_pace import LARGEST_ERROR as ERROR
from selfheal_edge.trial import betting
from selfheal_edge.trial.betting import _REJECTS as REJECTS
from selfheal_edge.trial.betting import Evidence, Tally, Verdict

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

PROPOSALS: Final = 10_000
HARMFUL: Final = 0.9
MOST_LABELS: Final = 256
GAINS: Final = (0.03, 0.05, 0.10, 0.15, 0.25)
LABELS: Final = (16, 32, 64, 128)
PARTS_BEYOND: Final = 0.10
"""Share of answers, beyond the gain, on which a repair of the power's tables parts from golden."""
OWNER: Final = 0
_AT_ONCE: Final = 500
_COMPARED: Final = 5
"""Repairs of each batch whose verdict is the project's own, asked with the same tallies."""


class Repairs(NamedTuple):
    """Simulated repairs: of all inputs, the shares on which golden and the repair part."""

    wins: Floats
    """The repair alone is right."""
    losses: Floats
    """Golden alone is right."""
    parts: Floats
    """The two part, whether one of them is right or none."""


class Reporters(NamedTuple):
    """Who answers questions."""

    shares: tuple[float, ...]
    """Of the labels, by source."""
    liar: int | None = None
    """The source that always names the repair's answer."""
    owner: int | None = None
    """The source that the policy names."""


HONEST: Final = Reporters((0.25, 0.25, 0.25, 0.25))
ONE_OWNER: Final = Reporters((1.0,), owner=OWNER)
TENTH: Final = Reporters((0.1, 0.3, 0.3, 0.3), liar=0)
TENTH_LIES: Final = "a liar with a tenth"
HALF: Final = Reporters((0.5, 0.25, 0.25), liar=0)


def proposals(rng: np.random.Generator, count: int, *, hard: bool) -> Repairs:
    """Return repairs of which nine in ten cost 2 points or more; the others gain 3 to 25.

    The hard ones cost exactly 2 points and part from golden on up to 40 % of inputs, so that each
    label says as little as it may.
    """
    gain = rng.uniform(0.03, 0.25, count)
    harmful = int(HARMFUL * count)
    gain[:harmful] = -0.02 if hard else -rng.uniform(0.02, 0.20, harmful)
    beyond = rng.uniform(0.02, 0.38, count)
    both_wrong = beyond * rng.uniform(0.0, 0.5, count)
    even = (beyond - both_wrong) / 2
    wins, losses = even + np.maximum(gain, 0), even + np.maximum(-gain, 0)
    return Repairs(wins, losses, wins + losses + both_wrong)


def of_gain(gain: float, count: int) -> Repairs:
    """Return repairs alike, with this gain."""
    even = np.full(count, PARTS_BEYOND / 2)
    return Repairs(even + gain, even, 2 * even + gain)


def verdict(tallies: list[tuple[int, int]], owner: int | None) -> Verdict | None:
    """Return what the project's code decides on counts by source."""
    told = ((f"source {k}", Tally(*one)) for k, one in enumerate(tallies) if any(one))
    return Evidence(tuple(told)).verdict(ERROR, None if owner is None else f"source {owner}")


def tried(
    rng: np.random.Generator,
    repairs: Repairs,
    reporters: Reporters,
    labels: int = MOST_LABELS,
    *,
    wanted: bool = True,
    errors_of: str = "",
) -> npt.NDArray[np.str_]:
    """Return what became of each repair: "confirm", "reject" or "" where labels did not suffice.

    Parameters
    ----------
    errors_of
        Count a label only where "golden" or the "repair" was wrong, as if reports of errors
        decided.
    """
    count = len(repairs.wins)
    source = rng.choice(len(reporters.shares), (count, labels), p=reporters.shares)
    among = repairs.parts if wanted else np.ones(count)
    draw = rng.random((count, labels)) * among[:, None]
    new = draw < repairs.wins[:, None]
    old = ~new & (draw < (repairs.wins + repairs.losses)[:, None])
    if errors_of == "golden":
        old &= False
    elif errors_of == "repair":
        new &= False
    elif reporters.liar is not None:
        lies = (source == reporters.liar) & (draw < repairs.parts[:, None])
        new, old = new | lies, old & ~lies
    became = np.full(count, "", "U7")
    for first in range(0, count, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        mine = source[part, :, None] == np.arange(len(reporters.shares))
        won = np.cumsum(mine & new[part, :, None], axis=1)
        lost = np.cumsum(mine & old[part, :, None], axis=1)
        became[part] = decided(won, lost, reporters.owner)
    return became


def decided(won: Counts, lost: Counts, owner: int | None) -> npt.NDArray[np.str_]:
    """Return the first verdict on each repair, from counts of shape (repairs, labels, sources)."""
    table = capitals()
    new, old = won.sum(axis=2, keepdims=True), lost.sum(axis=2, keepdims=True)
    others = [n for n in range(won.shape[2]) if n != owner]
    for_it = table[new[..., 0], old[..., 0]] >= 1.0 / ERROR
    if others:
        for_it &= (table[new - won, old - lost][..., others] >= 1.0 / ERROR).all(axis=2)
    against = table[old[..., 0], new[..., 0]] >= REJECTS
    against &= (table[old - lost, new - won] >= 1.0).all(axis=2)
    ends = for_it | against
    first = np.where(ends.any(axis=1), ends.argmax(axis=1), won.shape[1] - 1)
    rows = np.arange(len(won))
    became = np.where(against[rows, first], "reject", np.where(for_it[rows, first], "confirm", ""))
    for k in range(min(_COMPARED, len(won))):
        tallies = list(zip(won[k, first[k]].tolist(), lost[k, first[k]].tolist(), strict=True))
        if (verdict(tallies, owner) or "") != became[k]:
            raise AssertionError(
                f"expected {verdict(tallies, owner)} on {tallies}, got {became[k]}"
            )
    return became


@functools.cache
def capitals() -> Floats:
    """Return the project's capital for all counts, shape (labels + 1, labels + 1)."""
    counts = range(MOST_LABELS + 1)
    return np.array([[betting.capital(new, old) for old in counts] for new in counts])


def crossing(odds: float, labels: int) -> float:
    """Return the chance that so many decisive labels confirm, exactly: by the chain of counts."""
    table, crossed = capitals(), 0.0
    alive = np.zeros(labels + 1)
    alive[0] = 1.0
    for n in range(1, labels + 1):
        after = alive * (1 - odds)
        after[1:] += alive[:-1] * odds
        over = np.flatnonzero(table[np.arange(n + 1), n - np.arange(n + 1)] >= 1.0 / ERROR)
        crossed += float(after[over].sum())
        after[over] = 0.0
        alive = after
    return crossed


def exact_rows(name: str, repairs: Repairs) -> list[Row]:
    """Return how many harmful repairs are confirmed on average, at most, whatever one source says.

    What is confirmed holds without the liar: then the other sources' decisive labels alone have
    crossed, and there are at most as many as are asked.
    """
    count = len(repairs.wins)
    harmful = int(HARMFUL * count)
    picked = np.linspace(0, harmful - 1, min(harmful, 300)).astype(int)
    odds = repairs.wins[picked] / (repairs.wins[picked] + repairs.losses[picked])
    mean = float(np.mean([crossing(float(p), MOST_LABELS) for p in odds]))
    return [Row(f"{name}: harmful confirmed, expected at most", harmful * mean, "", None, False)]


def harm(name: str, rng: np.random.Generator, count: int, reporters: Reporters) -> list[Row]:
    """Return how much harm is among what is confirmed."""
    rows = []
    for hard in (False, True):
        repairs = proposals(rng, count, hard=hard)
        became = tried(rng, repairs, reporters)
        case = f"{name}{', 2 points each' * hard}"
        rows += harm_rows(case, became, has_target=True, has_none=name == TENTH_LIES)
        rows += exact_rows(case, repairs)
    return rows


def harm_rows(
    name: str, became: npt.NDArray[np.str_], *, has_target: bool, has_none: bool = False
) -> list[Row]:
    """Return the figures of one population of repairs, nine in ten of which are harmful."""
    harmful = np.arange(len(became)) < int(HARMFUL * len(became))
    confirmed = became == "confirm"
    share = float(harmful[confirmed].mean()) if confirmed.any() else 0.0
    target = 1.0 if has_target else None
    return [
        Row(f"{name}: harmful among confirmed", 100 * share, "%", target, False),
        Row(
            f"{name}: harmful confirmed",
            int(confirmed[harmful].sum()),
            "",
            0.0 if has_none else None,
            False,
        ),
        Row(f"{name}: confirmed", int(confirmed.sum()), "", None, True),
        Row(
            f"{name}: good ones confirmed",
            100 * float(confirmed[~harmful].mean()),
            "%",
            None,
            True,
        ),
        Row(
            f"{name}: good ones rejected",
            100 * float((became[~harmful] == "reject").mean()),
            "%",
            None,
            False,
        ),
    ]


def power(rng: np.random.Generator, count: int) -> list[Row]:
    """Return how often real gains are confirmed."""
    rows = []
    for who, reporters in (("an owner", ONE_OWNER), ("four sources", HONEST)):
        for wanted in (True, False):
            for labels in LABELS:
                kind = "wanted" if wanted else "random"
                for gain in GAINS:
                    became = tried(rng, of_gain(gain, count), reporters, labels, wanted=wanted)
                    name = f"{labels} {kind} labels, {who}: gain of {100 * gain:.0f} points"
                    share = 100 * float((became == "confirm").mean())
                    rows.append(Row(name, share, "%", None, True))
    return rows


def main() -> None:
    """Print the tables."""
    options = arguments(__doc__)
    rng = np.random.default_rng(17)
    count = 400 if options.quick else PROPOSALS
    rows = [Row("error allowed one trial", 100 * ERROR, "%", None, False)]
    for name, reporters in (
        ("honest", HONEST),
        ("honest, an owner alone", ONE_OWNER),
        (TENTH_LIES, TENTH),
        ("a liar with half", HALF),
    ):
        rows += harm(name, rng, count, reporters)
    for errors_of in ("golden", "repair"):
        became = tried(rng, proposals(rng, count, hard=False), HONEST, errors_of=errors_of)
        name = f"if reports of errors of the {errors_of} counted"
        rows += harm_rows(name.replace("the golden", "golden"), became, has_target=False)
    rows += power(rng, 100 if options.quick else 1000)
    report(rows, options.json)


if __name__ == "__main__":
    main()
