"""What a process that serves holds: only what serving needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path

# Each costs some 0.2 to 10 MiB of resident memory, for what a start on a known file never does.
NOT_FOR_SERVING = frozenset(
    """
    _hashlib _socket _ssl ai_edge_litert.compiled_model ai_edge_litert.interpreter argparse asyncio
    email hashlib hmac importlib.metadata logging multiprocessing numpy.random pathlib queue random
    secrets selectors shutil signal socket sqlite3 subprocess tempfile traceback urllib zipfile
    selfheal_edge.calibration.calibrate selfheal_edge.cli selfheal_edge.concurrency.worker
    selfheal_edge.redteam selfheal_edge.store.database selfheal_edge.tflite.fixed_shapes
    selfheal_edge.tflite.sandbox.probe
    """.split()  # noqa: SIM905 — names, one after the other
)
SERVE = """
import sys
import numpy
before = set(sys.modules)
import selfheal_edge as she
model, baseline = sys.argv[1:]
with she.SelfHealingModel(model, she.Baseline.load(baseline)) as guarded:
    spec = guarded.inputs[0]
    guarded.predict(numpy.zeros(spec.shape, spec.dtype))
    assert guarded.events == [] or not guarded.events, guarded.events
    print(*sorted(set(sys.modules) - before), sep="\\n")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a place where this device keeps its secret, so that it knows its own baselines."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_serving_loads_only_what_serving_needs(here: Path, digits_baseline: she.Baseline) -> None:
    path = here / "digits.baseline"
    digits_baseline.save(path)
    loaded = subprocess.run(
        [sys.executable, "-c", SERVE, os.fspath(digits_model_path()), os.fspath(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.split()
    assert "selfheal_edge.model" in loaded
    needless = NOT_FOR_SERVING.intersection(loaded)
    if digits_baseline.fingerprint.runtime == "tflite_runtime":
        needless -= {"ai_edge_litert.interpreter"}
    assert not needless
