"""A process that is killed while it learns: see `kill_learning`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.store.kill_learning import KillLearning

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5, pytest.param(300, marks=pytest.mark.long)])
def test_killed_while_it_learns(tmp_path: Path, kills: int) -> None:
    loop = KillLearning(tmp_path, seed=kills)
    try:
        loop.kill(kills)
    finally:
        loop.close()
    print(dict(loop.seen))
    assert loop.seen["kills"] == kills
    assert loop.seen["repair"] >= kills // 2, "it has learned on the way"
