"""A state that is written every minute: what is there again, and what it costs the flash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from selfheal_edge.errors import IntegrityError
from selfheal_edge.store.changes import Changes, Row
from selfheal_edge.store.database import Database
from selfheal_edge.store.kept_state import KeptState

SIZE = 80_000
CHANGED = 7_500
"""Bytes of it that a minute of predictions changes: so many are in no order, and as many do."""


def minutes(count: int, seed: int = 3) -> list[bytes]:
    """Return the states after so many minutes; places that change are mostly the same."""
    rng = random.Random(seed)
    state = bytearray(rng.randbytes(SIZE))
    places = [range(at, at + 60) for at in range(0, SIZE, SIZE // (CHANGED // 60))]
    found = []
    for _ in range(count):
        for place in places:
            state[place.start : place.stop] = rng.randbytes(60)
        extra = rng.randrange(SIZE - 100)
        state[extra : extra + 100] = rng.randbytes(100)
        found.append(bytes(state))
    return found


def told_to_system() -> int:
    line = Path("/proc/self/io").read_text(encoding="ascii").splitlines()[1]
    assert line.startswith("wchar:")
    return int(line.split()[1])


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.create_or_open(tmp_path / "store", None, max_bytes=16 << 20)


def commit(database: Database, rows: dict[str, bytes]) -> None:
    changes = Changes([Row("state", name, row) for name, row in rows.items()])
    database.commit(changes, keep_journal_bytes=1000)


@pytest.mark.slow
def test_a_minute_costs_little_more_than_what_has_changed(database: Database) -> None:
    """With all that a commit and the log cost; it was four times that."""
    states = minutes(130)
    kept = KeptState("monitor", states[0])
    with database:
        for state in states[:10]:
            commit(database, kept.rows(state))
        database.write_back()
        counted, told = database.bytes_written, told_to_system()
        for state in states[10:]:
            commit(database, kept.rows(state))
        database.write_back()
        counted = database.bytes_written - counted
        told = told_to_system() - told
    assert counted / 120 < 2 * CHANGED
    assert abs(counted - told) < 0.01 * told


@pytest.mark.parametrize("whole", [False, True])
def test_it_goes_on_from_any_commit(database: Database, whole: bool) -> None:
    states = minutes(40)
    kept = KeptState("monitor", states[0])
    with database:
        for n, state in enumerate(states):
            commit(database, kept.rows(state, whole=whole and n % 5 == 4))
            found = KeptState.found("monitor", database.items("state"))
            assert found is not None
            assert found[1] == state, n
            if n % 7 == 6:
                kept = found[0]


def test_sizes_may_change(database: Database) -> None:
    rng = random.Random(1)
    kept = KeptState("monitor", b"")
    with database:
        for size in (0, 10, 5_000, 100, 90_000, 20):
            state = rng.randbytes(size)
            commit(database, kept.rows(state))
            found = KeptState.found("monitor", database.items("state"))
            assert found is not None
            assert found[1] == state


def test_what_is_not_there_or_does_not_belong_together() -> None:
    one, other = minutes(2, seed=1), minutes(2, seed=2)
    rows = KeptState("monitor", one[0]).rows(one[1])
    others = KeptState("monitor", other[0]).rows(other[1])
    assert KeptState.found("monitor", {}) is None
    assert KeptState.found("monitor", {"monitor.base": rows["monitor.base"]}) is None
    with pytest.raises(IntegrityError, match="belongs to the rows before it"):
        KeptState.found("monitor", {**rows, "monitor.base": others["monitor.base"]})
    origin = rows["monitor.origin"]
    size = int.from_bytes(origin[8:12], "little")
    with pytest.raises(IntegrityError, match="readable row"):
        KeptState.found("monitor", {**rows, "monitor.origin": origin[:-size] + bytes(size)})
    # A difference to a state that is no longer there is of before.
    found = KeptState.found("monitor", {**rows, "monitor": others["monitor"]})
    assert found is not None
    assert found[1] == one[1]
