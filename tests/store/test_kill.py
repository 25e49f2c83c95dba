"""A serving process that is killed at random moments: see `kill_loop`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.kill_loop import KillLoop


@pytest.mark.slow
@pytest.mark.parametrize("kills", [15, pytest.param(1000, marks=pytest.mark.long)])
def test_killed_at_any_moment(tmp_path: Path, kills: int) -> None:
    loop = KillLoop(tmp_path, seed=kills)
    try:
        loop.kill(kills)
    finally:
        loop.close()
    print(dict(loop.seen))
    assert loop.seen["kills"] == kills
    assert loop.seen["changes of generation"] > kills / 2
    assert loop.seen["commits that were promised"] > kills / 4
