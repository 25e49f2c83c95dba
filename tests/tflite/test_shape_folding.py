"""Arithmetic on shapes becomes constants: the same answers, and the core's way to them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.made_models import open_batch
from tests.tflite.builder import Builder
from tests.tflite.instances import SETUPS, raw_answer, raw_interpreter, same

from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.file.rewrite import copy_model
from selfheal_edge.tflite.runtimes.compiled import CompiledInstance
from selfheal_edge.tflite.runtimes.random_inputs import full_range_input
from selfheal_edge.tflite.session import Session

KINDS = ("dense", "convolutional", "branches", "upsampling", "transposed")


def opened(path: Path, setup: Any, taps: tuple[int, ...] = ()) -> Session:
    runtime, kernels = setup
    return Session(path, runtime, kernels, 1, lambda _: taps)


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("kind", KINDS)
def test_open_batches_go_the_fast_way_with_the_same_answers(
    tmp_path: Path, kind: str, setup: Any
) -> None:
    data = open_batch(kind)
    path = tmp_path / "model"
    path.write_bytes(data)
    session = opened(path, setup)
    try:
        instance = session.instance
        assert instance.engine is not None
        assert isinstance(instance, CompiledInstance) == (setup == ("litert", "default")), (
            instance.note
        )
        # Delegates leave out operators of open shapes, so other kernels run the file as it is.
        runtime, kernels = setup
        settled = raw_interpreter(open_batch(kind, is_folded=True), runtime, kernels, 1)
        own = raw_interpreter(data, runtime, kernels, 1)
        rng = np.random.default_rng(0)
        for _ in range(20):
            inputs = [full_range_input(spec, rng) for spec in instance.inputs]
            found = instance.run(inputs)
            assert same(found, raw_answer(settled, inputs))
            for ours, theirs in zip(found, raw_answer(own, inputs), strict=True):
                if kernels == "builtin":
                    assert same([ours], [theirs])
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    finally:
        session.close()


@pytest.mark.parametrize("kind", KINDS)
def test_only_arithmetic_on_shapes_goes_and_nothing_else_moves(kind: str) -> None:
    model = ModelFile.from_bytes(open_batch(kind))
    copy = copy_model(model)
    left = {op.name for op in copy.model.operators}
    assert not left & {"SHAPE", "STRIDED_SLICE", "PACK", "MUL"}
    names = {op.module: op.name for op in model.operators}
    assert all(names[op.module] == op.name for op in copy.model.operators)
    weights = [(r.name, r.offset, r.nbytes, r.modules) for r in model.regions if r.kind != "graph"]
    kept = [(r.name, r.offset, r.nbytes, r.modules) for r in copy.model.regions]
    assert [w for w in weights if w[3] and w not in kept and w[2] > 16] == []
    assert len(copy.model.data) < len(model.data) + 1000
    assert copy_model(copy.model).model is copy.model


def test_what_an_output_reads_is_computed_all_the_same() -> None:
    """The batch is an output too: it stays an operator's result, and what follows is folded."""
    model = ModelFile.from_bytes(open_batch("dense"))
    (batch,) = next(op for op in model.operators if op.name == "STRIDED_SLICE").outputs
    copy = copy_model(model, [batch])
    assert [op.name for op in copy.model.operators][:2] == ["SHAPE", "STRIDED_SLICE"]
    assert "PACK" not in [op.name for op in copy.model.operators]


def test_no_room_for_constants_leaves_the_file_as_it_is() -> None:
    """Nothing is free in a list of buffers whose every entry something else reads."""
    builder = Builder()
    graph = builder.graph()
    x, sizes, y = graph.tensor([1, 4]), graph.tensor([2], "int32"), graph.tensor([1, 4])
    graph.operator("SHAPE", [x], [sizes], ("ShapeOptions", {"out_type": 2}))
    graph.operator("RESHAPE", [x, sizes], [y], ("ReshapeOptions", {}))
    graph.tree.update(inputs=[x], outputs=[y])
    model = ModelFile.from_bytes(builder.file())
    assert copy_model(model).model is model


def broadcast_tail() -> bytes:
    """Return as many sevens as x has from index i on, which only i's value tells.

    The file declares four, and leaves the axis open.
    """
    builder = Builder()
    graph = builder.graph()

    def whole(*values: int) -> int:
        return graph.tensor([len(values)], "int32", struct.pack(f"<{len(values)}i", *values))

    x, i = graph.tensor([4]), graph.tensor([1], "int32")
    tail = graph.tensor([4], shape_signature=[-1])
    options: tuple[str, dict[str, Any]] = ("StridedSliceOptions", {})
    graph.operator("STRIDED_SLICE", [x, i, whole(4), whole(1)], [tail], options)
    sizes, doubled = graph.tensor([1], "int32"), graph.tensor([1], "int32")
    graph.operator("SHAPE", [tail], [sizes], ("ShapeOptions", {"out_type": 2}))
    graph.operator("MUL", [sizes, whole(2)], [doubled], ("MulOptions", {}))
    seven = graph.tensor([], data=struct.pack("<f", 7.0))
    result = graph.tensor([8], shape_signature=[-1])
    graph.operator("FILL", [doubled, seven], [result], ("FillOptions", {}))
    graph.tree.update(inputs=[x, i], outputs=[result])
    return builder.file()


@pytest.mark.parametrize("setup", SETUPS)
def test_shapes_that_the_runtime_does_not_confirm_are_not_assumed(
    tmp_path: Path, setup: Any
) -> None:
    path = tmp_path / "model"
    path.write_bytes(broadcast_tail())
    assert copy_model(ModelFile.from_path(path)).assumed
    session = opened(path, setup)
    try:
        assert not session.copy.assumed
        x = np.zeros(4, np.float32)
        for start in (0, 3, 1):
            (found,) = session.instance.run([x, np.array([start], np.int32)])
            assert found.tolist() == [7.0] * (2 * (4 - start))
    finally:
        session.close()
