from __future__ import annotations

import copy
import random
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import examples
from tests.tflite import builder
from tests.tflite.mutations import mutate, sites

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.file.model_file import ModelFile

Tree = dict[str, Any]


def _quantised() -> builder.Builder:
    """An int8 convolution with per-channel weights, then a pool and a reshape."""
    made = builder.Builder()
    graph = made.graph()

    def q(scales: list[float], axis: int = 0) -> Tree:
        zeros = [0] * len(scales)
        return {"scale": scales, "zero_point": zeros, "quantized_dimension": axis}

    graph.tensor([1, 8, 8, 2], "int8", quantization=q([0.5]))
    graph.tensor([4, 3, 3, 2], "int8", bytes(72), quantization=q([0.1, 0.2, 0.3, 0.4]))
    graph.tensor([4], "int32", bytes(16), quantization=q([0.05, 0.1, 0.15, 0.2]))
    graph.tensor([1, 4, 4, 4], "int8", quantization=q([0.5]))
    graph.tensor([1, 2, 2, 4], "int8", quantization=q([0.5]))
    graph.tensor([2], "int32", struct.pack("<2i", 1, 16))
    graph.tensor([1, 16], "int8", quantization=q([0.5]))
    strides = {"stride_w": 2, "stride_h": 2}
    graph.operator("CONV_2D", [0, 1, 2], [3], ("Conv2DOptions", strides))
    graph.operator(
        "MAX_POOL_2D",
        [3],
        [4],
        ("Pool2DOptions", {**strides, "padding": 1, "filter_width": 2, "filter_height": 2}),
    )
    graph.operator("RESHAPE", [4, 5], [6], ("ReshapeOptions", {"new_shape": [1, 16]}))
    graph.tree.update(inputs=[0], outputs=[6])
    made.tree["signature_defs"] = [
        {
            "signature_key": "serve",
            "inputs": [{"name": "x", "tensor_index": 0}],
            "outputs": [{"name": "y", "tensor_index": 6}],
        }
    ]
    made.tree["metadata"] = [{"name": "note", "buffer": 0}]
    return made


def _set(*path: Any) -> Callable[[Tree], None]:
    """Return a change: follow `path` down to its last key and put the last value there."""

    def change(tree: Any) -> None:
        for step in path[:-2]:
            tree = tree[step]
        tree[path[-2]] = path[-1]

    return change


def _g(*path: Any) -> Callable[[Tree], None]:
    return _set("subgraphs", 0, *path)


def _t(index: int, *path: Any) -> Callable[[Tree], None]:
    return _g("tensors", index, *path)


def _o(index: int, *path: Any) -> Callable[[Tree], None]:
    return _g("operators", index, *path)


