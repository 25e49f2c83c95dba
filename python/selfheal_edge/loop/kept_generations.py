"""Generations that outlive the process: stored before they act, and put back at the start.

What is stored of a generation is the user's file with its weights, in blocks that generations
share: a reader can write it out as a plain TFLite file. What a runtime packs from it follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from selfheal_edge.errors import IntegrityError, StoreError
from selfheal_edge.log import logger
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.store.database import Row
from selfheal_edge.store.generations import StoredGeneration, StoredGenerations
from selfheal_edge.store.store import Store
from selfheal_edge.tflite.file.rewrite import ModelCopy

__all__ = ["Found", "KeptGenerations"]

_MODEL: Final = "model"
_ACTIVE: Final = "active"
_LATEST: Final = "latest"
_TRIAL: Final = "trial"
_HELD: Final = "held"


@dataclass(frozen=True, slots=True)
class Found:
    """A generation that the store holds."""

    number: int
    digest: str
    """What equal ones share, which answer alike: `StoredGeneration.identity`."""
    source: bytes
    """Our copy of the file with its weights."""
    inputs: bytes
    """The correction of inputs; empty for none."""
    is_pinned: bool
    answers: str | None
    """What tells its known answers where they were recorded; None: not known for this place."""


class KeptGenerations:
    """The generations of one model in its store.

    Parameters
    ----------
    store
        Where they are kept.
    copy
        The model as it is built, and the user's file.
    fingerprint
        What decides its exact outputs here.
    """

    def __init__(self, store: Store, copy: ModelCopy, fingerprint: str) -> None:
        self._store = store
        self._rows = StoredGenerations(store)
        self._copy = copy
        self._fingerprint = fingerprint
        self.unsaved: set[int] = set()
        """Generations that could not be stored yet."""
        self.problems: list[str] = []
        """What could not be kept or put back, and why; for the journal, which empties it."""

    # ---------------------------------------------------------------- the start

    @property
    def active(self) -> int:
        """The generation that served last, and was confirmed."""
        try:
            row = self._store.get(_MODEL, _ACTIVE)
            return 0 if row is None else int(row)
        except (StoreError, IntegrityError, ValueError) as error:
            self.problems.append(f"golden serves: {error}")
            return 0

    @property
    def interrupted(self) -> tuple[str, ...]:
        """Digests of the generations whose trial the end of the process has ended."""
        return tuple(row.identity for row in self._all() if row.fields.get("state") == _TRIAL)

    def forget_interrupted(self) -> None:
        """Drop them."""
        for row in self._all():
            if row.fields.get("state") == _TRIAL:
                self._guarded(self._rows.drop, row.number)

    def found(self) -> tuple[Found, ...]:
        """Return all that are held, but golden, each verified; what is damaged is told and left."""
        rows = (row for row in self._all() if row.number and row.fields.get("state") == _HELD)
        return tuple(filter(None, map(self._read, rows)))

    def _read(self, row: StoredGeneration) -> Found | None:
        try:
            file, inputs = self._rows.read(row.number)
            source = self._copy.source_with(file)
        except (StoreError, IntegrityError, ValueError) as error:
            self.problems.append(f"generation {row.number} is not held any more: {error}")
            return None
        here = row.fields.get("fingerprint") == self._fingerprint
        told = str(row.fields.get("answers")) if here else None
        return Found(row.number, row.identity, source, inputs, bool(row.fields.get("pinned")), told)

    def _all(self) -> tuple[StoredGeneration, ...]:
        try:
            return self._rows.all()
        except (StoreError, IntegrityError) as error:
            self.problems.append(str(error))
            return ()

    @property
    def latest(self) -> int:
        """The largest number that a generation has had on this device; none is given twice."""
        try:
            row = self._store.get(_MODEL, _LATEST)
            named = 0 if row is None else int(row)
        except (StoreError, IntegrityError, ValueError) as error:
            self.problems.append(str(error))
            named = 0
        return max((named, *(row.number for row in self._all())))

    # ---------------------------------------------------------------- while it serves

    def keep_golden(self) -> None:
        """Keep the user's file itself, from which others differ in a few blocks; takes a while."""
        if self._rows.find(0) is None:
            fields = {"state": _HELD, "wall": time.time()}
            self._rows.save(0, self._copy.original.data, fields)

    def propose(self, number: int, source: bytes, inputs: bytes = b"") -> bool:
        """Store weights that are about to act, as on trial: a crash from now on ends the trial.

        `inputs`: what corrects the inputs that go with them; empty for nothing.

        Returns
        -------
        bool
            Whether they are safe; what the user asks for acts all the same.
        """
        fields = {"state": _TRIAL, "wall": time.time()}
        return self._save(number, source, fields, inputs)

    def confirm(
        self,
        number: int,
        answers: KnownAnswers,
        *,
        serves: bool = True,
        is_pinned: bool = False,
    ) -> None:
        """Take note that a trial has held: this generation stays, and serves after a restart too.

        Parameters
        ----------
        number, answers
            The generation, and its known answers.
        serves
            Whether it serves now: else another does, also after a restart.
        is_pinned
            Whether it must not be dropped.
        """
        fields = self._held(answers) | ({"pinned": True} if is_pinned else {})
        self._mark(number, fields, active=number if serves else None)

    def reject(self, number: int) -> str:
        """Forget a generation whose trial has failed; return its `StoredGeneration.identity`."""
        row = self._rows.find(number)
        self._guarded(self._rows.drop, number)
        return "" if row is None else row.identity

    def add(self, number: int, source: bytes, answers: KnownAnswers, inputs: bytes = b"") -> None:
        """Store weights that serve already."""
        self._save(number, source, self._held(answers), inputs)

    def activate(self, number: int, *, at_once: bool = True) -> None:
        """Take note that this generation is to serve; before it does.

        Where nothing can be written now, as soon as there is room; not at once: with whatever is
        written next.
        """
        self._store.put(_MODEL, _ACTIVE, b"%d" % number)
        if at_once:
            self._guarded(self._store.commit)

    def pin(self, number: int, is_pinned: bool) -> None:
        """Take note that a generation must not be dropped, or may."""
        row = self._rows.find(number)
        if row is not None:
            self._mark(number, {**row.fields, "pinned": is_pinned})

    def drop(self, number: int) -> None:
        """Forget a generation."""
        self.unsaved.discard(number)
        self._guarded(self._rows.drop, number)

    def _save(self, number: int, source: bytes, fields: Mapping[str, Any], inputs: bytes) -> bool:
        latest = Row(_MODEL, _LATEST, b"%d" % max(number, self.latest))
        data = self._copy.file_with(source)
        is_saved = self._guarded(self._rows.save, number, data, fields, (latest,), (), inputs)
        (self.unsaved.discard if is_saved else self.unsaved.add)(number)
        return is_saved

    def _held(self, answers: KnownAnswers) -> dict[str, Any]:
        return {
            "state": _HELD,
            "wall": time.time(),
            "fingerprint": self._fingerprint,
            "answers": answers.digest,
        }

    def _mark(self, number: int, fields: Mapping[str, Any], active: int | None = None) -> None:
        rows = () if active is None else (Row(_MODEL, _ACTIVE, b"%d" % active),)
        self._guarded(self._rows.mark, number, fields, rows)

    def _guarded(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Do what must not keep a model from serving; return whether it was done."""
        try:
            act(*arguments)
        except (StoreError, IntegrityError, ValueError) as error:
            logger().warning("the store: %s", error)
            self.problems.append(f"kept in memory alone: {error}")
            return False
        return True
