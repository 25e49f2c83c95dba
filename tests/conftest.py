"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Tests run side by side. Threads of linear algebra would only wait for each other, and spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import support
from tests.support import RUNTIMES, SHARED, Array, in_memory

import selfheal_edge as she
from selfheal_edge.assets import DigitsData, digits_model_path, load_digits
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.sandbox.sharing import sharing_helpers

STARTED = time.monotonic()

# The secret by which a device knows what it wrote itself; the user's own is none of ours.
STATE_FOLDER = tempfile.TemporaryDirectory(prefix="selfheal-state-", dir=in_memory())
os.environ["XDG_STATE_HOME"] = STATE_FOLDER.name

# The same examples everywhere, a quarter of what Hypothesis tries by itself, and a machine that is
# slow or pauses fails no property. All of them: pytest --hypothesis-profile whole; and other ones
# each time: explore
PACE: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, max_examples=25, **PACE)
settings.register_profile("whole", derandomize=True, **PACE)
settings.register_profile("explore", **PACE)
settings.load_profile("same")


FAST_TIER = "not slow and not long"
FAST_TIER_BUDGET_S = 120  # on two cores


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what the fast tier took of its budget, so that a slow test is seen when it comes."""
    if config.args == config.getini("testpaths") and config.option.markexpr == FAST_TIER:
        seconds = time.monotonic() - STARTED
        terminalreporter.write_line(
            f"fast tier: {seconds:.0f} s; its budget is {FAST_TIER_BUDGET_S} s on two cores"
        )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage while tests are collected, and never again at what stays of that.

    Those are 300,000 objects. Looking through them takes 8 s while they come, 0.28 s each time
    after.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def warm_helpers() -> Iterator[None]:
    """One process tries all unknown files of a run, rather than one for each file."""
    with sharing_helpers():
        yield


def pytest_report_header() -> str:
    """Say which runtimes all tests are run on."""
    return f"runtimes that can be imported here: {', '.join(RUNTIMES) or 'none'}"


@pytest.fixture(params=RUNTIMES or [None])
def runtime(request: pytest.FixtureRequest) -> RuntimeName:
    """Every runtime that can be imported here, one after the other."""
    if request.param is None:
        pytest.skip("no runtime can be imported here")
    name: RuntimeName = request.param
    return name


@pytest.fixture(scope="session")
def digits() -> DigitsData:
    """The demo's digits; do not write to them."""
    data = load_digits()
    for array in data:
        array.flags.writeable = False
    return data


@pytest.fixture(scope="session")
def samples(digits: DigitsData) -> Array:
    """Held-out digits, shape (500, 1, 8, 8, 1): one element is one input of the model."""
    return digits.heldout_inputs[:, np.newaxis]


@pytest.fixture(scope="session")
def digits_baseline() -> she.Baseline:
    """A baseline of the demo model on the fastest runtime here."""
    return support.digits_baseline()


@pytest.fixture(scope="module")
def plain_calibration() -> Iterator[None]:
    """Baselines for tests in which nothing is diagnosed: without what a diagnosis compares with.

    Learning that takes most of a calibration of images.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("selfheal_edge.calibration.calibrate.is_profiled", lambda _session: False)
        yield


@pytest.fixture
def model(digits_baseline: she.Baseline) -> Iterator[she.SelfHealingModel]:
    """The demo model, guarded."""
    with she.SelfHealingModel(digits_model_path(), digits_baseline, seed=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of public models beside the project."""
    if not SHARED.is_dir():
        pytest.skip("the public models are not there: ../shared/models, seen from the project")
    return SHARED
