"""`python -OO`, which drops docstrings and assertions, does what Python does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.support import IMPORT_PATH, RUNTIMES

SCRIPT = """
import sys
import numpy as np
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

assert False, "assertions are off"
digits = load_digits()
baseline = she.calibrate(digits_model_path(), digits.calibration_inputs[:200], runtime=sys.argv[1])
baseline = she.Baseline.from_bytes(baseline.to_bytes())
with she.SelfHealingModel(digits_model_path(), baseline, runtime=sys.argv[1]) as model:
    before = model.predict(digits.heldout_inputs[:20])
    she.redteam.inject(model).flip_bits(20, seed=0)
    found = model.weights.scrub()
    same = np.array_equal(model.predict(digits.heldout_inputs[:20]), before)
    p = model.infer(digits.heldout_inputs[:1])
    model.snapshot(), model.rollback(), model.commission(flips=False)
    print(len(found) > 0, same, p.trusted, model.health.state)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_model_heals(name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": IMPORT_PATH}
    ended = subprocess.run(
        [sys.executable, "-OO", "-c", SCRIPT, name],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert ended.stderr == ""
    assert ended.stdout.split() == ["True", "True", "True", "healthy"]


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--help"]])
def test_the_command_line(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-OO", "-m", "selfheal_edge", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": IMPORT_PATH},
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
