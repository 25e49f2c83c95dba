from __future__ import annotations

import hashlib
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tflite import builder
from tests.tflite.support import shared_models

from selfheal_edge.errors import ModelFormatError, SelfHealError
from selfheal_edge.tflite.file.model_file import ModelFile


@pytest.mark.parametrize("path", shared_models())
def test_the_map_agrees_with_the_interpreter(path: Path, interpreter_module: Any) -> None:
    model = ModelFile.from_path(path)
    interpreter = interpreter_module.Interpreter(model_path=str(path))
    # Before allocation: kernels spread one scale over all channels while they prepare.
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    interpreter.allocate_tensors()
    for tensor in model.subgraphs[0].tensors:
        detail = details[tensor.index]
        assert detail["name"] == tensor.name
        assert tuple(detail["shape"]) == tensor.shape
        assert np.dtype(detail["dtype"]).name == tensor.dtype
        quantisation = detail["quantization_parameters"]
        np.testing.assert_array_equal(quantisation["scales"], tensor.scales)
        np.testing.assert_array_equal(quantisation["zero_points"], tensor.zero_points)
        if tensor.scales.size:
            assert quantisation["quantized_dimension"] == tensor.quantized_dimension
            assert tensor.scales_offset is not None
            raw = np.frombuffer(model.data, "<f4", tensor.scales.size, tensor.scales_offset)
            np.testing.assert_array_equal(raw, tensor.scales)
            assert tensor.zero_points_offset is not None
            zeros = np.frombuffer(model.data, "<i8", tensor.scales.size, tensor.zero_points_offset)
            np.testing.assert_array_equal(zeros, tensor.zero_points)
        if tensor.is_constant:
            live = interpreter.get_tensor(tensor.index)
            np.testing.assert_array_equal(live, model.constant(tensor))
    for infos, live_details in (
        (model.inputs, interpreter.get_input_details()),
        (model.outputs, interpreter.get_output_details()),
    ):
        assert [t.index for t in infos] == [d["index"] for d in live_details]
    operators = [d for d in interpreter._get_ops_details() if d["op_name"] != "DELEGATE"]
    for operator, detail in zip(model.subgraphs[0].operators, operators, strict=False):
        assert detail["op_name"] == operator.name
        assert list(detail["inputs"]) == list(operator.inputs)
        assert list(detail["outputs"]) == list(operator.outputs)


@pytest.mark.parametrize("path", shared_models())
def test_regions_partition_the_file(path: Path) -> None:
    model = ModelFile.from_path(path)
    end = 0
    for region in model.regions:
        assert region.offset == end
        assert region.nbytes > 0
        end += region.nbytes
    assert end == model.nbytes == path.stat().st_size
    assert len({r.name for r in model.regions}) == len(model.regions)
    constants = {(t.offset, t.nbytes) for t in model.tensors if t.is_constant}
    assert constants <= {(r.offset, r.nbytes) for r in model.regions}
    modules = {op.module for op in model.operators}
    assert all(set(r.modules) <= modules for r in model.regions)


def _region_of(model: ModelFile, index: int) -> Any:
    offset = model.tensor(index).offset
    return next(r for r in model.regions if r.offset == offset)


def test_regions_know_kind_and_users() -> None:
    model = ModelFile.from_bytes(builder.dense_model().file())
    weights, bias = _region_of(model, 1), _region_of(model, 2)
    assert (weights.kind, bias.kind) == ("weights", "bias")
    assert weights.modules == ("0/0/t3",) == bias.modules
    assert weights.uses == ((0, 1, 0),)
    assert not weights.shared
    assert {r.kind for r in model.regions} == {"weights", "bias", "graph"}


def test_shared_buffers_are_one_region_with_all_its_users() -> None:
    made = builder.dense_model(3, 3, softmax=False)
    graph = made.tree["subgraphs"][0]
    first = made.tree["buffers"]
    graph["tensors"] += [
        {"shape": [3, 3], "type": 0, "buffer": 1, "name": "tied"},
        {"shape": [1, 3], "type": 0, "buffer": 0, "name": "out"},
    ]
    graph["operators"].append(
        {
            "opcode_index": 0,
            "inputs": [3, 4, 2],
            "outputs": [5],
            "builtin_options": ("FullyConnectedOptions", {}),
        }
    )
    graph["outputs"] = [5]
    model = ModelFile.from_bytes(made.file())
    region = _region_of(model, 1)
    assert len(first) == 3
    assert region.shared
    assert region.uses == ((0, 1, 0), (0, 4, 1))
    assert region.modules == ("0/0/t3", "0/1/out")
    assert _region_of(model, 2).uses == ((0, 2, 0), (0, 2, 1))


def test_data_outside_the_flatbuffer() -> None:
    made = builder.dense_model()
    size = len(made.file()) + 64
    start = size + -size % 16
    data = made.tree["buffers"][1].pop("data")
    made.tree["buffers"][1] = {"offset": start, "size": len(data)}
    file = made.file()
    file += bytes(start - len(file)) + data
    model = ModelFile.from_bytes(file)
    assert (model.tensor(1).offset, model.tensor(1).nbytes) == (start, len(data))
    assert _region_of(model, 1).kind == "weights"
    with pytest.raises(ModelFormatError, match=r"buffers\[1\]: expected data inside the file"):
        ModelFile.from_bytes(file[:-1])


def test_several_subgraphs_and_control_flow() -> None:
    model = ModelFile.from_bytes(builder.branching_model().file())
    assert model.subgraph_count == 5
    assert [op.name for op in model.subgraphs[0].operators] == ["LESS", "IF", "WHILE"]
    assert model.operators[1].options == {"then_subgraph_index": 1, "else_subgraph_index": 2}
    assert {op.module for op in model.operators} >= {"0/1/t3", "1/0/t2"}


