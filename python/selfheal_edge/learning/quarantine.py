"""Samples that a model must not learn from, kept for a person to look at."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.learning.samples import DIGEST_BYTES, Sample, SampleShape, SampleTable
from selfheal_edge.text import shown

__all__ = ["Quarantine", "QuarantinedSample"]

_REASON: Final = 96
_EVIDENCE: Final = 192
_INCIDENTS: Final = 4
"""So many incidents share the rows."""
_CONFIRMED: Final = 256
_COLUMNS: Final = (
    ("incident", "<i8"),
    ("confirmed", "?"),
    ("reason", f"S{_REASON}"),
    ("evidence", f"S{_EVIDENCE}"),
)


@dataclass(frozen=True, slots=True, eq=False)
class QuarantinedSample:
    """A suspect, and why it is one."""

    sample: Sample
    reason: str
    """What speaks against it, in a word or two."""
    evidence: str
    incident: int
    """The diagnosis during which it came, counted; 0: feedback that was not believed."""
    is_confirmed: bool
    """Whether a person has said that it is what it is suspected of."""

    @property
    def id(self) -> int:
        """`Prediction.id`."""
        return self.sample.id

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without the input."""
        sample = self.sample
        return {
            "id": sample.id,
            "reason": self.reason,
            "evidence": self.evidence,
            "incident": self.incident,
            "confirmed": self.is_confirmed,
            "predicted": None if sample.predicted < 0 else sample.predicted,
            "label": sample.label,
            "source": sample.source or None,
            "has_input": sample.inputs is not None,
        }


