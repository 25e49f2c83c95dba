"""Where stores lie in these tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store.serving import KEY, Open, hurry
from tests.support import in_memory

import selfheal_edge as she
from selfheal_edge.store import store as store_module


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory: no disk is asked to synchronise what these tests never cut off.

    What a cut of the power leaves is made from a record of the writes, not by a disk; a process
    that is killed loses nothing that it wrote, on a disk or in memory.
    """
    with tempfile.TemporaryDirectory(prefix="selfheal-store-", dir=in_memory()) as folder:
        yield Path(folder)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the stores of a test write and collect many times a second."""
    for name in ("_BATCH_SECONDS", "_STATE_SECONDS"):
        monkeypatch.setattr(store_module, name, getattr(store_module, name))
    hurry()


@pytest.fixture
def open_model(tmp_path: Path) -> Iterator[Open]:
    """Open models with the store and the key of the test; close what the test has left open."""
    models: list[she.SelfHealingModel] = []

    def open_one(model: Any, baseline: she.Baseline, **how: Any) -> she.SelfHealingModel:
        how = {"store": tmp_path / "store", "key": KEY, **how}
        models.append(she.SelfHealingModel(model, baseline, **how))
        return models[-1]

    yield open_one
    for model in models:
        model.close()
