"""What several attackers use: crafted samples, rows that are replaced, pairs of classes."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.redteam.scenarios.domain import Raw, Real
from selfheal_edge.redteam.scenarios.registry import SCENARIOS
from selfheal_edge.redteam.scenarios.streams import Crafted, craft
from selfheal_edge.redteam.survival.attack import Attacker, Setup, Turn
from selfheal_edge.redteam.survival.conditions import Change, changed_enough

__all__ = [
    "ByClass",
    "CraftedSender",
    "confused_pair",
    "crafted",
    "drifted_enough",
    "replaced",
]

_DRIFTS: Final = (
    "weather, brightness, sudden",
    "acoustics, tilt, sudden",
    "ageing, own offsets, sudden",
)
_MOST_CRAFTED: Final = 160
_KEPT: Final = 8

_done: OrderedDict[tuple[Any, ...], tuple[Crafted, int]] = OrderedDict()


def _scenario(name: str) -> Any:
    """Return a scenario by its name.

    Raises
    ------
    LookupError
        For a name that none has.
    """
    for one in SCENARIOS:
        if one.name == name:
            return one
    raise LookupError(f"name: expected one of {sorted(s.name for s in SCENARIOS)}, got {name!r}")


def crafted(turn: Turn, name: str) -> Crafted:
    """Return samples of the pool as a scenario's attacker changes them, at most 160.

    The same attack on the same pool is made once for all contestants; each attacker pays for its
    questions all the same.

    Parameters
    ----------
    turn
        Of the attack, whose strength multiplies the scenario's greatest one.
    name
        Of a scenario that is crafted.
    """
    setup, found = turn.setup, _scenario(name)
    pool = setup.pool[:_MOST_CRAFTED]
    strength = min(1.0, 0.5 + 0.5 * setup.strength) * found.strengths[1]
    sample = setup.ask(pool[:4])
    key = (name, strength, zlib.crc32(pool.tobytes()), zlib.crc32(sample.tobytes()))
    if key not in _done:
        before = turn.spent.queries
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        made = craft(found, setup.domain, pool, turn.ask, rng, strength)
        _done[key] = made, turn.spent.queries - before
        turn.spent.queries = before
        while len(_done) > _KEPT:
            _done.popitem(last=False)
    made, asked = _done[key]
    turn.spent.queries += asked
    return made


def drifted_enough(setup: Setup) -> Change:
    """Return the gentlest drift of the world, of a kind that fits the inputs, that costs accuracy.

    Parameters
    ----------
    setup
        Where it happens; its strength multiplies what is found.
    """
    return changed_enough(setup, _DRIFTS)


def replaced(turn: Turn, raw: Raw, new: Raw) -> Raw:
    """Return a copy of an hour's inputs in which the attacker's rows are other ones."""
    result = np.array(raw)
    result[turn.owned[: len(new)]] = new
    turn.spent.queries += min(len(turn.owned), len(new))
    return result


class ByClass:
    """Draws samples of the class that each row has: what a person would still call the same.

    Parameters
    ----------
    samples, labels
        Shape (n, *sample) and (n,).
    order
        The lowest first; None: any.
    """

    def __init__(
        self, samples: Raw, labels: npt.NDArray[np.int64], order: npt.ArrayLike | None = None
    ) -> None:
        self._samples = samples
        rank = np.zeros(len(samples)) if order is None else np.asarray(order, float)
        best = np.argsort(rank, kind="stable")
        self._rows = {int(c): best[labels[best] == c] for c in np.unique(labels)}
        self._all = best

    def draw(self, labels: npt.NDArray[Any], rng: np.random.Generator, best: float = 1.0) -> Raw:
        """Return one sample for each label, from the best part of its class."""
        rows = np.empty(len(labels), np.int64)
        for n, label in enumerate(np.asarray(labels).reshape(len(labels), -1)[:, 0].tolist()):
            own = self._rows.get(int(label), self._all)
            own = own if len(own) else self._all
            rows[n] = own[rng.integers(max(1, round(best * len(own))))]
        return np.asarray(self._samples[rows])


class CraftedSender(Attacker):
    """Sends samples that a scenario's attacker has crafted, each of the class that was due.

    Parameters
    ----------
    setup
        What it begins with.
    name
        Of the scenario.
    """

    def __init__(self, setup: Setup, name: str) -> None:
        super().__init__(setup)
        self._name = name
        self._made: ByClass | None = None

    def inputs(self, turn: Turn, raw: Raw, labels: npt.NDArray[Any]) -> Raw:
        """Send what misleads the model before what does not."""
        if self._made is None:
            made = crafted(turn, self._name)
            known = self.setup.pool_labels[: len(made.inputs)]
            self._made = ByClass(made.inputs, known, ~made.flipped)
            turn.notes["misleading, of those crafted"] = round(float(made.flipped.mean()), 3)
        new = self._made.draw(labels[turn.owned], self.setup.rng, 0.8)
        return replaced(turn, raw, new)


def confused_pair(scores: Real, labels: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return a frequent class, and the one that the model takes it for most easily.

    Parameters
    ----------
    scores
        Probabilities of samples, shape (n, classes).
    labels
        Their classes.
    """
    classes = np.unique(labels[labels >= 0])
    means = np.stack([scores[labels == c].mean(axis=0) for c in classes])
    means[np.arange(len(classes)), classes] = -1.0
    row = int(means.max(axis=1).argmax())
    return int(classes[row]), int(means[row].argmax())
