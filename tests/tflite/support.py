"""Where the shared models are, and which runtimes are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Beside the project; a worktree stands one level deeper.
SHARED = next(
    (d for d in (p / "shared" / "models" for p in ROOT.parents[:2]) if d.is_dir()),
    ROOT.parent / "shared" / "models",
)
MODULES = {"litert": "ai_edge_litert", "tflite_runtime": "tflite_runtime"}
RUNTIMES = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]


def shared_models(folder: str = ".") -> list[Any]:
    """Return the files of a folder as parameters; one that skips where there are none."""
    files = sorted((SHARED / folder).glob("*.tflite"))
    if not files:
        reason = "../shared/models is absent"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(path, id=path.stem) for path in files]
