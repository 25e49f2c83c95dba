"""Write small TFLite files from nested dictionaries; only for tests, and only what they need.

Field names are the schema's. Tables are dictionaries, vectors are lists, strings are `str`, byte
vectors `bytes`, a union is ``(member name, dictionary)``.
"""

from __future__ import annotations

import struct
from typing import Any

from selfheal_edge.tflite.format import flatbuffer
from selfheal_edge.tflite.format.flatbuffer import Field
from selfheal_edge.tflite.format.schema import BUILTIN_OPERATORS, TENSOR_TYPES, TFLITE

_FORMATS = {
    "i1": "b", "u1": "B", "b1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q",
    "u8": "Q", "f4": "f",
}  # fmt: skip
_TYPES = {t.dtype: i for i, t in enumerate(TENSOR_TYPES)}

Tree = dict[str, Any]


def serialize(model: Tree) -> bytes:
    """Return the file; children stand behind their parents, so that every offset is positive."""
    out = bytearray(b"\0\0\0\0TFL3")
    struct.pack_into("<I", out, 0, _table(out, "Model", model))
    return bytes(out)


def _align(out: bytearray, step: int, ahead: int = 0) -> int:
    out.extend(bytes(-(len(out) + ahead) % step))
    return len(out)


def _table(out: bytearray, name: str, tree: Tree) -> int:
    fields = TFLITE.fields(name)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if value is None:
            continue
        if fields[key].kind == flatbuffer.UNION:
            members = TFLITE.unions[fields[key].target]
            values[key + "_type"] = members.index(value[0]) + 1
        values[key] = value
    offset, places = 4, {}
    for key in values:
        size = fields[key].size if fields[key].kind == flatbuffer.SCALAR else 4
        offset += -offset % size
        places[key] = offset
        offset += size
    last = max((fields[key].id for key in values), default=-1)
    entries = [0] * (last + 1)
    for key, place in places.items():
        entries[fields[key].id] = place
    vtable = _align(out, 2)
    out += struct.pack(f"<HH{len(entries)}H", 4 + 2 * len(entries), offset, *entries)
    pos = _align(out, 8)
    out += struct.pack("<i", pos - vtable) + bytes(offset - 4)
    for key, value in values.items():
        field, at = fields[key], pos + places[key]
        if field.kind == flatbuffer.SCALAR:
            struct.pack_into("<" + _FORMATS[field.target], out, at, value)
        else:
            target = _child(out, field, value)
            struct.pack_into("<I", out, at, target - at)
    return pos


def _child(out: bytearray, field: Field, value: Any) -> int:
    if field.kind == flatbuffer.UNION:
        return _table(out, value[0], value[1])
    if field.kind == flatbuffer.TABLE:
        return _table(out, field.target, value)
    if field.kind == flatbuffer.STRING:
        raw = value.encode() if isinstance(value, str) else value
        pos = _align(out, 4)
        out += struct.pack("<I", len(raw)) + raw + b"\0"
        return pos
    if field.kind == flatbuffer.VECTOR:
        pos = _align(out, 16 if field.target == "u1" else field.size, 4)
        pos += -pos % 4
        out.extend(bytes(pos - len(out)))
        body = bytes(value) if field.target == "u1" else b""
        if not body:
            body = struct.pack(f"<{len(value)}{_FORMATS[field.target]}", *value)
        out += struct.pack("<I", len(value)) + body
        return pos
    pos = _align(out, 4)
    out += struct.pack("<I", len(value)) + bytes(4 * len(value))
    for index, item in enumerate(value):
        at = pos + 4 + 4 * index
        struct.pack_into("<I", out, at, _table(out, field.target, item) - at)
    return pos


