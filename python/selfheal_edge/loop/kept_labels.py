"""What a store keeps of labels: sources, pool, quarantine and questions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import IntegrityError
from selfheal_edge.learning.kept_rows import (
    ANSWERED,
    CONFIRMED,
    FACTS,
    POOL,
    QUARANTINE,
    QUESTIONS,
)
from selfheal_edge.learning.lesson_inputs import LESSON_INPUTS
from selfheal_edge.learning.samples import SampleTable
from selfheal_edge.loop.label_desk import LabelDesk
from selfheal_edge.policy import Policy
from selfheal_edge.store.changes import Row

__all__ = ["KeptLabels"]

_DAY: Final = 86_400.0
_SHARE: Final = 4
"""One byte in so many of those that may be written a day is for these rows."""
_ANY: Final = frozenset({-1})
"""In place of ids: inputs that are not known, and must go."""


class KeptLabels:
    """The rows of one model's labels.

    Parameters
    ----------
    desk
        Where labels come in.
    policy
        Says what of inputs may lie on a disk, and how much may be written.

    Notes
    -----
    Counters and quotas are a small row, written whenever they have changed; of the rest a row is
    written again once what was written before is worth its share of the day's bytes, or at the end,
    or where an input in it has become too old to lie there.
    """

    def __init__(self, desk: LabelDesk, policy: Policy) -> None:
        self._desk = desk
        self._oldest = float(policy.keep_inputs) if policy.keep_inputs is not False else 0.0
        self._pace = policy.store_bytes_per_day / _SHARE / _DAY
        self._written: dict[str, bytes] = {}
        self._changes: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._expires: dict[str, float] = {}
        self._inputs: dict[str, frozenset[int]] = {}  # ids of those that were written

    @property
    def _tables(self) -> dict[str, SampleTable]:
        desk = self._desk
        return {
            POOL: desk.pool.table,
            QUARANTINE: desk.quarantine.table,
            QUESTIONS: desk.questions.table,
            LESSON_INPUTS: desk.lesson_inputs.table,
        }

    def put(self, area: str, put: Callable[[list[Row]], None], *, is_last: bool = False) -> None:
        """Have the rows written that `rows` returns, before another thread makes newer ones."""
        with self._desk.held():
            put(self.rows(area, is_last=is_last))

    def rows(self, area: str, *, is_last: bool = False) -> list[Row]:
        """Return the rows to write now.

        Parameters
        ----------
        area
            Of the rows.
        is_last
            All that have changed.
        """
        wipes: set[str] = set()
        found: dict[str, bytes] = {}
        with self._desk.held():
            now = self._desk.clock()
            facts = json.dumps(self._desk.intake.to_plain(), sort_keys=True).encode()
            if facts != self._written.get(FACTS):
                found[FACTS] = self._written[FACTS] = facts
            self._add_if_due(found, ANSWERED, self._answered, now, is_last)
            self._add_if_due(found, CONFIRMED, self._confirmed, now, is_last)
            for name, table in self._tables.items():
                has_changed = table.changes != self._changes.get(name, 0)
                is_due = is_last or self._desk.is_urgent or now >= self._due.get(name, -np.inf)
                is_stale = now > self._expires.get(name, np.inf)
                if (has_changed and is_due) or is_stale:
                    row = table.to_bytes(now, time.time(), oldest=self._oldest)
                    found[name] = row
                    held = _with_inputs(table, now, self._oldest)
                    if self._inputs.get(name, held) - held:
                        wipes.add(name)
                    self._inputs[name] = held
                    self._changes[name] = table.changes
                    self._put_off(name, row, now)
                    self._expires[name] = self._next_expiry(table, now)
            self._desk.is_urgent = False
        return [Row(area, name, row, name in wipes) for name, row in found.items()]

    def _next_expiry(self, table: SampleTable, now: float) -> float:
        """Return when the first input in a row that is written now is too old to lie there."""
        young = table.rows["second"][_young(table, now, self._oldest)]
        return float(young.min()) + self._oldest if len(young) else np.inf

    def _add_if_due(
        self,
        found: dict[str, bytes],
        name: str,
        make: Callable[[], bytes],
        now: float,
        is_last: bool,
    ) -> None:
        if not is_last and now < self._due.get(name, -np.inf):
            return
        row = make()
        if row and row != self._written.get(name):
            found[name] = self._written[name] = row
            self._put_off(name, row, now)

    def _put_off(self, name: str, row: bytes, now: float) -> None:
        self._due[name] = now + len(row) / self._pace

    def _answered(self) -> bytes:
        told = self._desk.intake.answered_to_plain()
        return json.dumps(told).encode() if told["said"] else b""

    def _confirmed(self) -> bytes:
        quarantine = self._desk.quarantine
        if not quarantine.confirmations:
            return b""
        return quarantine.confirmations.to_bytes(8, "little") + quarantine.confirmed.tobytes()

    def go_on_with(self, rows: Mapping[str, bytes]) -> list[str]:
        """Go on with what the process before has kept; return what could not be read."""
        problems: list[str] = []
        desk = self._desk
        readers: dict[str, Callable[[Any], None]] = {
            FACTS: lambda row: desk.intake.go_on_with(json.loads(row)),
            ANSWERED: lambda row: desk.intake.go_on_with_answered(json.loads(row)),
            CONFIRMED: self._recall_confirmed,
        }
        with desk.held():
            for name, read in readers.items():
                if name not in rows:
                    continue
                try:
                    read(rows[name])
                    self._written[name] = rows[name]
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    problems.append(f"{name} begins anew: {error}")
            now, wall = desk.clock(), time.time()
            for name, table in self._tables.items():
                if name not in rows:
                    continue
                try:
                    is_whole = table.go_on_with(rows[name], now, wall, oldest=self._oldest)
                    self._changes[name] = table.changes
                    self._expires[name] = self._next_expiry(table, now)
                    self._inputs[name] = _with_inputs(table, now, self._oldest)
                except IntegrityError as error:
                    problems.append(f"{name} begins anew: {error}")
                    is_whole = False
                if not is_whole:  # what may lie there no longer is overwritten at once
                    self._expires[name] = -np.inf
                    self._inputs[name] = _ANY
            desk.go_on()
        return problems

    def _recall_confirmed(self, row: bytes) -> None:
        quarantine = self._desk.quarantine
        digests = np.frombuffer(row[8:], np.uint8)
        if digests.size != quarantine.confirmed.size:
            raise ValueError(f"expected {quarantine.confirmed.size} bytes, got {digests.size}")
        quarantine.confirmed[:] = digests.reshape(quarantine.confirmed.shape)
        quarantine.confirmations = int.from_bytes(row[:8], "little")


def _young(table: SampleTable, now: float, oldest: float) -> npt.NDArray[np.bool_]:
    """Return which rows have an input that may lie on a disk."""
    rows = table.rows
    found: npt.NDArray[np.bool_] = (rows["id"] >= 0) & rows["has_input"]
    return found & (now - rows["second"] <= oldest if oldest else np.False_)


def _with_inputs(table: SampleTable, now: float, oldest: float) -> frozenset[int]:
    return frozenset(table.rows["id"][_young(table, now, oldest)].tolist())