CHANGES = [
    (_set("version", 2), r"Model\.version: expected 3, got 2"),
    (_set("subgraphs", []), "expected at least one subgraph"),
    (_set("operator_codes", 0, "builtin_code", 127), "expected the code of a builtin operator"),
    (
        _set("operator_codes", 0, {"deprecated_builtin_code": -2, "builtin_code": -1}),
        "expected the code of a builtin operator",
    ),
    (_set("operator_codes", 0, {"deprecated_builtin_code": 32}), "custom operator's name"),
    (_set("metadata", 0, "buffer", 9), r"metadata\[0\]\.buffer: expected less than"),
    (_set("signature_defs", 0, "subgraph_index", 1), "subgraph_index: expected less than 1"),
    (_set("signature_defs", 0, "outputs", 0, "tensor_index", 5), "one of the subgraph's outputs"),
    (_t(0, "type", -1), r"tensors\[0\]\.type: expected at least 0, got -1"),
    (_t(0, "buffer", 77), r"tensors\[0\]\.buffer: expected less than 4, got 77"),
    (_t(0, "external_buffer", 1), "in other files"),
    (_t(0, "shape", [1] * 20), "at most 16 axes"),
    (_t(0, "shape", [1, -8, 8, 2]), "no negative dimension"),
    (_t(0, "shape", [1 << 20, 1 << 20, 8, 2]), "at most 2147483647 bytes"),
    (_t(0, "shape_signature", [1, 8, 8]), "shape_signature"),
    (_t(0, "shape_signature", [1, 9, 8, 2]), "shape_signature"),
    (_t(1, "shape", [4, 3, 3, 3]), r"expected 108 bytes for 108 values of int8"),
    (_t(1, "type", 7), "expected 144 bytes"),
    (_t(1, "is_variable", 1), "a variable without data"),
    (_t(1, "type", 13), "no data for a resource"),
    (_t(1, "quantization", "quantized_dimension", 4), "quantized_dimension: expected 0 to 3"),
    (_t(1, "quantization", "quantized_dimension", -1), "quantized_dimension: expected 0 to 3"),
    (_t(1, "quantization", "quantized_dimension", 1), "expected 1 or 3 values, got 4"),
    (_t(1, "quantization", "zero_point", [0]), "expected 4 zero points, got 1"),
    (_t(1, "quantization", "scale", [0.1, 0.2, float("nan"), 0.4]), "finite positive"),
    (_t(1, "quantization", "scale", [0.1, 0.2, float("inf"), 0.4]), "finite positive"),
    (_t(1, "quantization", "scale", [0.1, 0.2, -0.3, 0.4]), "finite positive"),
    (_t(0, "quantization", "scale", [0.0]), "finite positive"),
    (_t(0, "quantization", "zero_point", [128]), "zero_point: expected -128 to 127"),
    (_g("inputs", [9]), r"inputs: expected tensors 0 to 6, got 9"),
    (_g("inputs", [-1]), r"inputs: expected tensors 0 to 6, got -1"),
    (_g("inputs", [1]), "a tensor that can be written"),
    (_g("inputs", []), "which nothing has produced"),
    (_g("outputs", []), "at least one output"),
    (_g("outputs", [7]), "expected tensors 0 to 6, got 7"),
    (_o(0, "opcode_index", 9), "opcode_index: expected less than 3, got 9"),
    (_o(0, "inputs", [0, 1, 9]), r"inputs\[2\]: expected -1 to 6, got 9"),
    (_o(0, "inputs", [-1, 1, 2]), r"inputs\[0\]: expected 0 to 6, got -1"),
    (_o(0, "inputs", [0, 1, -2]), r"inputs\[2\]: expected -1 to 6, got -2"),
    (_o(0, "inputs", [4, 1, 2]), "which nothing has produced"),
    (_o(0, "inputs", [0]), "expected 2 to 3, got 1"),
    (_o(0, "outputs", [1]), "that nothing else defines"),
    (_o(0, "outputs", [0]), "that nothing else defines"),
    (_o(0, "outputs", [-1]), "expected 0 to 6, got -1"),
    (_o(0, "outputs", [3, 4]), "outputs: expected 1, got 2"),
    (_o(1, "outputs", [3]), "that nothing else defines"),
    (_o(0, "intermediates", [7]), r"intermediates\[0\]"),
    (_o(0, "builtin_options", ("AddOptions", {})), "expected Conv2DOptions, got AddOptions"),
    (_o(0, "builtin_options", None), "expected Conv2DOptions, got None"),
    (_o(0, "builtin_options", 1, "stride_w", 0), "stride_w: expected 1 to"),
    (_o(0, "builtin_options", 1, "stride_h", -1), "stride_h: expected 1 to"),
    (_o(0, "builtin_options", 1, "dilation_h_factor", 0), "dilation_h_factor: expected 1 to"),
    (_o(0, "builtin_options", 1, "stride_w", 1), "expected 128 elements from inputs"),
    (_o(1, "builtin_options", 1, "filter_width", 0), "filter_width: expected 1 to"),
    (_o(1, "builtin_options", 1, "filter_width", 4), "expected 8 elements"),
    (_o(0, "large_custom_options_offset", 2**40), "large_custom_options_offset"),
    (_t(3, "shape", [1, 4, 4, 5]), "expected 64 elements from inputs"),
    (_t(6, "shape", [1, 17]), "expected 16 elements"),
    (_t(0, "shape", [1, 8, 8, 3]), "groups of 3 channels"),
    (_set("buffers", 2, {"data": bytes(12)}), "expected 16 bytes"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_each_fault_is_refused_with_its_place(change: Callable[[Tree], None], message: str) -> None:
    made = _quantised()
    made.tree = copy.deepcopy(made.tree)
    ModelFile.from_bytes(made.file())
    change(made.tree)
    with pytest.raises(ModelFormatError, match=message):
        ModelFile.from_bytes(made.file())


def test_overlapping_buffers_are_refused() -> None:
    made = builder.dense_model()
    made.tree["buffers"][2] = {"offset": 0, "size": 12}
    made.file()
    start = ModelFile.from_bytes(builder.dense_model().file()).tensor(1).offset
    assert start is not None
    made.tree["buffers"].append({"offset": start + 4, "size": 8})
    with pytest.raises(ModelFormatError):
        ModelFile.from_bytes(made.file() + bytes(64))


def test_zero_scales_pass_only_where_the_values_are_zero() -> None:
    made = _quantised()
    made.tree["subgraphs"][0]["tensors"][1]["quantization"]["scale"] = [0.1, 0.0, 0.3, 0.4]
    ModelFile.from_bytes(made.file())
    made.tree["buffers"][1] = {"data": bytes(18) + b"\1" + bytes(53)}
    with pytest.raises(ModelFormatError, match="finite positive"):
        ModelFile.from_bytes(made.file())


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes"),
    [
        ("int4", [3, 3], 5),
        ("int2", [5], 2),
        ("uint4", [2], 1),
        ("float16", [3], 6),
        ("int64", [], 8),
    ],
)
def test_sizes_of_packed_and_odd_types(dtype: str, shape: list[int], nbytes: int) -> None:
    for size, fits in ((nbytes, True), (nbytes + 1, False), (nbytes - 1, False)):
        made = builder.dense_model()
        graph = made.tree["subgraphs"][0]
        extra = builder.Graph(made)
        extra.tensor(shape, dtype, bytes(size) or None)
        graph["tensors"] += extra.tree["tensors"]
        if fits or size == 0:
            ModelFile.from_bytes(made.file())
        else:
            with pytest.raises(ModelFormatError, match=f"expected {nbytes} bytes"):
                ModelFile.from_bytes(made.file())


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (struct.pack("<4i", 2, 16, 18, 21) + b"abcde", True),
        (struct.pack("<4i", 2, 16, 18, 22) + b"abcde", False),
        (struct.pack("<4i", 2, 16, 15, 21) + b"abcde", False),
        (struct.pack("<4i", 2, 0, 18, 21) + b"abcde", False),
        (struct.pack("<4i", 3, 16, 18, 21) + b"abcde", False),
        (struct.pack("<i", 2), False),
        (b"\2", False),
    ],
)
def test_string_constants(data: bytes, fits: bool) -> None:
    made = builder.dense_model()
    extra = builder.Graph(made)
    extra.tensor([2], "string", data)
    made.tree["subgraphs"][0]["tensors"] += extra.tree["tensors"]
    if fits:
        ModelFile.from_bytes(made.file())
    else:
        with pytest.raises(ModelFormatError, match="string"):
            ModelFile.from_bytes(made.file())


