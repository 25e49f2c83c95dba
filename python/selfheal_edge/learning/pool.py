"""Samples that a model may learn from: bounded in bytes, in influence, and by source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.admission import Admission, ClassPlaces, Neighbour
from selfheal_edge.learning.samples import Sample, SampleShape, SampleTable
from selfheal_edge.learning.sources import UNAUTHENTICATED
from selfheal_edge.tflite.runtimes.protocol import Array

__all__ = ["Labelled", "TrustedPool"]

_DAY: Final = 86_400.0
HALF_LIFE: Final = 10 * _DAY
"""Seconds in which the weight of a sample halves."""
_OLDEST: Final = 40 * _DAY
_UNAUTHENTICATED_ROWS: Final = 8
"""One row in so many may come without a key."""
_UNAUTHENTICATED_WEIGHT: Final = 0.1
"""Of the weight of all that came with one."""
_LEAST_UNAUTHENTICATED: Final = 4.0
_LARGEST_SHARE: Final = 0.5
"""Of the total weight, of one source beside others."""
_LEAST_CHANCE: Final = 0.25
_MOST_CLASSES: Final = 1 << 16


class Labelled(NamedTuple):
    """Labelled samples to learn from; of k of them arrays with k rows, oldest first."""

    inputs: Array
    """Raw: shape (k, \\*input's without a leading 1)."""
    labels: npt.NDArray[Any]
    """Classes, int64 of shape (k,); of a regressor targets, float32 of shape (k, numbers)."""
    weights: npt.NDArray[np.float32]
    """0 to 1: shape (k,)."""
    sources: tuple[str, ...]
    ids: npt.NDArray[np.int64]
    """`Prediction.id` of each: shape (k,)."""
    ages: npt.NDArray[np.float64] | None = None
    """What is left of each weight for its age, 0 to 1: shape (k,); None where that is not known."""

    def __len__(self) -> int:
        """Return k."""
        return len(self.weights)

    def only(self, those: npt.NDArray[np.bool_]) -> Labelled:
        """Return those samples alone: `those` has shape (k,)."""
        sources = tuple(s for s, is_one in zip(self.sources, those, strict=True) if is_one)
        return Labelled(
            self.inputs[those],
            self.labels[those],
            self.weights[those],
            sources,
            self.ids[those],
            None if self.ages is None else self.ages[those],
        )


class TrustedPool:
    """Labelled samples that a repair may learn from; read by users, filled by feedback.

    Parameters
    ----------
    shape
        What samples look like.
    budget_bytes
        For all of them: at most 256 are held, and none where not one fits.
    places
        Judges labels.
    clock
        Monotonic seconds; it may jump.
    rng
        Which samples of a class stay.
    guard
        Makes the context in which no other thread changes it.

    Notes
    -----
    Classes share the rows: a sample takes the place of one of the class, or the source, that has
    most. Within its class which samples stay is drawn (a reservoir), with a chance of at least a
    quarter for a new one. A sample's weight halves in ten days, and after forty it goes. No
    sample weighs more than 1, no source more than half of all where there are several, and all that
    is unauthenticated no more than a tenth of the rest (four samples where there is no rest), on
    at most one row in eight.

    Rehearsal samples of the calibration are not in here: the baseline has them, and no feedback can
    push them out.
    """

    def __init__(
        self,
        shape: SampleShape,
        budget_bytes: int,
        *,
        places: ClassPlaces,
        clock: Callable[[], float],
        rng: Callable[[], np.random.Generator],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.table = SampleTable(shape, budget_bytes)
        self._places = places
        self._clock = clock
        self._rng = rng
        self._guard = guard
        self._seen: dict[int, int] = {}
        """How many samples of each class came since it had all of them."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def capacity(self) -> int:
        """Samples that there is room for."""
        return self.table.capacity

    @property
    def memory_bytes(self) -> int:
        """Bytes, whether used or not."""
        return self.table.memory_bytes

    def list(self) -> tuple[Sample, ...]:
        """Return copies of all samples, oldest first."""
        with self._guard():
            return tuple(self.table.get(row) for row in self.table.used)

    def show(self, id: int) -> Sample:
        """Return a copy of the sample of one prediction.

        Raises
        ------
        LookupError
            When it is not in here.
        """
        with self._guard():
            row = self.table.find(id)
            if row is None:
                raise LookupError(f"id: expected one in the trusted pool, got {id}")
            return self.table.get(row)

    def judge(self, sample: Sample, by: Sequence[int] | None = None) -> Admission:
        """Say what a sample would weigh, and why not more.

        `by`: the rows that are looked at; None: all.
        """
        if sample.label is None:  # a target has no class to be far from
            return Admission(1.0)
        rows: Iterable[int] = self.table.used.tolist() if by is None else by
        others = [
            row
            for row in rows
            if self.table.source_of(row) not in (sample.source, UNAUTHENTICATED)
            and self.table.rows["has_embedding"][row]
        ]
        near = Neighbour(self.table.rows["embedding"][others], self.table.rows["label"][others])
        return self._places.judge(
            sample.embedding,
            sample.label,
            near,
            is_authenticated=sample.source != UNAUTHENTICATED,
        )

    def add(self, sample: Sample) -> bool:
        """Take a sample in that was judged, if a place is drawn for it; return whether it was.

        The same input, or the same prediction, from another source takes no second place: the one
        that came first stays.
        """
        table = self.table
        if not table.capacity or sample.inputs is None or sample.weight <= 0.0:
            return False
        if sample.id < 0 or table.find(sample.id) is not None:
            return False
        if sample.digest and len(table.with_digest(sample.digest)):
            return False
        self._expire()
        group = self._group(sample.label)
        if group in self._seen or len(self._seen) < _MOST_CLASSES:
            self._seen[group] = self._seen.get(group, 0) + 1
        row = self._place(sample, group)
        if row is None:
            return False
        table.put(row, sample)
        return True

    @staticmethod
    def _group(label: int | None) -> int:
        return -1 if label is None else label

    def _expire(self) -> None:
        now = self._clock()
        for row in self.table.used:
            if now - self.table.rows["second"][row] > _OLDEST:
                self.table.clear(row)

    def _place(self, sample: Sample, group: int) -> int | None:
        """Return the row for a sample: a free one, or one of what there is too much of."""
        table, used = self.table, self.table.used
        sources = np.array([table.source_of(row) for row in used])
        if sample.source == UNAUTHENTICATED:
            mine = used[sources == UNAUTHENTICATED]
            if len(mine) >= max(1, table.capacity // _UNAUTHENTICATED_ROWS):
                return int(self._rng().choice(mine))
        row = table.free()
        if row is not None:
            return row
        # First what one source has more of than its share, where there are several.
        names, counts = np.unique(sources, return_counts=True)
        present = len(set(names) | {sample.source})
        fair = table.capacity / present
        largest = int(counts.argmax())
        if present > 1 and counts[largest] > fair and names[largest] != sample.source:
            rows = used[sources == names[largest]]
            return self._one_of_most(rows)
        labels = table.rows["label"][used]
        _, sizes = np.unique(labels, return_counts=True)
        mine_count = int(np.count_nonzero(labels == group))
        if mine_count < sizes.max():
            return self._one_of_most(used)
        # Its own class has most: a reservoir.
        chance = max(mine_count / max(1, self._seen.get(group, 1)), _LEAST_CHANCE)
        if self._rng().random() >= chance:
            return None
        return int(self._rng().choice(used[labels == group]))

    def _one_of_most(self, rows: npt.NDArray[np.intp]) -> int:
        """Return one row, drawn, of the class that most of these are of."""
        labels = self.table.rows["label"][rows]
        classes, sizes = np.unique(labels, return_counts=True)
        most = classes[sizes == sizes.max()]
        return int(self._rng().choice(rows[labels == self._rng().choice(most)]))

    def remove(self, id: int) -> bool:
        """Forget the sample of a prediction; return whether there was one."""
        row = self.table.find(id)
        if row is not None:
            self.table.clear(row)
        return row is not None

    def remove_input(self, digest: bytes) -> None:
        """Forget an input, whichever predictions it was of."""
        for row in self.table.with_digest(digest):
            self.table.clear(int(row))

    def revoke(
        self, source: str | None, ids: Collection[int]
    ) -> tuple[tuple[int, ...], tuple[Sample, ...]]:
        """Forget what one source has said, and these predictions, and their part in the rest.

        A sample is judged by labels of other sources nearby (`judge`). Those that were judged with
        the help of what goes are judged anew, in the order in which they came.

        Returns
        -------
        tuple of int
            The predictions that were forgotten.
        tuple of Sample
            Those that are not believed any more, and went as well.
        """
        table = self.table
        rows = [int(row) for row in table.used]
        gone = {
            row
            for row in rows
            if table.source_of(row) == source or int(table.rows["id"][row]) in ids
        }
        if not gone:
            return (), ()
        samples = {row: table.get(row) for row in rows}
        before = {row: self.judge(samples[row], rows[:n]).weight for n, row in enumerate(rows)}
        forgotten = [samples[row].id for row in sorted(gone)]
        for row in gone:
            table.clear(row)
        stay: list[int] = []
        doubted: list[Sample] = []
        for row in (row for row in rows if row not in gone):
            weight = self.judge(samples[row], stay).weight
            if weight == before[row] or samples[row].weight != np.float32(before[row]):
                weight = samples[row].weight  # a person stands for it, or what judged it is gone
            if weight > 0.0:
                table.rows["weight"][row] = weight
                stay.append(row)
            else:
                doubted.append(samples[row])
                table.clear(row)
        return tuple(forgotten), tuple(doubted)

    def labelled(
        self,
        owner: str | None = None,
        *,
        oldest: int = 0,
        also: Collection[int] = (),
        ages: Mapping[int, float] | None = None,
    ) -> Labelled:
        """Return what there is to learn from, of a model with one input.

        Parameters
        ----------
        owner
            A source whose weight is not capped.
        oldest
            The least `Prediction.id`.
        also
            Predictions before it that count as well.
        ages
            Of which predictions, with what was left of the weight of each for its age; None: of
            all, as old as they are.
        """
        with self._guard():
            self._expire()
            table = self.table
            used = [row for row in table.used if table.rows["has_input"][row]]
            known = table.rows["id"]
            used = [row for row in used if known[row] >= oldest or int(known[row]) in also]
            if ages is not None:
                used = [row for row in used if int(table.rows["id"][row]) in ages]
            rows = table.rows[used]
            if ages is None:
                left = np.exp2(-np.maximum(0.0, self._clock() - rows["second"]) / HALF_LIFE)
            else:
                left = np.array([ages[int(id)] for id in rows["id"]], np.float64)
            weights = np.clip(rows["weight"], 0.0, 1.0) * left
            sources = tuple(table.source_of(row) for row in used)
            ids = rows["id"].astype(np.int64)
            labels = rows["target"] if table.shape.target else rows["label"].astype(np.int64)
            dtype, shape = table.shape.inputs[0]
            nbytes = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
            first = np.ascontiguousarray(rows["input"])[:, :nbytes]
            inputs = np.ascontiguousarray(first).view(dtype).reshape(len(rows), *shape)
        capped = capped_weights(weights, sources, owner)
        return Labelled(inputs.copy(), labels.copy(), capped, sources, ids, left)


def capped_weights(
    weights: npt.NDArray[np.float64], sources: tuple[str, ...], owner: str | None = None
) -> npt.NDArray[np.float32]:
    """Return weights of which no source has more than its share.

    Parameters
    ----------
    weights
        0 to 1: shape (k,).
    sources
        Of each.
    owner
        A source whose weight is not capped.

    Notes
    -----
    Where several authenticated sources have weights, one has at most what all others have
    together. All that is unauthenticated has a tenth of the rest, or, where there is no rest, 4.
    """
    found = np.array(weights, np.float64)
    names = np.array(sources, dtype=object)
    known = sorted(set(sources) - {UNAUTHENTICATED})
    totals = {name: float(found[names == name].sum()) for name in known}
    for name in known:
        others = sum(total for other, total in totals.items() if other != name)
        share = _LARGEST_SHARE / (1.0 - _LARGEST_SHARE)
        if name != owner and others > 0.0 and totals[name] > share * others:
            found[names == name] *= share * others / totals[name]
    rest = float(found[names != UNAUTHENTICATED].sum()) if len(found) else 0.0
    is_bare = names == UNAUTHENTICATED
    bare = float(found[is_bare].sum()) if len(found) else 0.0
    allowed = _UNAUTHENTICATED_WEIGHT * rest if rest > 0.0 else _LEAST_UNAUTHENTICATED
    if bare > allowed:
        found[is_bare] *= allowed / bare
    return found.astype(np.float32)
