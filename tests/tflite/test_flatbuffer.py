from __future__ import annotations

import struct

import pytest
from tests.tflite import builder

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format import flatbuffer
from selfheal_edge.tflite.format.flatbuffer import Schema, Table
from selfheal_edge.tflite.format.schema import (
    BUILTIN_OPERATORS,
    TABLES,
    TENSOR_TYPES,
    TFLITE,
    UNIONS,
)


def test_every_table_and_union_of_the_schema_parses() -> None:
    for name in TABLES:
        for field in TFLITE.fields(name).values():
            if field.kind == flatbuffer.UNION:
                assert field.target in UNIONS
            elif field.kind in (flatbuffer.TABLE, flatbuffer.TABLES):
                assert field.target in TABLES
    assert all(member in TABLES for members in UNIONS.values() for member in members)


def test_known_numbers_of_the_schema() -> None:
    assert BUILTIN_OPERATORS.index("CUSTOM") == 32
    assert BUILTIN_OPERATORS.index("STABLEHLO_CASE") == 209
    assert UNIONS["BuiltinOptions"].index("RightShiftOptions") == 125
    assert UNIONS["BuiltinOptions2"].index("StablehloCaseOptions") == 22
    assert [TENSOR_TYPES[i].dtype for i in (0, 9, 17)] == ["float32", "int8", "int4"]
    assert TFLITE.fields("Model")["signature_defs"].id == 7
    assert TFLITE.fields("Operator")["builtin_options_2"].id == 12
    assert TFLITE.fields("Tensor")["external_buffer"].id == 10


def test_what_the_builder_writes_reads_back() -> None:
    data = builder.dense_model().file()
    flatbuffer.verify(data, TFLITE)
    root = flatbuffer.root_table(data, TFLITE)
    graph = root.tables("subgraphs")[0]
    tensor = graph.tables("tensors")[1]
    assert root.scalar("version") == 3
    assert graph.vector("inputs") == (0,)
    assert tensor.string("name") == "t1"
    assert tensor.vector("shape") == (3, 4)
    assert tensor.scalar("has_rank") == 0
    assert tensor.table("quantization") is None
    operator = graph.tables("operators")[1]
    options = operator.table("builtin_options")
    assert options is not None
    assert options.name == "SoftmaxOptions"
    assert options.scalar("beta") == 1.0


def test_positions_point_at_the_bytes_to_patch() -> None:
    data = bytearray(builder.dense_model().file())
    graph = flatbuffer.root_table(bytes(data), TFLITE).tables("subgraphs")[0]
    start, count = graph.span("outputs") or (0, 0)
    assert count == 1
    struct.pack_into("<i", data, start, 3)
    assert flatbuffer.root_table(bytes(data), TFLITE).tables("subgraphs")[0].vector("outputs") == (
        3,
    )
    entry = graph.vtable_entry("outputs")
    assert entry is not None
    struct.pack_into("<H", data, entry, 0)
    patched = flatbuffer.root_table(bytes(data), TFLITE).tables("subgraphs")[0]
    assert patched.position("outputs") is None
    assert patched.vector("outputs") == ()


SMALL = Schema({"Node": "value:i4=7 next:Node items:[Node] text:str wide:[i8]"}, {}, "Node")


def _node(*fields: bytes) -> bytearray:
    """Return a root Node at 24 whose vtable at 8 has five entries, all absent."""
    return bytearray(struct.pack("<I4x", 24) + struct.pack("<HH5H2x", 14, 24, *[0] * 5)) + b"".join(
        (struct.pack("<i", 16), bytes(20), *fields)
    )


def test_absent_fields_have_their_defaults() -> None:
    data = bytes(_node())
    flatbuffer.verify(data, SMALL)
    root = flatbuffer.root_table(data, SMALL)
    assert root.scalar("value") == 7
    assert root.string("text") is None
    assert root.array("wide").size == 0


def _with(entry: int, target: int, extra: bytes = b"") -> bytes:
    data = _node(extra)
    struct.pack_into("<H", data, 12 + 2 * entry, 4)
    struct.pack_into("<I", data, 28, target)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected 8 to"),
        (b"\0" * 7, "expected 8 to"),
        (struct.pack("<II", 2**31, 0), "got offset 2147483648"),
        (struct.pack("<II", 5, 0), "got offset 5"),
        (_with(1, 0), "offset is 0"),
        (_with(1, 2**31), r"Node.next: expected a table inside"),
        (_with(1, 3), "got offset 31"),
        (_with(2, 20, struct.pack("<I", 2**30)), r"Node.items: expected at most 0 elements"),
        (_with(2, 20, struct.pack("<II", 1, 2**20)), r"Node.items\[0\]: expected a table"),
        (_with(3, 20, struct.pack("<I", 3) + b"abc"), "does not end with a zero byte"),
        (_with(3, 20, struct.pack("<I", 3) + b"abcd"), "does not end with a zero byte"),
        (_with(4, 20, struct.pack("<Iq", 1, 1)), "misaligned elements"),
    ],
)
def test_malformed_offsets_are_refused_with_their_place(data: bytes, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        flatbuffer.verify(data, SMALL)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (8, 3, "impossible size"),
        (8, 2, "impossible size"),
        (8, 60000, "impossible size"),
        (10, 3, "gives its table 3 bytes"),
        (10, 65535, "got the file's end"),
        (12, 2, "Node.value: offset 2 is outside the table"),
        (12, 21, "Node.value: offset 21 is outside the table"),
        (12, 5, "misaligned scalar"),
    ],
)
def test_malformed_vtables_are_refused(at: int, value: int, message: str) -> None:
    data = _node()
    struct.pack_into("<H", data, at, value)
    with pytest.raises(ModelFormatError, match=message):
        flatbuffer.verify(bytes(data), SMALL)


def test_circles_end() -> None:
    data = _node(bytes(64))
    struct.pack_into("<H", data, 12 + 4, 4)  # items, whose only element is the root again
    struct.pack_into("<I", data, 28, 20)
    struct.pack_into("<II", data, 48, 1, 2**32 - 28)
    with pytest.raises(ModelFormatError, match="expected a table inside"):
        flatbuffer.verify(bytes(data), SMALL)


def test_many_offsets_to_one_table_end() -> None:
    """Shared children must not multiply: 2**20 paths through 20 levels."""
    out = bytearray(struct.pack("<I4x", 24) + struct.pack("<HH5H2x", 14, 8, 0, 0, 4, 0, 0))
    for level in range(20):
        pos = len(out)
        last = level == 19
        out += struct.pack("<iI", pos - 8, 4)
        out += struct.pack("<III", 0 if last else 2, 12, 8)
        out += bytes(4)
    with pytest.raises(ModelFormatError, match="too many or too deep"):
        flatbuffer.verify(bytes(out), SMALL)


def test_unverified_reads_are_checked_too() -> None:
    data = builder.dense_model().file()
    for pos in (-1, len(data) - 1, len(data), 2**40):
        with pytest.raises(ModelFormatError):
            Table(data, pos, TFLITE, "Model").scalar("version")
