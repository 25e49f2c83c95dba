"""A fixed series of commits, what the store holds after each, and a program that makes them.

As a program: workload.py FOLDER COMMITS. After each commit its number goes to FOLDER/marker.
"""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.database import Database
from selfheal_edge.store.seal import Seal

KEY = b"a key of the test"
MAX_BYTES = 1 << 20
JOURNAL_BYTES = 3000


@dataclass
class Held:
    """What a store holds."""

    rows: dict[tuple[str, str], bytes] = field(default_factory=dict)
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    records: list[bytes] = field(default_factory=list)
    """All there ever were; the store keeps the newest."""

    def apply(self, changes: Changes) -> None:
        for row in changes.rows:
            if row.value is None:
                self.rows.pop((row.area, row.name), None)
            else:
                self.rows[row.area, row.name] = row.value
        self.records += changes.journal
        self.blocks |= {Seal.block(data): data for data in changes.blocks}
        for name in changes.dropped_blocks:
            self.blocks.pop(name, None)


def steps(count: int) -> list[Changes]:
    """Return commits of every kind: states, events, generations that come and go, large rows."""
    rng = random.Random(5)
    made = []
    blocks: list[bytes] = []
    for n in range(count):
        changes = Changes(rows=[Row("state", "monitor", rng.randbytes(700))])
        changes.journal += [f"event {n}.{i} ".encode() * 5 for i in range(rng.randrange(4))]
        if n % 3 == 0:
            data = rng.randbytes(4096)
            blocks.append(data)
            changes.blocks.append(data)
            changes.rows.append(Row("generation", str(n), Seal.block(data)))
        if n % 7 == 6:
            changes.dropped_blocks.append(Seal.block(blocks.pop(0)))
            changes.rows.append(Row("generation", str(n - 6), None))
        if n % 5 == 4:
            changes.rows.append(Row("pool", f"sample {n % 4}", rng.randbytes(rng.randrange(3000))))
        made.append(changes)
    return made


def after(count: int, commits: int) -> Held:
    """Return what is held after the first `commits` of `count`."""
    held = Held()
    for changes in steps(count)[:commits]:
        held.apply(changes)
    return held


def differences(database: Database, held: Held) -> list[str]:
    """Say in what a store differs from what it shall hold; read and verify all of it."""
    found = []
    database.verify()
    rows: dict[tuple[str, str], bytes] = {}
    for area in {area for area, _ in held.rows} | {"state", "generation", "pool"}:
        rows |= {(area, name): value for name, value in database.items(area).items()}
    if rows != held.rows:
        found.append(f"rows {sorted(rows.keys() ^ held.rows.keys())}, or their values")
    if database.block_names() != held.blocks.keys():
        found.append("names of blocks")
    if any(database.block(name) != data for name, data in held.blocks.items()):
        found.append("blocks")
    records = [record.body for record in database.records()]
    if database.journal.next != len(held.records):
        found.append(f"{database.journal.next} records, {len(held.records)} expected")
    if records != held.records[len(held.records) - len(records) :]:
        found.append("records")
    return found


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    marker = os.open(folder / "marker", os.O_WRONLY | os.O_CREAT, 0o600)
    with Database.create_or_open(folder / "store", KEY, max_bytes=MAX_BYTES) as database:
        os.write(marker, b"0\n")
        for n, changes in enumerate(steps(count)):
            if n >= database.commits:
                database.commit(changes, keep_journal_bytes=JOURNAL_BYTES)
                os.write(marker, f"{n + 1}\n".encode())
            if n % 4 == 3:
                database.write_back(keeps_length=True)  # it is cut where something was removed


if __name__ == "__main__":
    main()