class Graph:
    """Collects one subgraph; `Builder.graph` makes it."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self.tree: Tree = {"tensors": [], "operators": [], "inputs": [], "outputs": []}

    def tensor(
        self, shape: list[int], dtype: str = "float32", data: bytes | None = None, **more: Any
    ) -> int:
        index = len(self.tree["tensors"])
        buffer = 0 if data is None else self._builder.buffer(data)
        tree = {"shape": shape, "type": _TYPES[dtype], "buffer": buffer, "name": f"t{index}"}
        self.tree["tensors"].append({**tree, **more})
        return index

    def file(self) -> bytes:
        return self._builder.file()

    def operator(
        self,
        name: str,
        inputs: list[int],
        outputs: list[int],
        options: tuple[str, Tree] | None = None,
        **more: Any,
    ) -> None:
        code = self._builder.code(name)
        tree = {"opcode_index": code, "inputs": inputs, "outputs": outputs}
        if options is not None:
            union = "builtin_options"
            if options[0] in TFLITE.unions["BuiltinOptions2"]:
                union = "builtin_options_2"
            tree[union] = options
        self.tree["operators"].append({**tree, **more})


class Builder:
    """Collects a model: graphs, buffers, operator codes."""

    def __init__(self) -> None:
        self.tree: Tree = {
            "version": 3, "operator_codes": [], "subgraphs": [], "buffers": [{}],
        }  # fmt: skip

    def graph(self) -> Graph:
        graph = Graph(self)
        self.tree["subgraphs"].append(graph.tree)
        return graph

    def buffer(self, data: bytes) -> int:
        self.tree["buffers"].append({"data": data})
        return len(self.tree["buffers"]) - 1

    def code(self, name: str) -> int:
        number = BUILTIN_OPERATORS.index(name)
        entry = {"deprecated_builtin_code": min(number, 127), "builtin_code": number, "version": 1}
        if entry not in self.tree["operator_codes"]:
            self.tree["operator_codes"].append(entry)
        return int(self.tree["operator_codes"].index(entry))

    def file(self) -> bytes:
        return serialize(self.tree)


def dense_model(
    features: int = 4, classes: int = 3, *, softmax: bool = True, dtype: str = "float32"
) -> Builder:
    """Return a classifier of one FULLY_CONNECTED layer: tensors input, weights, bias, logits."""
    builder = Builder()
    graph = builder.graph()
    weights = struct.pack(f"<{features * classes}f", *(0.1 * i for i in range(features * classes)))
    graph.tensor([1, features], dtype)
    graph.tensor([classes, features], dtype, weights)
    graph.tensor([classes], dtype, bytes(4 * classes))
    graph.tensor([1, classes], dtype)
    graph.operator("FULLY_CONNECTED", [0, 1, 2], [3], ("FullyConnectedOptions", {}))
    if softmax:
        graph.tensor([1, classes], dtype)
        graph.operator("SOFTMAX", [3], [4], ("SoftmaxOptions", {"beta": 1.0}))
    graph.tree["inputs"] = [0]
    graph.tree["outputs"] = [4 if softmax else 3]
    return builder


def branching_model(*, recursive: bool = False) -> Builder:
    """Return ``x < 3 ? x + x : x * x`` with IF, and a WHILE that doubles x until 100."""
    builder = Builder()
    main, then, other, cond, body = (builder.graph() for _ in range(5))
    main.tensor([1])
    main.tensor([1], data=struct.pack("<f", 3.0))
    main.tensor([1], "bool")
    main.tensor([1])
    main.tensor([1])
    main.operator("LESS", [0, 1], [2], ("LessOptions", {}))
    main.operator("IF", [2, 0], [3], ("IfOptions", {
        "then_subgraph_index": 1, "else_subgraph_index": 0 if recursive else 2,
    }))  # fmt: skip
    main.operator("WHILE", [3], [4], ("WhileOptions", {
        "cond_subgraph_index": 3, "body_subgraph_index": 4,
    }))  # fmt: skip
    main.tree.update(inputs=[0], outputs=[4])
    for graph, name, options in (
        (then, "ADD", "AddOptions"), (other, "MUL", "MulOptions"), (body, "ADD", "AddOptions"),
    ):  # fmt: skip
        graph.tensor([1])
        graph.tensor([1], data=struct.pack("<f", 1.0))
        graph.tensor([1])
        graph.operator(name, [0, 1], [2], (options, {}))
        graph.tree.update(inputs=[0], outputs=[2])
    cond.tensor([1])
    cond.tensor([1], data=struct.pack("<f", 10.0))
    cond.tensor([1], "bool")
    cond.operator("LESS", [0, 1], [2], ("LessOptions", {}))
    cond.tree.update(inputs=[0], outputs=[2])
    return builder
