"""A baseline holds answers of every type that a runtime gives, or calibration refuses the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support import Array
from tests.tflite.builder import Builder

import selfheal_edge as she
from selfheal_edge.errors import ModelFormatError
from selfheal_edge.store.file_format import pack, unpack
from selfheal_edge.tflite.format.schema import TENSOR_TYPES
from selfheal_edge.tflite.runtimes.protocol import RuntimeName

TYPES = [kind.dtype for kind in TENSOR_TYPES]
KEPT = ("float16", "uint16", "uint32", "complex64", "int32", "int64", "bool", "float64")


def cast(dtype: str) -> bytes:
    """Return a model that converts reals to `dtype`."""
    builder = Builder()
    graph = builder.graph()
    x, y = graph.tensor([1, 8]), graph.tensor([1, 8], dtype)
    options = {"in_data_type": TYPES.index("float32"), "out_data_type": TYPES.index(dtype)}
    graph.operator("CAST", [x], [y], ("CastOptions", options))
    graph.tree.update(inputs=[x], outputs=[y])
    return builder.file()


def words() -> bytes:
    """Return a model that looks words up: its output is text."""
    table = np.array([3, 20, 22, 25, 27], np.int32).tobytes() + b"hi" + b"you" + b"ok"
    builder = Builder()
    graph = builder.graph()
    held = graph.tensor([3], "string", table)
    index, found = graph.tensor([1], "int32"), graph.tensor([1], "string")
    graph.operator("GATHER", [held, index], [found], ("GatherOptions", {"axis": 0}))
    graph.tree.update(inputs=[index], outputs=[found])
    return builder.file()


@pytest.fixture(scope="module")
def reals() -> Array:
    values = np.abs(np.random.default_rng(0).normal(0, 3, (60, 1, 8)))
    return values.astype(np.float32)


@pytest.mark.parametrize("dtype", KEPT)
def test_saved_and_loaded_alike(runtime: RuntimeName, reals: Array, dtype: str) -> None:
    data = cast(dtype)
    baseline = she.calibrate(data, reals, runtime=runtime, seed=0)
    loaded = she.Baseline.from_bytes(baseline.to_bytes())
    for row, again in zip(
        baseline.known_answers.outputs, loaded.known_answers.outputs, strict=True
    ):
        assert row[0].dtype == again[0].dtype == np.dtype(dtype)
        assert row[0].tobytes() == again[0].tobytes()
    with she.SelfHealingModel(data, loaded, runtime=runtime, seed=0) as model:
        assert "commissioned" not in [event.kind for event in model.events]
        answer: Any = model.predict(reals[0])
        assert answer.dtype == np.dtype(dtype)
        assert np.array_equal(answer, reals[0].astype(dtype))
        model.commission(flips=False)
        assert model.health.state == "healthy"


@pytest.mark.parametrize("dtype", ["int4", "bfloat16", "uint64", "complex128", "string"])
def test_what_a_runtime_refuses_is_refused_first(
    runtime: RuntimeName, reals: Array, dtype: str
) -> None:
    """Or it runs, and then its baseline is saved and loaded as any other."""
    try:
        baseline = she.calibrate(cast(dtype), reals, runtime=runtime, seed=0)
    except ModelFormatError:
        return
    loaded = she.Baseline.from_bytes(baseline.to_bytes())
    with she.SelfHealingModel(cast(dtype), loaded, runtime=runtime) as model:
        assert model.health.state == "healthy"


def test_text_is_refused_before_calibration(runtime: RuntimeName) -> None:
    ran = 0

    def inputs() -> Any:
        nonlocal ran
        for n in range(60):
            ran += 1
            yield np.array([n % 3], np.int32)

    with pytest.raises(ModelFormatError, match="outputs that hold numbers"):
        she.calibrate(words(), inputs(), runtime=runtime)
    assert ran == 0


@pytest.mark.parametrize("dtype", [*KEPT, "int8", "uint8", "int16", "uint64", "float32"])
def test_arrays_of_every_type(dtype: str) -> None:
    array = np.arange(-3, 9).reshape(3, 4).astype(dtype)
    data = pack(
        b"SHE-TEST", 1, {}, {"a": array, "big": array.astype(array.dtype.newbyteorder(">"))}, None
    )
    _, _, arrays = unpack(data, b"SHE-TEST", 1, None, "test")
    for found in arrays.values():
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found, array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array(["2024"], "M8[s]")])
def test_arrays_without_numbers_are_refused(array: Array) -> None:
    with pytest.raises(TypeError, match="a: expected a plain numeric dtype, got"):
        pack(b"SHE-TEST", 1, {}, {"a": array}, None)
