"""Where stores lie in these tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import in_memory


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory: no disk is asked to synchronise what these tests never cut off.

    What a cut of the power leaves is made from a record of the writes, not by a disk; a process
    that is killed loses nothing that it wrote, on a disk or in memory.
    """
    with tempfile.TemporaryDirectory(prefix="selfheal-store-", dir=in_memory()) as folder:
        yield Path(folder)
