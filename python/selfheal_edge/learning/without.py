"""Whether a candidate holds without the word of any one source.

Who answers what the device asks can teach it what is false, and then all that the candidate is
judged by is his as well: his labels, and how sure it has become of them. What he has no hand in:

- golden's held inputs, carried into the condition, whose classes are known: their embeddings with
  the window's moments, and the inputs themselves where they have features (`learning.alignment`);
- labels of other sources, the owner's among them.

By these a candidate must gain over golden what they leave in doubt, and not lose half a point
against what is proposed on the owner's word alone, or without labels. Nothing is carried into a
condition of inputs without places (vectors of sensors): there its moments say little of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.errors import error_of, saved
from selfheal_edge.learning.material import Material, Note
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import Labelled
from selfheal_edge.learning.reference import LEAST_PLACES
from selfheal_edge.learning.selection import ALIKE
from selfheal_edge.learning.training import log_softmax

__all__ = ["Without", "without"]

Floats = npt.NDArray[np.float64]
Right = npt.NDArray[np.bool_]

_DOUBT: Final = 0.05
"""Standard deviation of real gains about those on carried inputs, on drifts that score nothing:
0.02 to 0.05 of clips and digits, and hardly any bias (docs/learning.md)."""

_LEAST_SPREAD: Final = 1e-3  # of the widest dimension: below, one says nothing


class Without(NamedTuple):
    """How a candidate fares by what one source has no hand in."""

    source: str
    over_golden: float
    """Expected gain in accuracy, or of a regressor as `learning.errors` counts it."""
    over_plain: float
    """Over what serves on the owner's word alone, or without labels."""

    @property
    def holds(self) -> bool:
        """Whether it may serve."""
        return self.over_golden >= _DOUBT and self.over_plain >= -ALIKE

    def __str__(self) -> str:
        return (
            f"without {self.source}'s word {self.over_golden:+.1%} over golden, "
            f"{self.over_plain:+.1%} over what needs none"
        )


def without(material: Material, source: str, found: Patch, plain: Patch) -> Without:
    """Return how a candidate fares without the word of one source.

    Parameters
    ----------
    material
        What it was learned from.
    source
        Whose word counts for nothing.
    found
        The candidate; its note has what it answers to labels that it has not learned.
    plain
        What serves on the owner's word alone, or without labels; golden's patch for golden.
    """
    if material.reference.targets is not None:
        return _without_classes(material, source, found, plain)
    others = material.of_sources({name for name in material.labelled.sources if name != source})
    said = np.array([name != source for name in material.labelled.sources], bool)
    right = _right(material, found, said)
    over_golden = _gain(right, _right(material, material.golden, said), others)
    over_plain = _gain(right, _right(material, plain, said), others)
    return Without(source, over_golden, over_plain)


def _without_classes(material: Material, source: str, found: Patch, plain: Patch) -> Without:
    """Return the same of a regressor: whose errors are known of carried inputs as well."""
    said = np.array([name != source for name in material.labelled.sources], bool)
    others = material.labelled.only(said)
    mine, golden, beside = (_errors(material, p, said) for p in (found, material.golden, plain))

    def gain(over: tuple[tuple[Floats, ...], Floats]) -> float:
        pairs = zip(over[0], mine[0], strict=True)
        carried = [saved(before, after) for before, after in pairs]
        return _together(carried, saved(over[1], mine[1]), others)

    return Without(source, gain(golden), gain(beside))


def _errors(material: Material, patch: Patch, said: Right) -> tuple[tuple[Floats, ...], Floats]:
    """Return errors on carried inputs, of one kind and the other, and of others' targets."""
    reference, note = material.reference, material.noted(patch)
    assert note is not None, "what has no head is no candidate"
    assert reference.targets is not None, "it is a regressor"
    carried = [
        error_of(inside @ note.weights.T + note.bias, reference.targets[those], material.units)
        for inside, those in _carried_inside(material, patch, note)
    ]
    values = material.told_values(patch)
    assert values is not None, "it has a last layer"
    return tuple(carried), error_of(values[said], material.labelled.labels[said], material.units)


def _carried_inside(
    material: Material, patch: Patch, note: Note
) -> Iterator[tuple[Floats, npt.NDArray[np.bool_]]]:
    """Yield embeddings of known inputs in the condition, and which of the held inputs they are."""
    reference = material.reference
    if reference.places >= LEAST_PLACES:
        then = material.embeddings(reference.inputs, None, note.inner)
        now = material.embeddings(material.window, patch.inputs, note.inner)
        assert then is not None
        assert now is not None
        judges = ~reference.may_be_learned
        yield _carried(then, now)[judges], judges
    if material.carried is not None:
        inside = material.embeddings(material.carried, patch.inputs, note.inner)
        assert inside is not None
        yield inside, np.ones(len(inside), bool)


def _right(material: Material, patch: Patch, said: Right) -> tuple[tuple[Right, ...], Right]:
    """Return which carried inputs, of one kind and the other, and which labels are met."""
    reference, note = material.reference, material.noted(patch)
    if material.reconstructs:  # only people say what is normal in another condition
        told = None if note is None else note.out_of_fold
        if told is None:
            told = material.bench.answers(material.labelled.inputs, patch).labels
        return (), (told == material.labelled.labels)[said]
    assert note is not None, "what has no head is no candidate"
    carried = [
        _named(inside, note) == reference.labels[those]
        for inside, those in _carried_inside(material, patch, note)
    ]
    labels = material.labelled
    if not said.any():
        return tuple(carried), np.empty(0, bool)
    named = note.out_of_fold
    if named is None or len(named) != len(labels):
        inside = material.embeddings(labels.inputs, patch.inputs, note.inner)
        assert inside is not None
        named = _named(inside, note)
    return tuple(carried), (named == labels.labels)[said]


def _carried(then: Floats, now: Floats) -> Floats:
    """Return embeddings of held inputs with the window's mean and spread in each dimension."""
    spread = then.std(axis=0)
    least = _LEAST_SPREAD * max(float(spread.max()), 1e-12)
    gain = now.std(axis=0) / np.maximum(spread, least)
    return np.asarray(now.mean(axis=0) + gain * (then - then.mean(axis=0)))


def _named(inside: Floats, note: Note) -> npt.NDArray[np.int64]:
    return np.asarray(log_softmax(inside @ note.weights.T + note.bias).argmax(axis=1))


def _gain(
    one: tuple[tuple[Right, ...], Right], other: tuple[tuple[Right, ...], Right], told: Material
) -> float:
    """Return how many more inputs one names rightly, by both kinds of evidence together."""
    apart = [a.astype(np.float64) - b for a, b in zip(one[0], other[0], strict=True)]
    return _together(apart, one[1].astype(np.float64) - other[1], told.labelled)


def _together(apart: Sequence[Floats], paired: Floats, told: Labelled) -> float:
    """Return the mean gain, by carried inputs of each kind and by labels."""
    carried = float(np.mean([rows.mean() for rows in apart])) if apart else 0.0
    weights = told.weights.astype(np.float64)
    total = float(weights.sum())
    if total <= 0.0:
        return carried
    mean = float(paired @ weights) / total
    squares = float(np.square(weights) @ np.square(paired - mean))
    squares += 0.5 * float(np.square(weights).max())
    precision, by_labels = bool(apart) / _DOUBT**2, total**2 / squares
    return (carried * precision + mean * by_labels) / (precision + by_labels)
