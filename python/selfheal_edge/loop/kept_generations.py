"""Generations that outlive the process: stored before they act, and put back at the start.

What is stored of a generation is the user's file with its weights, in blocks that generations
share: a reader can write it out as a plain TFLite file. What a runtime packs from it follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from selfheal_edge.errors import IntegrityError, StoreError
from selfheal_edge.learning.lesson import Lesson
from selfheal_edge.learning.patch import Patch, patch_from_plain
from selfheal_edge.log import logger
from selfheal_edge.monitoring.baseline import KnownAnswers
from selfheal_edge.store.changes import Row
from selfheal_edge.store.generations import StoredGeneration, StoredGenerations, identity_of
from selfheal_edge.store.store import Store
from selfheal_edge.tflite.file.rewrite import ModelCopy

__all__ = ["Found", "KeptGenerations", "Late"]

Late: TypeAlias = tuple[int, bytes, bytes]
"""A generation that is not stored yet: its number, source and inputs, as `propose` takes them."""

_MODEL: Final = "model"
_ACTIVE: Final = "active"
_LATEST: Final = "latest"
_TRIAL: Final = "trial"
_HELD: Final = "held"


class Found:
    """A generation that the store holds.

    Parameters
    ----------
    row
        What the store says of it.
    source, inputs
        Our copy of the file with its weights; the correction of inputs, empty for none.
    fingerprint
        What decides exact outputs here.
    lesson
        What it was learned from; None: from nothing, or that is not known.
    patch
        What makes it of golden, where it is on trial and that is known.
    """

    def __init__(
        self,
        row: StoredGeneration,
        source: bytes,
        inputs: bytes,
        fingerprint: str,
        lesson: Lesson | None,
        patch: Patch | None,
    ) -> None:
        self.number = row.number
        self.digest = row.identity
        """What equal ones share, which answer alike: `StoredGeneration.identity`."""
        self.source, self.inputs = source, inputs
        self.is_pinned = bool(row.fields.get("pinned"))
        self.is_learned = bool(row.fields.get("learned"))
        """Whether it is a repair's, for a condition."""
        is_here = row.fields.get("fingerprint") == fingerprint
        self.answers = str(row.fields.get("answers")) if is_here else None
        """What tells its known answers where they were recorded; None: not known for this place."""
        self.lesson, self.patch = lesson, patch
        self.was_taught = self.is_learned or row.fields.get("lesson") is not None
        """Whether it was learned from something, though that may not be readable here."""


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
    writes
        Whether the store is one of this model. Not while it is on trial: what would be stored then
        waits for `begin_writing`.
    """

    def __init__(
        self, store: Store, copy: ModelCopy, fingerprint: str, *, writes: bool = True
    ) -> None:
        self._store = store
        self._rows = StoredGenerations(store)
        self._copy = copy
        self._fingerprint = fingerprint
        self._writes = writes
        self._serves = 0  # after a restart
        self._going_on: frozenset[int] = frozenset()
        self._on_trial: int | None = None
        # Of each generation that is not stored yet: what is to be stored with it, its identity.
        self._unsaved: dict[int, tuple[dict[str, Any], str]] = {}
        self.problems: list[str] = []
        """What could not be kept or put back, and why; for the journal, which empties it."""

    # ---------------------------------------------------------------- the start

    @property
    def active(self) -> int:
        """The generation that served last, and was confirmed, or whose trial goes on."""
        if not self._writes:
            return 0
        if self._on_trial is not None:
            return self._on_trial
        try:
            row = self._store.get(_MODEL, _ACTIVE)
            self._serves = 0 if row is None else int(row)
            return self._serves
        except (StoreError, IntegrityError, ValueError) as error:
            self.problems.append(f"golden serves: {error}")
            return 0

    @property
    def interrupted(self) -> tuple[str, ...]:
        """Digests of the generations whose trial the end of the process has ended."""
        return tuple(row.identity for row in self._all() if self._is_interrupted(row))

    def forget_interrupted(self) -> None:
        """Drop them."""
        for row in self._all():
            if self._is_interrupted(row):
                self._guarded(self._rows.drop, row.number)

    def _is_interrupted(self, row: StoredGeneration) -> bool:
        return row.fields.get("state") == _TRIAL and row.number not in self._going_on

    def go_on(self, numbers: frozenset[int], serves: int | None) -> None:
        """Have the trials of these go on, and this one of them serve, if any."""
        self._going_on = numbers
        self._on_trial = serves if serves in numbers else None

    def found(self) -> tuple[Found, ...]:
        """Return all that are held, but golden, each verified; what is damaged is told and left."""
        if not self._writes:
            return ()
        held = (_HELD, *([_TRIAL] if self._going_on else []))
        rows = (row for row in self._all() if row.number and row.fields.get("state") in held)
        return tuple(filter(None, map(self._read, rows)))

    def _read(self, row: StoredGeneration) -> Found | None:
        try:
            file, inputs = self._rows.read(row.number)
            source = self._copy.source_with(file)
        except (StoreError, IntegrityError, ValueError) as error:
            self.problems.append(f"generation {row.number} is not held any more: {error}")
            return None
        patch = self._patch(row, source) if row.number in self._going_on else None
        return Found(row, source, inputs, self._fingerprint, self._lesson(row), patch)

    def _patch(self, row: StoredGeneration, source: bytes) -> Patch | None:
        try:
            return patch_from_plain(row.fields["patch"], self._copy.model.data, source)
        except (LookupError, ValueError, TypeError) as error:
            self.problems.append(f"what made generation {row.number}: {error!r}")
            return None

    def _lesson(self, row: StoredGeneration) -> Lesson | None:
        fields = row.fields.get("lesson")
        if fields is None:
            return None
        try:
            return Lesson.from_plain(fields)
        except IntegrityError as error:
            self.problems.append(f"what generation {row.number} was learned from: {error}")
            return None

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
        return max((named, *self._unsaved, *(row.number for row in self._all())))

    # ---------------------------------------------------------------- while it serves

    def keep_golden(self) -> None:
        """Keep the user's file itself, from which others differ in a few blocks; takes a while."""
        if self._writes and self._rows.find(0) is None:
            fields = {"state": _HELD, "wall": time.time()}
            self._rows.save(0, self._copy.original.data, fields)

    def propose(
        self,
        number: int,
        source: bytes,
        inputs: bytes = b"",
        *,
        is_learned: bool = False,
        lesson: Lesson | None = None,
        patch: Patch | None = None,
        answers: KnownAnswers | None = None,
    ) -> bool:
        """Store weights that are about to act, as on trial: a crash from now on ends the trial.

        `inputs`: what corrects the inputs that go with them; empty for nothing. `is_learned`: they
        are a repair's, which has a condition. `lesson`: what they were learned from. `patch`: what
        makes them of golden, `answers`: their known answers, for a trial that goes on.

        Returns
        -------
        bool
            Whether they are safe; what the user asks for acts all the same.
        """
        fields: dict[str, Any] = {"state": _TRIAL, "wall": time.time(), "learned": is_learned}
        fields.update(_lesson_field(lesson))
        if patch is not None:
            fields["patch"] = patch.to_plain()
        if answers is not None:
            fields |= {"fingerprint": self._fingerprint, "answers": answers.digest}
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
        self._serves = number if serves else self._serves
        self._mark(number, fields, active=number if serves else None)

    def reject(self, number: int) -> str:
        """Forget a generation whose trial has failed; return its `StoredGeneration.identity`."""
        unsaved = self._unsaved.get(number)
        row = self._rows.find(number)
        self.drop(number)
        if row is not None:
            return row.identity
        return "" if unsaved is None else unsaved[1]

    def add(
        self,
        number: int,
        source: bytes,
        answers: KnownAnswers,
        inputs: bytes = b"",
        *,
        lesson: Lesson | None = None,
    ) -> None:
        """Store weights that serve already."""
        self._save(number, source, self._held(answers) | _lesson_field(lesson), inputs)

    def activate(self, number: int, *, at_once: bool = True) -> None:
        """Take note that this generation is to serve; before it does.

        Where nothing can be written now, as soon as there is room; not at once: with whatever is
        written next.
        """
        self._serves = number
        if not self._writes:
            return
        self._store.put(_MODEL, _ACTIVE, b"%d" % number)
        if at_once:
            self._guarded(self._store.commit)

    def pin(self, number: int, is_pinned: bool) -> None:
        """Take note that a generation must not be dropped, or may."""
        if number in self._unsaved or self._rows.find(number) is not None:
            self._mark(number, {"pinned": is_pinned})

    def drop(self, number: int) -> None:
        """Forget a generation."""
        self._unsaved.pop(number, None)
        if self._writes:
            self._guarded(self._rows.drop, number)

    # ---------------------------------------------------------------- what is not stored yet

    def begin_writing(self, late: Iterable[Late]) -> None:
        """Take note that the store is one of this model from now on, and store what has waited."""
        self._writes = True
        for one in late:
            self.save_again(*one)
        self.activate(self._serves, at_once=False)

    @property
    def unsaved(self) -> tuple[int, ...]:
        """Generations that are to be stored, and are not."""
        return tuple(self._unsaved)

    @property
    def is_due(self) -> bool:
        """Whether there are any that could be."""
        return self._writes and bool(self._unsaved)

    def save_again(self, number: int, source: bytes, inputs: bytes) -> None:
        """Store a generation for which there was no room, as what it is by now; if it still is.

        Parameters
        ----------
        number
            One of `unsaved`; nothing is done for others.
        source, inputs
            As for `propose`.
        """
        unsaved = self._unsaved.get(number)
        if unsaved is None:
            return
        fields, _ = unsaved
        is_active = number == self._serves and fields["state"] == _HELD
        told = len(self.problems)
        self._save(number, source, fields, inputs, number if is_active else None)
        del self.problems[told:]  # they were told when there was no room

    # ---------------------------------------------------------------- writing

    def _save(
        self,
        number: int,
        source: bytes,
        fields: dict[str, Any],
        inputs: bytes,
        active: int | None = None,
    ) -> bool:
        data = self._copy.file_with(source)
        is_saved = False
        if self._writes:
            latest = Row(_MODEL, _LATEST, b"%d" % max(number, self.latest))
            also = (latest, *_active_row(active))
            is_saved = self._guarded(self._rows.save, number, data, fields, also, (), inputs)
        if is_saved:
            self._unsaved.pop(number, None)
        else:
            self._unsaved[number] = fields, identity_of(data, inputs)
        return is_saved

    def _held(self, answers: KnownAnswers) -> dict[str, Any]:
        return {
            "state": _HELD,
            "wall": time.time(),
            "fingerprint": self._fingerprint,
            "answers": answers.digest,
        }

    def _mark(self, number: int, changes: Mapping[str, Any], active: int | None = None) -> None:
        unsaved = self._unsaved.get(number)
        if unsaved is not None:
            unsaved[0].update(changes)
            return
        row = self._rows.find(number)
        fields = {**({} if row is None else row.fields), **changes}
        is_marked = self._guarded(self._rows.mark, number, fields, _active_row(active))
        if not is_marked and row is not None:  # all of it is written again
            self._unsaved[number] = fields, row.identity

    def _guarded(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Do what must not keep a model from serving; return whether it was done."""
        try:
            act(*arguments)
        except (StoreError, IntegrityError, ValueError) as error:
            logger().warning("the store: %s", error)
            self.problems.append(f"kept in memory alone: {error}")
            return False
        return True


def _lesson_field(lesson: Lesson | None) -> dict[str, Any]:
    return {} if lesson is None else {"lesson": lesson.to_plain()}


def _active_row(number: int | None) -> tuple[Row, ...]:
    return () if number is None else (Row(_MODEL, _ACTIVE, b"%d" % number),)