HEADS = {
    "kws_dscnn_int8": (12, 64, "probabilities"),
    "kws_dscnn_dynamic_range": (12, 64, "probabilities"),
    "resnet8_cifar10_int8": (10, 64, "probabilities"),
    "resnet8_cifar10_float32": (10, 64, "probabilities"),
    "vww_mobilenet_int8": (2, 256, "probabilities"),
    "mobilenet_v1_025_128_uint8": (1001, 256, "probabilities"),
    "wakeword_streaming_int8": (3, 32, "probabilities"),
    "mnist_lstm_int8": (10, 560, "probabilities"),
}


@pytest.mark.parametrize("path", shared_models())
def test_heads_of_real_models(path: Path) -> None:
    model = ModelFile.from_path(path)
    head = model.head
    if path.stem not in HEADS:
        assert head is None
        return
    assert head is not None
    assert (head.classes, head.embedding_size, head.output) == HEADS[path.stem]
    assert model.tensor(head.embedding).size == head.embedding_size
    assert not model.tensor(head.embedding).is_constant
    assert model.tensor(head.weights).shape[0] == head.classes
    assert head.bias is not None
    assert model.tensor(head.bias).size == head.classes


def test_head_gives_logits_without_a_softmax() -> None:
    head = ModelFile.from_bytes(builder.dense_model(softmax=False).file()).head
    assert head is not None
    assert (head.output, head.activation, head.logits) == ("logits", None, 3)


@pytest.mark.parametrize(
    ("features", "classes"), [(4, 4), (4, 1)], ids=["autoencoder", "single output"]
)
def test_no_head_where_there_are_no_classes(features: int, classes: int) -> None:
    made = builder.dense_model(features, classes, softmax=False)
    assert ModelFile.from_bytes(made.file()).head is None


def test_identity_and_immutability() -> None:
    data = builder.dense_model().file()
    mutable = bytearray(data)
    model = ModelFile.from_bytes(mutable)
    mutable[:] = bytes(len(mutable))
    assert model.data == data
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert model.version == 3
    with pytest.raises(ValueError, match="read-only"):
        model.tensor(1).scales[...] = 1
    with pytest.raises(AttributeError):
        model.tensor(1).name = "other"  # type: ignore[misc]
    with pytest.raises(IndexError, match="expected 0 to 4, got -1"):
        model.tensor(-1)


def test_the_same_bytes_are_validated_once() -> None:
    data = builder.dense_model().file()
    first = ModelFile.from_bytes(data)
    assert ModelFile.from_bytes(bytearray(data)).subgraphs is first.subgraphs
    region = next(region for region in first.regions if region.kind == "weights")
    flipped = bytearray(data)
    flipped[region.offset] ^= 1
    other = ModelFile.from_bytes(flipped)
    assert other.sha256 == hashlib.sha256(flipped).hexdigest()
    assert other.subgraphs is not first.subgraphs, "what is known of one file is of no other"
    flipped[4:8] = b"none"
    for _ in range(2):
        with pytest.raises(ModelFormatError, match="expected a TFLite file"):
            ModelFile.from_bytes(flipped)


def test_missing_file_names_the_argument(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path"):
        ModelFile.from_path(tmp_path / "none.tflite")


def test_what_is_not_a_model_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="got a directory"):
        ModelFile.from_path(tmp_path)
    empty = tmp_path / "empty.tflite"
    empty.touch()
    with pytest.raises(ModelFormatError, match=r"empty\.tflite: .*no bytes at all"):
        ModelFile.from_path(empty)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ModelFormatError, match="not a regular file"):
        ModelFile.from_path(tmp_path / "fifo")
    for foreign in (b"\x89PNG\r\n\x1a\n" + bytes(64), b"PK\x03\x04" + bytes(64), b"TFL3" * 8):
        with pytest.raises(ModelFormatError, match=r"expected|Model"):
            ModelFile.from_bytes(foreign)
    with pytest.raises(TypeError, match="expected bytes"):
        ModelFile.from_bytes("text")  # type: ignore[arg-type]
    assert issubclass(ModelFormatError, SelfHealError)
    assert issubclass(ModelFormatError, ValueError)


def test_every_truncation_is_refused() -> None:
    data = builder.dense_model().file()
    for size in range(len(data)):
        with pytest.raises(ModelFormatError):
            ModelFile.from_bytes(data[:size])


def test_too_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfheal_edge.tflite.file.model_file.MAX_BYTES", 100)
    path = tmp_path / "large.tflite"
    path.write_bytes(bytes(101))
    with pytest.raises(ModelFormatError, match="expected at most 100 bytes"):
        ModelFile.from_path(path)


def test_reading_takes_the_memory_of_the_file(tmp_path: Path) -> None:
    """And not that of the largest file there may be, which a 32-bit process does not have."""
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.dense_model().file())
    tracemalloc.start()
    try:
        ModelFile.from_path(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["vww_mobilenet_int8", "mobilenet_v1_025_128_uint8"])
def test_parsing_is_quick(shared: Path, name: str) -> None:
    data = (shared / f"{name}.tflite").read_bytes()
    best = 1.0
    for more in range(1, 6):  # another file each time, which is not known
        other = data + bytes(more)
        start = time.thread_time()
        ModelFile.from_bytes(other)
        best = min(best, time.thread_time() - start)
    assert best < 0.05  # 6 ms on an idle machine
