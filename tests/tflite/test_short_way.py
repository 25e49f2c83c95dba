"""Inputs and outputs are copied through fixed addresses where, and only where, they stay fixed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from tests.tflite.builder import Builder
from tests.tflite.instances import SETUPS, built, raw_answer, raw_interpreter, same
from tests.tflite.support import SHARED

from selfheal_edge.tflite.runtimes.interpreter import InterpreterInstance
from selfheal_edge.tflite.runtimes.protocol import KernelsChoice, RuntimeName


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("name", ["hello_world_int8", "ad_autoencoder_int8", "split_concat_uint8"])
def test_static_models_take_it(name: str, setup: tuple[RuntimeName, KernelsChoice]) -> None:
    """Also those whose file leaves the batch axis open, which the test does not resize."""
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip("../shared/models is absent")
    with built(path, *setup) as ours:
        # Where compiling fails, as under emulation, LiteRT's delegate hides what has memory.
        stands_in = setup == ("litert", "default")
        if isinstance(ours.instance, InterpreterInstance) and not stands_in:
            assert ours.instance.engine is not None


def doubled_tail(open_axis: int) -> bytes:
    """Return x[i:] + x[i:], where i is an input too: its shape is known only after it has run."""
    builder = Builder()
    graph = builder.graph()
    graph.tensor([4], shape_signature=[open_axis])
    graph.tensor([1], "int32")
    end = graph.tensor([1], "int32", struct.pack("<i", 4))
    stride = graph.tensor([1], "int32", struct.pack("<i", 1))
    graph.tensor([4], shape_signature=[open_axis])
    graph.tensor([4], shape_signature=[open_axis])
    graph.operator("STRIDED_SLICE", [0, 1, end, stride], [4], ("StridedSliceOptions", {}))
    graph.operator("ADD", [4, 4], [5], ("AddOptions", {}))
    graph.tree.update(inputs=[0, 1], outputs=[5])
    return builder.file()


@pytest.mark.parametrize("open_axis", [-1, 4])
@pytest.mark.parametrize("setup", SETUPS)
def test_shapes_that_follow_from_values_do_not(
    tmp_path: Path, setup: tuple[RuntimeName, KernelsChoice], open_axis: int
) -> None:
    path = tmp_path / "model"
    path.write_bytes(doubled_tail(open_axis))
    runtime, kernels = setup
    with built(path, runtime, kernels) as ours:
        assert isinstance(ours.instance, InterpreterInstance)
        assert ours.instance.engine is None
        raw = raw_interpreter(path.read_bytes(), runtime, kernels, 1)
        x = np.arange(4, dtype=np.float32)
        for start in (0, 3, 1, 2, 0):
            inputs = [x, np.array([start], np.int32)]
            result = ours.answer(inputs)
            assert same(result, [2 * x[start:]])
            assert same(result, raw_answer(raw, inputs))
