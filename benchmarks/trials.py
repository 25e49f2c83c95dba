"""What trials confirm: harmful repairs among those confirmed, and the power against real gains.

    python benchmarks/trials.py --json docs/benchmarks/trials.json

Verdicts are those of `trial.betting`, asked after each label, at the largest error that the loop
allows one trial: a year's allowance only makes it smaller. Simulated are the repairs (how often
golden and the repair part, and which of them is right there) and who labels.

A label is *wanted* where it is drawn among answers on which the two part, and *random* where it is
drawn among all.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from harness import Row, arguments, report
from selfheal_edge.loop.adaptation import _LARGEST_ERROR as ERROR
from selfheal_edge.trial import betting
from selfheal_edge.trial.betting import Evidence, Tally, Verdict

betting.capital = functools.cache(betting.capital)  # the same counts come again and again

Floats = npt.NDArray[np.float64]

PROPOSALS: Final = 10_000
HARMFUL: Final = 0.9
MOST_LABELS: Final = 256
GAINS: Final = (0.03, 0.05, 0.10, 0.15, 0.25)
LABELS: Final = (16, 32, 64, 128)
PARTS_BEYOND: Final = 0.10
"""Share of answers, beyond the gain, on which a repair of the power's tables parts from golden."""
OWNER: Final = 0


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
    for k in range(count):
        tallies = [(0, 0)] * len(reporters.shares)
        for at in np.flatnonzero(new[k] | old[k]):
            who = source[k, at]
            won, lost = tallies[who]
            tallies[who] = (won + 1, lost) if new[k, at] else (won, lost + 1)
            if decided := verdict(tallies, reporters.owner):
                became[k] = decided
                break
    return became


def harm(name: str, rng: np.random.Generator, count: int, reporters: Reporters) -> list[Row]:
    """Return how much harm is among what is confirmed."""
    rows = []
    for hard in (False, True):
        became = tried(rng, proposals(rng, count, hard=hard), reporters)
        rows += harm_rows(f"{name}{', 2 points each' * hard}", became, has_target=True)
    return rows


def harm_rows(name: str, became: npt.NDArray[np.str_], *, has_target: bool) -> list[Row]:
    """Return the figures of one population of repairs, nine in ten of which are harmful."""
    harmful = np.arange(len(became)) < int(HARMFUL * len(became))
    confirmed = became == "confirm"
    share = float(harmful[confirmed].mean()) if confirmed.any() else 0.0
    target = 1.0 if has_target else None
    return [
        Row(f"{name}: harmful among confirmed", 100 * share, "%", target, False),
        Row(f"{name}: harmful confirmed", int(confirmed[harmful].sum()), "", None, False),
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
        ("a liar with a tenth", TENTH),
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
