"""The limits of a probe are named, can be raised, and a Python that is none gets advice."""

from __future__ import annotations

import multiprocessing.spawn
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import RUNTIMES
from tests.tflite import builder
from tests.tflite.test_probe import _huge_model, _loop_model

import selfheal_edge as she
from selfheal_edge.errors import ModelFormatError, ProbeError, ProbeLimitError
from selfheal_edge.tflite.runtimes.protocol import RuntimeName
from selfheal_edge.tflite.sandbox.known import known_hashes
from selfheal_edge.tflite.sandbox.probe import Prober, probe


def sized_model(megabytes: int) -> bytes:
    """Return a model whose input and output take so many megabytes together."""
    made = builder.Builder()
    graph = made.graph()
    for _ in range(2):
        graph.tensor([1, megabytes << 17])
    graph.operator("EXP", [0], [1], ("ExpOptions", {}))
    graph.tree.update(inputs=[0], outputs=[1])
    return made.file()


@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_the_memory_limit_is_named_and_can_be_raised(runtime: RuntimeName, kernels: Any) -> None:
    data = sized_model(90)
    small = she.ProbePolicy(memory_bytes=48 * 2**20)
    message = r"took more than 48 MiB while .*: ProbePolicy\(memory_bytes=\.\.\.\) raises it"
    with pytest.raises(ProbeLimitError, match=message):
        probe(data, runtime, kernels, policy=small)
    before = set(known_hashes)
    try:
        probe(data, runtime, kernels, policy=she.ProbePolicy(memory_bytes=400 * 2**20))
    finally:
        known_hashes.intersection_update(before)


def test_memory_that_no_machine_has(runtime: RuntimeName) -> None:
    with Prober(runtime, memory_bytes=256 * 2**20) as prober:
        result = prober.probe(_huge_model())
        assert not result.ok
        assert "took more than 256 MiB" in result.reason
        assert prober.probe(builder.dense_model().file()).ok


def test_the_time_limit_is_named(runtime: RuntimeName) -> None:
    message = r"no end within 1 s while running the model.*ProbePolicy\(seconds=\.\.\.\) raises it"
    with pytest.raises(ProbeLimitError, match=message):
        probe(_loop_model(), runtime, policy=she.ProbePolicy(seconds=1.0))


def test_a_refusal_stays_a_refusal(runtime: RuntimeName) -> None:
    """What fails without any limit is not blamed on one."""
    made = builder.dense_model()
    made.tree["operator_codes"][0]["version"] = 99
    with Prober(runtime) as prober:
        result = prober.probe(made.file())
    assert not result.ok
    assert "the runtime refused the file while" in result.reason
    assert "ProbePolicy" not in result.reason


def test_calibrate_takes_a_policy(runtime: RuntimeName) -> None:
    data = sized_model(30)
    small = she.ProbePolicy(memory_bytes=16 * 2**20)
    before = set(known_hashes)
    try:
        with pytest.raises(ModelFormatError, match="took more than 16 MiB"):
            she.calibrate(data, iter(()), probe=small, runtime=runtime)
        with pytest.raises(ValueError, match="expected a batch of at least 50 samples, got 0"):
            she.calibrate(data, iter(()), runtime=runtime)  # the usual limits will do
    finally:
        known_hashes.intersection_update(before)


NO_PYTHON = r"expected .* Python interpreter.*ProbePolicy\(python=\.\.\.\).*ProbePolicy\(vouched="


@pytest.mark.parametrize("what", ["frozen", "an application", "nothing"])
def test_no_python_gets_advice(
    runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    started = tmp_path / "started"
    application = tmp_path / "camera-app"
    application.write_text(f"#!/bin/sh\ntouch {started}\n")
    application.chmod(0o755)
    monkeypatch.delitem(sys.modules, "multiprocessing.spawn", raising=False)
    if what == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        executable = str(application) if what == "an application" else ""
        monkeypatch.setattr(sys, "executable", executable)
    with Prober(runtime) as prober, pytest.raises(ProbeError, match=NO_PYTHON):
        prober.probe(builder.dense_model().file())
    assert not started.exists()  # who knows what a second one would do


@pytest.mark.parametrize("how", ["policy", "multiprocessing"])
def test_a_python_can_be_named(
    runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    data = builder.dense_model(7, 3).file()
    python = sys.executable
    monkeypatch.setattr(sys, "executable", "/usr/bin/camera-app")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    policy = she.ProbePolicy()
    if how == "policy":
        policy = she.ProbePolicy(python=python)
    else:
        before = multiprocessing.spawn.get_executable()
        multiprocessing.spawn.set_executable(python)
    kept = set(known_hashes)
    try:
        probe(data, runtime, policy=policy)
        assert len(known_hashes - kept) == 1
    finally:
        known_hashes.intersection_update(kept)
        if how == "multiprocessing":
            multiprocessing.spawn.set_executable(os.fsdecode(before))


@pytest.mark.parametrize("executable", ["/bin/true", "/bin/cat", "/nowhere/python3"])
def test_what_is_named_and_is_none(runtime: RuntimeName, executable: str) -> None:
    policy = she.ProbePolicy(python=executable)
    with pytest.raises(ProbeError) as caught:
        probe(builder.dense_model(6, 3).file(), runtime, policy=policy)
    assert "to run as a Python interpreter, got" in str(caught.value)
    assert "ProbePolicy(python=...)" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seconds": 0}, ValueError, "seconds: expected more than 0 and at most 3600, got 0"),
        ({"seconds": float("nan")}, ValueError, "seconds: expected"),
        ({"seconds": "60"}, TypeError, "seconds: expected a number, got '60'"),
        ({"memory_bytes": 1024}, ValueError, "memory_bytes: expected at least 1048576, got 1024"),
        ({"memory_bytes": 1e9}, TypeError, "memory_bytes: expected an integer"),
        ({"vouched": "0" * 64}, TypeError, "vouched: expected a tuple of SHA-256 sums"),
        ({"vouched": ("abc",)}, ValueError, "vouched: expected SHA-256 in 64 lower-case"),
        ({"python": 3}, TypeError, "python: expected a path or None, got 3"),
    ],
)
def test_bad_policies(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        she.ProbePolicy(**options)
    with pytest.raises(TypeError, match="probe: expected a ProbePolicy"):
        she.Policy(probe=options)  # type: ignore[arg-type]


def test_a_raised_limit_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was too large to be compiled once is compiled under a larger limit."""
    if "litert" not in RUNTIMES:
        pytest.skip("the runtime litert cannot be imported here")
    from selfheal_edge.tflite.runtimes import litert

    data = builder.dense_model(9, 3).file()
    x = iter(np.zeros((60, 1, 9), np.float32))

    def small(*_: Any) -> None:
        raise ProbeLimitError("the runtime took more than 1 MiB")

    with monkeypatch.context() as limited:
        limited.setattr(litert, "probe_copy", small)
        first = she.calibrate(data, iter(np.zeros((60, 1, 9), np.float32)), runtime="litert")
        with she.SelfHealingModel(data, first, runtime="litert") as model:
            assert "packed" not in model.weights.images
    with she.SelfHealingModel(data, she.calibrate(data, x, runtime="litert")) as model:
        assert "packed" in model.weights.images
