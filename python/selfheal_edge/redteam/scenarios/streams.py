"""Streams to serve: first a stretch of normal operation, then one of a scenario."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Domain, Raw
from selfheal_edge.redteam.scenarios.gentle import vary
from selfheal_edge.redteam.scenarios.scenario import Ask, Scenario

__all__ = ["CHANGED", "CLEAN", "Crafted", "Stream", "craft", "stream"]

CLEAN: Final = 128
CHANGED: Final = 256


class Stream(NamedTuple):
    """What is served, and what is wrong with it."""

    scenario: Scenario
    inputs: Raw
    """Shape (n, *sample)."""
    onset: int
    """Index of the first sample after normal operation."""
    strength: float = 1.0
    share: float = 1.0
    """Of the samples from the onset on that were changed."""
    flipped: float | None = None
    """Of the samples that an attacker made, the share whose answer differs from the natural one;
    None where he made none."""


class Crafted(NamedTuple):
    """A pool whose samples an attacker has changed, one by one."""

    inputs: Raw
    flipped: npt.NDArray[np.bool_]
    """Whether the model answers otherwise than to the natural sample."""
    strength: float


def craft(
    scenario: Scenario,
    domain: Domain,
    pool: Raw,
    ask: Ask,
    rng: np.random.Generator,
    strength: float | None = None,
) -> Crafted:
    """Attack every sample of a pool once, so that many streams can be drawn from it."""
    if strength is None:
        strength = float(rng.uniform(*scenario.strengths))
    changed = scenario.apply(pool, rng, domain=domain, strength=strength, ask=ask, pool=pool)
    flipped = ask(changed).argmax(1) != ask(pool).argmax(1)
    return Crafted(changed, np.asarray(flipped, bool), strength)


def _drawn(
    count: int, pool: Raw, domain: Domain, rng: np.random.Generator
) -> tuple[Raw, npt.NDArray[np.int64]]:
    """Return samples in random order, each once while there are enough, then varied; and rows."""
    rows = np.concatenate([rng.permutation(len(pool)) for _ in range(-(-count // len(pool)))])[
        :count
    ]
    drawn = pool[rows].copy()
    if count > len(pool):
        drawn[len(pool) :] = domain.raw(vary(domain.real(drawn[len(pool) :]), domain, rng))
    return drawn, rows


def stream(
    scenario: Scenario,
    domain: Domain,
    pool: Raw,
    rng: np.random.Generator,
    *,
    labels: npt.ArrayLike | None = None,
    clean: int = CLEAN,
    changed: int = CHANGED,
    strength: float | None = None,
    share: float = 1.0,
    ask: Ask | None = None,
    crafted: Crafted | None = None,
) -> Stream:
    """Draw a stream from a pool that calibration did not see.

    Parameters
    ----------
    scenario
        What happens from the onset on.
    domain
        Of the inputs.
    pool, labels
        Raw samples of normal operation, and their classes.
    rng
        Order, places, strengths.
    clean, changed
        Samples before and after the onset. More than the pool holds come again, slightly varied.
    strength, share, ask
        As in `Scenario.apply`.
    crafted
        The pool as an attacker changed it, from `craft`. He sends what misleads the model before
        what does not, and each once.
    """
    given = np.asarray(pool)
    inputs, rows = _drawn(clean + changed, given, domain, rng)
    if strength is None:
        strength = float(rng.uniform(*scenario.strengths))
    if crafted is None:
        # What was served before the onset is not borrowed from after it: it would come twice.
        rest = np.setdiff1d(np.arange(len(given)), rows[:clean])
        classes = None if labels is None else np.asarray(labels)
        if len(rest) == 0 or (classes is not None and len(np.unique(classes[rest])) < 2):
            rest = np.arange(len(given))
        inputs[clean:] = scenario.apply(
            inputs[clean:], rng, domain=domain, strength=strength, share=share, ask=ask,
            pool=given[rest], labels=None if classes is None else classes[rest],
        )  # fmt: skip
        flipped = None
        return Stream(scenario, inputs, clean, strength, share, flipped)
    # Rows that were not served before, those that mislead first.
    fresh = np.setdiff1d(np.arange(len(given)), rows[:clean])
    fresh = rng.permutation(fresh if len(fresh) else np.arange(len(given)))
    fresh = fresh[np.argsort(~crafted.flipped[fresh], kind="stable")]
    count = round(share * changed)
    places = clean + np.sort(rng.permutation(changed)[:count])
    sent = np.resize(fresh, count)
    others = np.setdiff1d(np.arange(clean, clean + changed), places)
    inputs[places] = crafted.inputs[rng.permutation(sent)]
    if count > len(fresh):
        late = places[rng.permutation(count)[: count - len(fresh)]]
        inputs[late] = domain.raw(vary(domain.real(inputs[late]), domain, rng))
    # The natural samples in between are others than those that were attacked.
    rest = rng.permutation(np.setdiff1d(np.arange(len(given)), [*rows[:clean], *sent]))
    some = others[: len(rest)]
    inputs[some] = given[rest[: len(some)]]
    flipped = float(crafted.flipped[sent].mean()) if count else None
    return Stream(scenario, inputs, clean, crafted.strength, share, flipped)
