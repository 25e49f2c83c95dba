"""A corrected input inside the graph: any runtime answers as ours does with its correction."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.operator_models import image_model
from tests.support import Array, Raw
from tests.tflite.builder import Builder, dense_model

from selfheal_edge.errors import IntegrityError, ModelFormatError
from selfheal_edge.tflite.correction_file import (
    correction_path,
    read_correction,
    with_correction,
)
from selfheal_edge.tflite.file.input_folding import unfolded
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.flatbuffer import root_table
from selfheal_edge.tflite.format.schema import TFLITE
from selfheal_edge.tflite.input_table import InputTable
from selfheal_edge.tflite.runtimes.protocol import TensorSpec
from selfheal_edge.weights import write_model

MODELS = ("float32", "dynamic_range", "int8_per_channel", "int8_float_ends", "uint8")


def table_of(data: bytes) -> InputTable:
    (tensor,) = ModelFile.from_bytes(data).inputs
    scale = float(tensor.scales[0]) if len(tensor.scales) else 0.0
    zero = int(tensor.zero_points[0]) if len(tensor.zero_points) else 0
    return InputTable(TensorSpec(tensor.name, tensor.shape, np.dtype(tensor.dtype), scale, zero))


def drawn(table: InputTable, axis: int) -> tuple[Array, Array]:
    """Return gains and offsets that saturate some levels."""
    rng = np.random.default_rng(axis)
    features = table.features(axis)
    gain = rng.uniform(-0.5, 2, features).astype(np.float32)
    return gain, rng.normal(0, 0.5, features).astype(np.float32)


def inputs_of(table: InputTable, count: int = 4) -> Array:
    rng = np.random.default_rng(7)
    shape = (count, *table.shape)
    if table.dtype.kind == "f":
        return rng.normal(0, 1, shape).astype(np.float32)
    info = np.iinfo(table.dtype)
    return rng.integers(info.min, int(info.max) + 1, shape).astype(table.dtype)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("name", MODELS)
def test_any_runtime_answers_alike(name: str, axis: int, runtime: Any, tmp_path: Path) -> None:
    data = image_model(name)
    table = table_of(data)
    gain, offset = drawn(table, axis)
    folded, beside = with_correction(data, table.encode(axis, gain, offset))
    assert beside is None
    (tmp_path / "folded").write_bytes(folded)
    (tmp_path / "plain").write_bytes(data)
    x = inputs_of(table)
    if name == "float32":  # what is quantised on the way has no place for them
        x.flat[:3] = np.inf, -np.inf, np.nan
    y = table.apply(x, axis, table.levels(axis, gain, offset))
    for kernels in ("default", "builtin"):
        inside = Raw(tmp_path / "folded", runtime, kernels)
        plain = Raw(tmp_path / "plain", runtime, kernels)
        for raw, corrected in zip(x, y, strict=True):
            (found,), (expected,) = inside.run([raw[None]]), plain.run([corrected[None]])
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["float32", "uint8"])
def test_the_file_stays_as_it_is_behind(name: str) -> None:
    data = image_model(name)
    table = table_of(data)
    folded, _ = with_correction(data, table.encode(2, *drawn(table, 2)))
    assert folded.endswith(data)
    model, before = ModelFile.from_bytes(folded), ModelFile.from_bytes(data)
    found = unfolded(model)
    assert found is not None
    assert (found.file, found.axis, found.features) == (data, 2, 2)
    assert unfolded(before) is None
    assert [t.name for t in model.inputs] == [t.name for t in before.inputs]
    assert [t.name for t in model.outputs] == [t.name for t in before.outputs]
    assert len(model.tensors) > len(before.tensors)


def reshaping(*shape: int) -> bytes:
    builder = Builder()
    graph = builder.graph()
    graph.tensor(list(shape), "int8")
    graph.tensor([2], "int32", struct.pack("<2i", 1, int(np.prod(shape))))
    graph.tensor([1, int(np.prod(shape))], "int8")
    graph.operator("RESHAPE", [0, 1], [2], ("ReshapeOptions", {}))
    graph.tree.update(inputs=[0], outputs=[2])
    return builder.file()


def echoing() -> bytes:
    builder = dense_model()
    builder.tree["subgraphs"][0]["outputs"].append(0)
    return builder.file()


def newer() -> bytes:
    """Return a model whose first subgraph has a field more than the schema."""
    data = bytearray(dense_model().file())
    graph = root_table(bytes(data), TFLITE).tables("subgraphs")[0]
    vtable = graph.pos - struct.unpack_from("<i", data, graph.pos)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    place = len(data) + len(data) % 2
    fields = len(graph.fields)
    entries = bytearray(data[vtable : vtable + size]).ljust(4 + 2 * fields, b"\0")
    data[len(data) :] = bytes(place - len(data)) + entries + struct.pack("<H", 4) + bytes(2)
    struct.pack_into("<H", data, place, len(entries) + 2)
    struct.pack_into("<i", data, graph.pos, graph.pos - place)
    return bytes(data)


@pytest.mark.parametrize(
    "data", [reshaping(1, 2, 2, 2, 3), echoing(), newer()], ids=["five axes", "echo", "newer"]
)
def test_what_no_graph_can_carry_lies_beside_it(data: bytes, tmp_path: Path) -> None:
    table = table_of(data)
    axis = len(table.shape) - 1
    gain, offset = drawn(table, axis)
    path = tmp_path / "healed.tflite"
    assert write_model(path, data, table.encode(axis, gain, offset)) == correction_path(path)
    assert path.read_bytes() == data
    correction = read_correction(path)
    assert correction is not None
    x = inputs_of(table)
    expected = table.apply(x, axis, table.levels(axis, gain, offset))
    assert correction.apply(x).tobytes() == expected.tobytes()
    # What lies beside one model is not another's; and a model without one has nothing beside it.
    path.write_bytes(data + bytes(4))
    with pytest.raises(IntegrityError, match="of another model"):
        read_correction(path)
    assert write_model(path, data, b"") is None
    assert not Path(correction_path(path)).exists()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"front": 1, "axis": 0, "features": 1}', '{"front": "x"}']
)
def test_metadata_of_others_are_refused(text: str) -> None:
    builder = dense_model()
    number = builder.buffer(text.encode())
    builder.tree["metadata"] = [{"name": "selfheal_edge.input_correction", "buffer": number}]
    with pytest.raises(ModelFormatError, match="metadata of an input's correction"):
        unfolded(ModelFile.from_bytes(builder.file()))
