"""A budget that all processes of a device share, in a file."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import IMPORT_PATH, begins

import selfheal_edge as she
from selfheal_edge.errors import BudgetExhaustedError, StoreVersionError

KEY = b"0123456789abcdef"


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(path: Path, clock: Clock, key: bytes | None = KEY) -> she.RepairBudget:
    return she.RepairBudget(1.0, 60.0, clock, path=path, key=key)


def begun(budget: she.RepairBudget) -> int:
    return sum(begins(budget) for _ in range(10))


_TAKE = """
import sys
import selfheal_edge as she
budget = she.RepairBudget(1.0, 60.0, path=sys.argv[1])
taken = 0
try:
    while taken < int(sys.argv[2]):
        budget.begin()
        taken += 1
except she.errors.BudgetExhaustedError:
    pass
print(taken)
"""


@pytest.mark.slow
def test_processes_take_from_one_budget(tmp_path: Path) -> None:
    path = tmp_path / "repairs"
    env = {**os.environ, "PYTHONPATH": IMPORT_PATH}
    command = [sys.executable, "-c", _TAKE, str(path)]
    running = [
        subprocess.Popen([*command, "3"], stdout=subprocess.PIPE, env=env, text=True)
        for _ in range(3)
    ]
    taken = [int(process.communicate()[0]) for process in running]
    assert sum(taken) == 4
    assert path.stat().st_mode & 0o777 == 0o600
    assert she.RepairBudget(1.0, 60.0, path=path).left[0] < 0.1


def test_a_restart_of_a_process_or_of_the_device_buys_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "repairs", Clock()
    first = opened(path, clock)
    assert begun(first) == 4
    first.spend(300)
    assert opened(path, clock).left == (0.0, -60.0)
    # A model's own store says what was left when it was closed; the device's file knows better.
    first.go_on_with(b"[0, -1000]")
    first.use_up()
    assert first.left == (0.0, -60.0)
    clock.now += 3600
    assert opened(path, clock).left == (1.0, 0.0)
    boot = tmp_path / "boot_id"
    boot.write_text("another life\n")
    monkeypatch.setattr("selfheal_edge.repair.budget_file._BOOT", str(boot))
    clock.now = 5.0
    again = opened(path, clock)
    assert again.left == (1.0, 0.0)
    clock.now += 3600
    assert again.left == (2.0, 60.0)
    assert opened(path, clock).left == (2.0, 60.0)


def test_no_repair_begins_while_the_file_cannot_be_had(tmp_path: Path) -> None:
    path, clock = tmp_path / "repairs", Clock()
    budget = opened(path, clock)
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BudgetExhaustedError, match="processes share cannot be asked"):
            budget.begin()
        budget.spend(100)
        assert budget.left == (4.0, 240.0)
    budget.begin()
    assert budget.left == (3.0, 140.0)
    path.unlink()  # what is known goes on
    assert begun(budget) == 3
    assert opened(path, clock).left == (0.0, 140.0)


def test_a_damaged_file_leaves_nothing_and_fills_by_the_hour(tmp_path: Path) -> None:
    path, clock = tmp_path / "repairs", Clock()
    assert begun(opened(path, clock)) == 4
    whole = path.read_bytes()
    for place in range(0, len(whole.rstrip()), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert opened(path, clock).left == (0.0, 0.0)
        except StoreVersionError:  # the bit that makes 1 a greater number
            assert whole[place : place + 1] == b"1"
    path.write_bytes(whole)
    assert opened(path, clock, b"another key.....").left == (0.0, 0.0)
    clock.now += 3600
    assert opened(path, clock, b"another key.....").left == (1.0, 60.0)


def test_what_is_not_ours_stays_as_it_is(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "notes.txt"
    path.write_text("not a budget")
    with pytest.raises(FileExistsError, match=r"notes.txt: expected a budget's file"):
        opened(path, clock)
    assert path.read_text() == "not a budget"
    newer = tmp_path / "newer"
    opened(newer, clock, None)
    tag, body = newer.read_bytes().rstrip().split(b" ", 1)
    text = (tag + b" " + json.dumps({**json.loads(body), "version": 2}).encode()).ljust(511) + b"\n"
    newer.write_bytes(text)
    with pytest.raises(StoreVersionError, match="version 1 at most, got 2"):
        opened(newer, clock)
    assert newer.read_bytes() == text
    with pytest.raises(IsADirectoryError):
        opened(tmp_path, clock)
    with pytest.raises(OSError, match="No space left"):
        opened(Path("/dev/full"), clock)
    with pytest.raises(ValueError, match="key: expected None without a path"):
        she.RepairBudget(key=KEY)