def _sparse(**changes: Any) -> bytes:
    """A 3 x 4 matrix in CSR with 4 stored values."""
    made = builder.dense_model()
    extra = builder.Graph(made)
    rows: Tree = {"format": 0, "dense_size": 3}
    columns: Tree = {
        "format": 1,
        "array_segments": ("Int32Vector", {"values": [0, 1, 3, 4]}),
        "array_indices": ("Uint8Vector", {"values": [3, 0, 2, 1]}),
    }
    sparsity: Tree = {"traversal_order": [0, 1], "dim_metadata": [rows, columns]}
    for path, value in changes.items():
        {"rows": rows, "columns": columns}.get(path.split("__")[0], sparsity)[
            path.split("__")[1]
        ] = value
    extra.tensor([3, 4], "int8", bytes(4), sparsity=sparsity)
    made.tree["subgraphs"][0]["tensors"] += extra.tree["tensors"]
    return made.file()


def test_sparse_constants() -> None:
    tensor = ModelFile.from_bytes(_sparse()).tensors[-1]
    assert (tensor.is_sparse, tensor.nbytes) == (True, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"sparsity__traversal_order": [0, 0]},
        {"sparsity__traversal_order": [0]},
        {"sparsity__block_map": [5]},
        {"rows__dense_size": 4},
        {"rows__format": 7},
        {"columns__array_segments": ("Int32Vector", {"values": [0, 1, 3, 5]})},
        {"columns__array_segments": ("Int32Vector", {"values": [0, 3, 1, 4]})},
        {"columns__array_segments": ("Int32Vector", {"values": [0, 4]})},
        {"columns__array_indices": ("Uint8Vector", {"values": [4, 0, 2, 1]})},
        {"columns__array_indices": ("Int32Vector", {"values": [-1, 0, 2, 1]})},
    ],
)
def test_faulty_sparse_indices_are_refused(change: Tree) -> None:
    with pytest.raises(ModelFormatError, match=r"sparsity"):
        ModelFile.from_bytes(_sparse(**change))


