"""Handles, variants and text are never looked at as arrays of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import warm
from tests.made_models import accumulating
from tests.tflite.builder import Builder
from tests.tflite.instances import SETUPS, built, raw_answer, raw_interpreter, same

from selfheal_edge.errors import ModelFormatError

_OPEN_OFTEN = """
import sys
import numpy as np
import selfheal_edge as she
path, runtime, kernels, times = sys.argv[1:]
x = np.random.default_rng(0).standard_normal((200, 1, 8)).astype(np.float32)
baseline = she.calibrate(path, x, runtime=runtime, kernels=kernels, seed=1)
for n in range(int(times)):
    with she.SelfHealingModel(path, baseline, runtime=runtime, kernels=kernels, seed=1) as model:
        model.predict(x[0])
        model.weights.scrub()
        if n == 0:
            model.commission()
print("all", times)
"""


@pytest.mark.slow
@pytest.mark.parametrize("times", ["8", pytest.param("60", marks=pytest.mark.long)])
@pytest.mark.parametrize("handle_shape", [(), (1,)])
@pytest.mark.parametrize("setup", SETUPS)
def test_handles_of_any_shape_open_again_and_again(
    tmp_path: Path, setup: Any, handle_shape: tuple[int, ...], times: str
) -> None:
    path = tmp_path / "model"
    path.write_bytes(accumulating(handle_shape=handle_shape))
    done = warm.run(_OPEN_OFTEN, path, *setup, times)
    assert (done.returncode, done.stdout) == (0, f"all {times}\n"), done.stderr[-2000:]


@pytest.mark.parametrize("handle_shape", [(), (1,)])
@pytest.mark.parametrize("setup", SETUPS)
def test_answers_equal_the_raw_interpreter_over_a_long_stream(
    tmp_path: Path, setup: Any, handle_shape: tuple[int, ...]
) -> None:
    path = tmp_path / "model"
    path.write_bytes(accumulating(handle_shape=handle_shape))
    frames = np.random.default_rng(1).standard_normal((3000, 1, 8)).astype(np.float32)
    runtime, kernels = setup
    with built(path, runtime, kernels) as ours:
        raw = raw_interpreter(path.read_bytes(), runtime, kernels, 1)
        for frame in frames:
            assert same(ours.instance.run([frame]), raw_answer(raw, [frame]))


def with_ends(dtype: str, *, is_input: bool) -> bytes:
    """Return a graph with a tensor of this type among its inputs or its outputs."""
    builder = Builder()
    graph = builder.graph()
    x, y, odd = graph.tensor([1, 4]), graph.tensor([1, 4]), graph.tensor([], dtype)
    graph.operator("ABS", [x], [y], ("AbsOptions", {}))
    if not is_input and dtype == "resource":
        names = {"container": "", "shared_name": "kept"}
        graph.operator("VAR_HANDLE", [], [odd], ("VarHandleOptions", names))
    elif not is_input:
        graph.operator("ZEROS_LIKE", [x], [odd], ("ZerosLikeOptions", {}))
    graph.tree.update(inputs=[x, odd] if is_input else [x], outputs=[y] if is_input else [y, odd])
    return builder.file()


@pytest.mark.parametrize("is_input", [True, False])
@pytest.mark.parametrize("dtype", ["resource", "variant"])
@pytest.mark.parametrize("setup", SETUPS)
def test_ends_that_hold_no_values_are_refused_by_name(
    tmp_path: Path, setup: Any, dtype: str, is_input: bool
) -> None:
    """No array can stand for a handle: the runtime's own reader would follow it as a pointer."""
    path = tmp_path / "model"
    path.write_bytes(with_ends(dtype, is_input=is_input))
    place = "input" if is_input else "output"
    with (
        pytest.raises(ModelFormatError, match=rf"expected {place}s .* got {dtype} \('t2'\)"),
        built(path, *setup),
    ):
        raise AssertionError


@pytest.mark.parametrize("setup", SETUPS)
def test_taps_hold_numbers(tmp_path: Path, setup: Any) -> None:
    path = tmp_path / "model"
    path.write_bytes(accumulating(handle_shape=()))
    with (
        pytest.raises(ValueError, match="taps: expected a tensor of numbers"),
        built(path, setup[0], setup[1], taps=[3]),
    ):
        raise AssertionError
