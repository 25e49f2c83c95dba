"""What a reader visits to follow one healed flip is at most half of what it once was."""

from __future__ import annotations

import sys

import pytest
from tests.support import ROOT, RUNTIMES

sys.path.insert(0, str(ROOT / "benchmarks"))

from trace_heal import BEFORE, count, heal_once


@pytest.mark.skipif("litert" not in RUNTIMES, reason="counted with the runtime that packs weights")
def test_one_healed_flip_passes_few_files() -> None:
    now = count(heal_once())
    assert now["files"] <= BEFORE["files"]
    assert now["moves"] <= BEFORE["moves"] // 2, now
    assert now["returns"] <= BEFORE["returns"] // 2, now


def test_moves_and_returns_are_counted() -> None:
    places = [(name, "f") for name in "aabacb"]
    assert count(places) == {"files": 3, "moves": 4, "returns": 2}
