from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tflite.support import MODULES, RUNTIMES, SHARED


@pytest.fixture
def runtime() -> str:
    if not RUNTIMES:
        pytest.skip("no TFLite runtime is installed")
    return RUNTIMES[0]


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("../shared/models is absent")
    return SHARED


@pytest.fixture
def interpreter_module() -> Any:
    if not RUNTIMES:
        pytest.skip("no TFLite runtime is installed")
    return importlib.import_module(MODULES[RUNTIMES[0]] + ".interpreter")