class Quarantine:
    """Suspects with reason and evidence, in fixed memory; nothing is learned from them.

    Parameters
    ----------
    shape
        What samples look like.
    budget_bytes
        For all of them: 256 at most, and none where not one fits.
    guard
        Makes the context in which no other thread changes it.
    released
        Called with a sample that a person has released; returns what became of it.

    Notes
    -----
    One incident has a quarter of the rows: within it the oldest goes out, so that a flood during
    one attack does not wash out what is known of another. Where all rows are taken, the oldest of
    the incident with most goes. Confirmed ones go last. Of the latest 256 confirmed inputs the
    digest is remembered: they are never learned from, whatever source labels them.
    """

    def __init__(
        self,
        shape: SampleShape,
        budget_bytes: int,
        most: int | None = None,
        *,
        guard: Callable[[], AbstractContextManager[None]],
        released: Callable[[Sample, object], str],
    ) -> None:
        self.table = SampleTable(shape, budget_bytes, _COLUMNS, most)
        self._guard = guard
        self._released = released
        self.confirmed: npt.NDArray[np.uint8] = np.zeros((_CONFIRMED, DIGEST_BYTES), np.uint8)
        """Digests of inputs that were confirmed; zeros: none yet."""
        self.confirmations = 0
        """How many there were."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def capacity(self) -> int:
        """Samples that there is room for."""
        return self.table.capacity

    @property
    def quota(self) -> int:
        """Samples of one incident."""
        return max(1, self.table.capacity // _INCIDENTS)

    @property
    def next_incident(self) -> int:
        """The number of the next incident: higher than that of all that is kept."""
        used = self.table.used
        return 1 + int(self.table.rows["incident"][used].max(initial=0))

    @property
    def memory_bytes(self) -> int:
        """Bytes, whether used or not."""
        return self.table.memory_bytes + int(self.confirmed.nbytes)

    def list(self) -> tuple[QuarantinedSample, ...]:
        """Return copies of all suspects, oldest first."""
        with self._guard():
            return tuple(self._get(row) for row in self.table.used)

    def show(self, id: int) -> QuarantinedSample:
        """Return a copy of one suspect.

        Raises
        ------
        LookupError
            When it is not in here.
        """
        with self._guard():
            return self._get(self._find(id))

    def release(self, id: int, *, source: object, label: int | None = None) -> str:
        """Let a suspect go, on a person's word.

        Parameters
        ----------
        id
            Of the prediction.
        source
            The person's `FeedbackSource`, who stands for the sample from now on.
        label
            What is right; None where the suspect's own label is, or where that is still to be
            said: it is then among the questions of `wanted_labels`.

        Returns
        -------
        str
            What became of it.

        Raises
        ------
        LookupError
            When it is not in here.
        FeedbackSourceError, TypeError, ValueError
            For the source, and the label: it stays then.
        """
        with self._guard():
            found = self._get(self._find(id)).sample
            given = found if label is None else _with_label(found, label)
            said = self._released(given, source)  # may refuse: it stays
            row = self.table.find(id)
            if row is not None:
                self.table.clear(row)
            if found.digest:  # the same input elsewhere: it cannot be both
                for row in self.table.with_digest(found.digest):
                    self.table.clear(int(row))
                known = np.frombuffer(found.digest, np.uint8)
                self.confirmed[(self.confirmed == known).all(axis=1)] = 0
            return said

    def confirm(self, id: int) -> None:
        """Take a person's word that a suspect is what it is suspected of.

        Its input is never learned from. It stays to be looked at until its place is needed.

        Raises
        ------
        LookupError
            When it is not in here.
        """
        with self._guard():
            row = self._find(id)
            one = self.table.rows[row : row + 1]
            if one["has_input"][0] and not one["confirmed"][0]:
                self.confirmed[self.confirmations % _CONFIRMED] = one["digest"][0]
                self.confirmations += 1
            one["confirmed"] = True
            self.table.changes += 1

    def add(self, sample: Sample, reason: str, evidence: str, incident: int = 0) -> bool:
        """Keep a suspect; return whether there is room for any.

        Parameters
        ----------
        sample
            The suspect; of one that is here already, or whose input is, nothing changes.
        reason, evidence
            Shown in at most 96 and 192 bytes.
        incident
            The number of what it came with.
        """
        if not self.table.capacity or sample.id < 0:
            return False
        if self.table.find(sample.id) is not None:
            return True
        if sample.digest and len(self.table.with_digest(sample.digest)):
            return True  # a sensor that is stuck would fill all of it with one input
        self.table.put(
            self._place(incident),
            sample,
            incident=incident,
            reason=_cut(reason, _REASON),
            evidence=_cut(evidence, _EVIDENCE),
        )
        return True

    def _place(self, incident: int) -> int:
        used = self.table.used
        incidents = self.table.rows["incident"][used]
        mine = used[incidents == incident]
        if len(mine) >= self.quota:
            return self._oldest(mine)
        row = self.table.free()
        if row is not None:
            return row
        numbers, counts = np.unique(incidents, return_counts=True)
        most = numbers[counts == counts.max()][0]
        return self._oldest(used[incidents == most])

    def _oldest(self, rows: npt.NDArray[np.intp]) -> int:
        is_confirmed = self.table.rows["confirmed"][rows]
        unsure = rows[~is_confirmed]
        return int((unsure if len(unsure) else rows)[0])

    def holds(self, sample: Sample) -> str:
        """Return why a sample must not be learned from; empty where nothing here says so."""
        if self.table.find(sample.id) is not None:
            return "it is in quarantine"
        if not sample.digest:
            return ""
        if len(self.table.with_digest(sample.digest)):
            return "the same input is in quarantine"
        known = np.frombuffer(sample.digest, np.uint8)
        if (self.confirmed == known).all(axis=1).any():
            return "a person has confirmed that this input is what it was suspected of"
        return ""

    def _find(self, id: int) -> int:
        row = self.table.find(id)
        if row is None:
            raise LookupError(f"id: expected one in quarantine, got {id}")
        return row

    def _get(self, row: int) -> QuarantinedSample:
        one = self.table.rows[row]
        return QuarantinedSample(
            self.table.get(row),
            one["reason"].decode("utf-8", "ignore"),
            one["evidence"].decode("utf-8", "ignore"),
            int(one["incident"]),
            bool(one["confirmed"]),
        )


def _with_label(sample: Sample, label: int) -> Sample:
    return Sample(
        sample.id,
        sample.inputs,
        sample.second,
        sample.embedding,
        sample.predicted,
        sample.generation,
        label,
        None,
        sample.source,
        sample.weight,
        sample.digest,
    )


def _cut(text: str, size: int) -> bytes:
    return shown(text, size).encode()[:size].decode("utf-8", "ignore").encode()
