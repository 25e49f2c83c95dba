"""What one generation was learned from: enough to find out whose word is in it, and to undo it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.causes import Cause
from selfheal_edge.errors import IntegrityError

__all__ = ["Lesson"]

_VERSION: Final = 1
_MOST: Final = 4096
"""Inputs, and labelled samples, that a lesson has at most."""
_MOST_ID: Final = (1 << 63) - 1

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a repair was learned from. Learning it again gives the same repair, bit for bit."""

    names: tuple[str, ...]
    """Of the strategies, in the order in which they were asked."""
    cause: Cause
    kind: str
    mix_moved: bool
    seed: int
    """Of what strategies draw."""
    window: Integers
    """`Prediction.id` of each input of the condition: shape (n,)."""
    ids: Integers
    """Of each labelled sample: shape (k,)."""
    sources: tuple[str, ...]
    """Who has labelled each."""
    ages: npt.NDArray[np.float64]
    """What was left of the weight of each for its age, 0 to 1: shape (k,)."""
    inputs: npt.NDArray[Any] | None = field(default=None, repr=False)
    """Those of the window, raw; None of one that was stored."""
    contents: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """Golden's embeddings of the labelled samples, shape (k, dimensions); likewise."""

    def holds(self, source: str | None, ids: Collection[int]) -> bool:
        """Whether a label of this source, or one of these predictions, is in it."""
        if source is not None and source in self.sources:
            return True
        given = np.fromiter(ids, np.int64, len(ids))
        return bool(np.isin(self.window, given).any() or np.isin(self.ids, given).any())

    def without(self, source: str | None, ids: Collection[int]) -> Lesson:
        """Return it without the labels of a source, and without these predictions."""
        given = np.fromiter(ids, np.int64, len(ids))
        inputs = ~np.isin(self.window, given)
        labels = ~np.isin(self.ids, given) & np.array([s != source for s in self.sources], bool)
        return replace(
            self,
            window=self.window[inputs],
            ids=self.ids[labels],
            sources=tuple(s for s, stays in zip(self.sources, labels, strict=True) if stays),
            ages=self.ages[labels],
            inputs=None if self.inputs is None else self.inputs[inputs],
            contents=None if self.contents is None else self.contents[labels],
        )

    def joined(self, other: Lesson) -> Lesson:
        """Return whose word is in what is made of both, each once; it cannot be learned again."""
        known = set(zip(self.ids.tolist(), self.sources, strict=True))
        said = list(zip(other.ids.tolist(), other.sources, strict=True))
        is_new = np.array([one not in known for one in said], bool)
        return replace(
            self,
            names=(),
            window=np.union1d(self.window, other.window),
            ids=np.concatenate([self.ids, other.ids[is_new]]),
            sources=(*self.sources, *(source for id, source in said if (id, source) not in known)),
            ages=np.concatenate([self.ages, other.ages[is_new]]),
            inputs=None,
            contents=None,
        )

    def to_plain(self) -> dict[str, Any]:
        """Return plain data, for JSON; inputs are not in it."""
        names = sorted(set(self.sources))
        return {
            "version": _VERSION,
            "strategies": list(self.names),
            "cause": self.cause.value,
            "kind": self.kind,
            "mix_moved": self.mix_moved,
            "seed": self.seed,
            "window": _stretches(self.window),
            "ids": self.ids.tolist(),
            "names": names,
            "sources": [names.index(source) for source in self.sources],
            "ages": self.ages.tolist(),
        }

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> Lesson:
        """Read what `to_plain` returned.

        Raises
        ------
        IntegrityError
            When it is not that, or a newer release wrote it.
        """
        try:
            version = int(fields["version"])
            if version != _VERSION:
                raise ValueError(f"version {version}, of 1 to {_VERSION}")
            names = [str(name)[:64] for name in fields["names"]]
            found = cls(
                tuple(str(name) for name in fields["strategies"]),
                Cause(fields["cause"]),
                str(fields["kind"]),
                bool(fields["mix_moved"]),
                int(fields["seed"]),
                _ids_of(fields["window"]),
                np.array(fields["ids"], np.int64).reshape(-1),
                tuple(names[int(n)] for n in fields["sources"]),
                np.array(fields["ages"], np.float64).reshape(-1),
            )
            count = len(found.ids)
            if len(found.sources) != count or found.ages.shape != (count,) or count > _MOST:
                raise ValueError(f"{count} samples of {len(found.sources)} sources")
            if not ((found.ages >= 0) & (found.ages <= 1)).all() or (found.ids < 0).any():
                raise ValueError("samples that no pool has")
            if not 0 <= found.seed <= _MOST_ID:
                raise ValueError(f"the seed {found.seed}")
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise IntegrityError(f"lesson: expected what was learned from: {error!r}") from None
        return found


def _stretches(ids: Integers) -> list[list[int]]:
    """Return rising ids as stretches: first and count of each."""
    if not len(ids):
        return []
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 2) != 1)
    counts = np.diff(starts, append=len(ids))
    return [[int(ids[at]), int(n)] for at, n in zip(starts, counts, strict=True)]


def _ids_of(stretches: Any) -> Integers:
    pairs = [(int(first), int(count)) for first, count in stretches]
    if sum(count for _, count in pairs) > _MOST or any(
        count < 1 or not 0 <= first <= _MOST_ID - count for first, count in pairs
    ):
        raise ValueError("inputs that no window has")
    found = [np.arange(first, first + count, dtype=np.int64) for first, count in pairs]
    return np.concatenate([np.empty(0, np.int64), *found])