def test_faulty_control_flow_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="call themselves"):
        ModelFile.from_bytes(builder.branching_model(recursive=True).file())
    for value, message in ((5, "expected subgraphs 0 to 4, got 5"), (-1, "got -1")):
        made = builder.branching_model()
        made.tree["subgraphs"][0]["operators"][1]["builtin_options"][1]["then_subgraph_index"] = (
            value
        )
        with pytest.raises(ModelFormatError, match=message):
            ModelFile.from_bytes(made.file())
    made = builder.branching_model()
    made.tree["subgraphs"][1]["outputs"] = [2, 2]
    with pytest.raises(ModelFormatError, match="subgraph 1 to have 1 inputs and 1 outputs"):
        ModelFile.from_bytes(made.file())


def test_int8_svdf_with_an_int8_state_is_refused() -> None:
    """The kernel takes the state for int16 and writes past its end."""

    def model(kind: str, width: int) -> bytes:
        made = builder.Builder()
        graph = made.graph()
        q = {"scale": [0.1], "zero_point": [0]}
        graph.tensor([1, 6], "int8", quantization=q)
        graph.tensor([4, 6], "int8", bytes(24), quantization=q)
        graph.tensor([4, 2], kind, bytes(8 * width), quantization=q)
        graph.tensor([4], "int32", bytes(16), quantization=q)
        graph.tensor([1, 8], kind, quantization=q, is_variable=1)
        graph.tensor([1, 4], "int8", quantization=q)
        graph.operator("SVDF", [0, 1, 2, 3, 4], [5], ("SVDFOptions", {"rank": 1}))
        graph.tree.update(inputs=[0], outputs=[5])
        return made.file()

    ModelFile.from_bytes(model("int16", 2))
    with pytest.raises(ModelFormatError, match="int16 weights_time and state"):
        ModelFile.from_bytes(model("int8", 1))


BASE = _quantised().file()
SITES = sites(BASE)


@given(st.data())
@examples(300)
def test_changed_bytes_are_refused_or_read(data: st.DataObject) -> None:
    changed = bytearray(BASE)
    positions = st.integers(0, len(BASE) - 1)
    for pos, value in data.draw(st.lists(st.tuples(positions, st.integers(0, 255)), max_size=8)):
        changed[pos] = value
    size = data.draw(st.one_of(st.just(len(BASE)), positions))
    _read_or_refuse(bytes(changed[:size]))


@given(st.integers(0, 2**32))
@examples(500)
def test_changed_fields_are_refused_or_read(seed: int) -> None:
    _read_or_refuse(mutate(BASE, SITES, random.Random(seed)))


@given(st.binary(max_size=400))
@examples(200)
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ModelFormatError):
        ModelFile.from_bytes(struct.pack("<I", 8) + b"TFL3" + body)


def _read_or_refuse(data: bytes) -> None:
    start = time.process_time()
    try:
        model = ModelFile.from_bytes(data)
    except ModelFormatError:
        pass
    else:
        assert sum(r.nbytes for r in model.regions) == len(data)
        assert model.head is None or model.head.classes > 1
        assert all(np.isfinite(t.scales).all() for t in model.tensors)
    assert time.process_time() - start < 2
