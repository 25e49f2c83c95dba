"""How many labels of one source, or of one hour, cannot change what a learned repair answers.

Labels are dealt out to nine partitions, and a head is trained on each of them alone, by the same
strategies. A label, or all those of one source or of one hour, lie in one partition, and so can
turn one of nine votes. An answer that the vote gives with a lead of m votes stands whatever is
said in (m - 1) / 2 partitions (deep partition aggregation: Levine and Feizi, 2021).

What holds is the vote's answer. The repair's own is certified where it is the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.material import Material
from selfheal_edge.learning.patch import Patch
from selfheal_edge.learning.pool import HALF_LIFE, Labelled
from selfheal_edge.repair.protocol import LearningStrategy, is_costly

__all__ = ["HEADS", "Certificate", "certify", "named", "partitions", "standing", "vote"]

Labels = npt.NDArray[np.int64]

HEADS: Final = 9
"""Partitions, whatever labels there are: their number must not be the labels' doing."""
_LEAST_LABELS: Final = 8
_HOUR: Final = 3600.0
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's: neighbours part


@dataclass(frozen=True, slots=True)
class Certificate:
    """Of the answers to the inputs that a repair was learned from, which share stands."""

    inputs: int
    """How many there are."""
    heads: int
    """How many vote."""
    told: int
    """Labels that were learned."""
    labels: tuple[float, ...]
    """Whatever 0, 1, 2, 3 and 4 labels say, of whatever source: shares, 0 to 1. The first one is
    that of answers which the vote bears out at all."""
    source: float
    """Whatever any one source says, in all of its labels."""
    hour: float
    """Whatever is said within any one hour."""

    def __str__(self) -> str:
        against = ", ".join(f"{n}: {share:.0%}" for n, share in enumerate(self.labels))
        return (
            f"a vote of {self.heads} heads bears out {self.labels[0]:.0%} of {self.inputs} "
            "answers; "
            f"share that stands, by labels that may be false: {against}; whatever any one source "
            f"says: {self.source:.0%}; whatever is said in one hour: {self.hour:.0%}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Certificate:
        """Read what `to_dict` returned.

        Raises
        ------
        ValueError, LookupError, TypeError
            When it is not that.
        """
        labels = tuple(map(float, fields["labels"]))
        inputs, heads, told = (int(fields[name]) for name in ("inputs", "heads", "told"))
        found = cls(inputs, heads, told, labels, float(fields["source"]), float(fields["hour"]))
        shares = (*labels, found.source, found.hour)
        if len(labels) != _RADII or not all(0.0 <= share <= 1.0 for share in shares):
            raise ValueError(f"certificate: expected shares from 0 to 1, got {shares}")
        return found


_RADII: Final = HEADS // 2 + 1


def certify(
    material: Material, strategies: Sequence[LearningStrategy], patch: Patch
) -> Certificate | None:
    """Return what a repair's answers stand, by heads that were trained on parts of its labels.

    Parameters
    ----------
    material
        What it was learned from.
    strategies
        Those that made it; those that take seconds are left out of the vote.
    patch
        The repair.

    Returns
    -------
    Certificate or None
        None where fewer than eight labels have taught it, or there are no classes.

    Notes
    -----
    As many fits of the last layer as there are partitions with labels, at most 27, and one without;
    hardly any inferences.
    """
    labelled = material.labelled
    if len(labelled) < _LEAST_LABELS or material.head is None or material.reference.classes < 2:
        return None
    served = material.bench.answers(material.window, patch).labels
    found = []
    strategies = [strategy for strategy in strategies if not is_costly(strategy)]
    nothing = named(material, strategies, np.zeros(len(labelled), bool))
    for partition in partitions(labelled):
        winners, radii = vote(material, strategies, partition, nothing)
        found.append(np.where(winners == served, radii, -1))
    labels = tuple(float((found[0] >= radius).mean()) for radius in range(_RADII))
    source, hour = (float((radii >= 1).mean()) for radii in found[1:])
    return Certificate(len(served), HEADS, len(labelled), labels, source, hour)


def partitions(labelled: Labelled) -> tuple[Labels, Labels, Labels]:
    """Return in which of nine parts each label is, by itself, by its source and by its hour.

    None depends on what other labels there are. Where no age is known all are of one hour.
    """
    hours = np.zeros(len(labelled), np.int64)
    if labelled.ages is not None:
        ages = np.maximum(labelled.ages, 2.0**-1000)
        hours = np.floor(-np.log2(ages) * HALF_LIFE / _HOUR).astype(np.int64)
    mixed = (labelled.ids.astype(np.uint64) * _SPREAD) >> np.uint64(40)
    return (
        np.asarray(mixed % np.uint64(HEADS), np.int64),
        np.array([zlib.crc32(name.encode()) % HEADS for name in labelled.sources], np.int64),
        hours % HEADS,
    )


def vote(
    material: Material,
    strategies: Sequence[LearningStrategy],
    partition: Labels,
    nothing: Labels,
) -> tuple[Labels, Labels]:
    """Return what heads of a partition's parts name the window together, and how surely.

    Parameters
    ----------
    material, strategies
        As for `certify`.
    partition
        The part of each label, 0 to 8.
    nothing
        What a head names it that has learned no label: that of every empty part.

    Returns
    -------
    ndarray, ndarray
        As `standing`.
    """
    votes = np.repeat(nothing[None], HEADS, axis=0)
    for part in np.unique(partition):
        votes[part] = named(material, strategies, partition == part)
    return standing(votes, max(2, material.reference.classes))


def standing(votes: Labels, classes: int) -> tuple[Labels, Labels]:
    """Return winners of votes, and how many voters may turn without changing them: shape (n,).

    Parameters
    ----------
    votes
        Classes, shape (voters, n). Of classes with as many votes the first one wins.
    classes
        How many there are, 2 at least.
    """
    count = np.zeros((votes.shape[1], classes), np.int64)
    for one in votes:
        count[np.arange(len(one)), one] += 1
    winners = count.argmax(axis=1)
    rows = np.arange(len(count))
    # One turned vote takes one from the winner and gives it to another; that one wins a draw
    # where it comes first.
    lead = count[rows, winners][:, None] - count - (np.arange(classes) < winners[:, None])
    lead[rows, winners] = np.iinfo(np.int64).max
    return winners.astype(np.int64), np.asarray(lead.min(axis=1) // 2, np.int64)


def named(
    material: Material, strategies: Sequence[LearningStrategy], told: npt.NDArray[np.bool_]
) -> Labels:
    """Return what a repair names the window that has learned these labels alone: shape (n,)."""
    part = material.told(told)
    patch = part.golden
    for strategy in strategies:
        made = strategy.propose(part, patch)
        patch = patch if isinstance(made, str) else made
    note = part.noted(patch)
    assert note is not None, "there is a last layer"
    inside = part.embeddings(part.window, patch.inputs, note.inner)
    assert inside is not None, "it has inputs"
    logits = inside @ note.weights.T + note.bias
    if logits.shape[1] == 1:
        return np.asarray(logits[:, 0] > 0, np.int64)
    return np.asarray(logits.argmax(axis=1), np.int64)
