"""A process ends with its own exit code while daemon threads are predicting."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from tests import warm

import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.runtimes.select import KernelsArgument

# Three threads, so that one runs, and others wait for the lock, when the interpreter ends.
PROGRAM = """
import sys, threading, time
import selfheal_edge as she
from selfheal_edge.assets import digits_model_path, load_digits

runtime, kernels, mode, count = *sys.argv[1:4], int(sys.argv[4])
digits = load_digits()
options = {"runtime": runtime, "kernels": kernels}
baseline = she.Baseline.load(sys.argv[5])
policy = she.Policy(mode=mode, rebuild_after_seconds=0.02)
model = she.SelfHealingModel(digits_model_path(), baseline, policy=policy, **options)

def serve():
    while True:
        model.predict(digits.heldout_inputs[:count])

for _ in range(3):
    threading.Thread(target=serve, daemon=True).start()
time.sleep(0.1)
sys.exit(3)
"""


@functools.cache
def calibrated(runtime: RuntimeName, kernels: KernelsArgument) -> she.Baseline:
    inputs = load_digits().calibration_inputs[:100]
    return she.calibrate(digits_model_path(), inputs, runtime=runtime, kernels=kernels)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("mode", ["inline", "background"])
@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_daemon_threads_are_predicting(
    runtime: RuntimeName,
    kernels: KernelsArgument,
    mode: str,
    count: int,
    times: int,
    tmp_path: Path,
) -> None:
    calibrated(runtime, kernels).save(tmp_path / "baseline")
    for _ in range(times):
        done = warm.run(PROGRAM, runtime, kernels, mode, count, tmp_path / "baseline", timeout=120)
        assert (done.returncode, done.stderr) == (3, "")
