"""The tables of the schema are those of the installed runtime, field by field."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.support import all_hold

from selfheal_edge.tflite.format import flatbuffer
from selfheal_edge.tflite.format.schema import (
    BUILTIN_OPERATORS,
    TABLES,
    TENSOR_TYPES,
    TFLITE,
    UNIONS,
)

_CODES = {
    "Int8": "i1", "Uint8": "u1", "Bool": "b1", "Int16": "i2", "Uint16": "u2", "Int32": "i4",
    "Uint32": "u4", "Int64": "i8", "Uint64": "u8", "Float32": "f4",
}  # fmt: skip
_DEPRECATED = frozenset({"deprecated_tag", "new_height", "new_width"})
"""Fields that have their place, and no reader any more."""


class Theirs(NamedTuple):
    """One field as the generated module reads it."""

    id: int
    kind: int
    target: str
    default: float


@functools.cache
def known() -> dict[str, str]:
    """Return the classes of LiteRT's generated module: importing it takes `flatbuffers`."""
    found = importlib.util.find_spec("ai_edge_litert")
    path = Path((found and found.origin) or "nowhere").with_name("schema_py_generated.py")
    if not path.exists():
        pytest.skip("no runtime with a schema module is installed")
    return classes(path.read_text())


def classes(text: str) -> dict[str, str]:
    """Return the bodies of all classes by name."""
    parts = re.split(r"^class (\w+)\(object\):\n", text, flags=re.MULTILINE)[1:]
    return {name: re.split(r"^\S", body, maxsplit=1, flags=re.MULTILINE)[0]
            for name, body in zip(parts[::2], parts[1::2], strict=True)}  # fmt: skip


def enum(body: str) -> dict[str, int]:
    """Return an enum's members."""
    return {name: int(value) for name, value in re.findall(r"^ {4}(\w+) = (-?\d+)$", body, re.M)}


def fields(body: str) -> dict[str, Theirs]:
    """Return a table's fields by name in small letters, without underscores."""
    found: dict[str, Theirs] = {}
    methods = re.findall(r"^ {4}def (\w+)\(self[^)]*\):\n((?: {8}.*\n|\n)+)", body, re.M)
    for name, code in methods:
        place = re.search(r"_tab\.Offset\((\d+)\)", code)
        if place is None or re.search(r".(AsNumpy|Length|IsNone)$", name):
            continue
        number = (int(place[1]) - 4) // 2
        item: Any = re.search(r"number_types\.(\w+)Flags, [ao] \+", code)
        table = re.search(r"^ +obj = (\w+)\(\)", code, re.M)
        if "_tab.Union(" in code:
            read: tuple[int, str] = (flatbuffer.UNION, "")
        elif "_tab.String(" in code:
            read = (flatbuffer.STRING, "u1")
        elif "_tab.Vector(" in code:
            read = (flatbuffer.VECTOR, _CODES[item[1]]) if item else (flatbuffer.TABLES, table[1])  # type: ignore[index]
        elif table:
            read = (flatbuffer.TABLE, table[1])
        else:
            read = (flatbuffer.SCALAR, _CODES[item[1]])
        last = re.findall(r"return (\S+)$", code, re.M)[-1]
        default = {"True": 1, "False": 0, "None": 0}.get(last)
        found[name.lower()] = Theirs(number, *read, float(last) if default is None else default)
    return found


def test_operators_and_types_are_the_same() -> None:
    operators = enum(known()["BuiltinOperator"])
    assert {name: i for i, name in enumerate(BUILTIN_OPERATORS)} == operators
    assert {kind.name: i for i, kind in enumerate(TENSOR_TYPES)} == enum(known()["TensorType"])


@pytest.mark.parametrize("union", UNIONS)
def test_unions_are_the_same(union: str) -> None:
    members = enum(known()[union])
    assert {"NONE": 0, **{name: i + 1 for i, name in enumerate(UNIONS[union])}} == members


def test_fields_are_the_same() -> None:
    all_hold(fields_are_the_same, {table: table for table in TABLES})


def fields_are_the_same(table: str) -> None:
    theirs = fields(known()[table])
    ours = {}
    for field in TFLITE.fields(table).values():
        if field.name in _DEPRECATED:
            continue
        target = "" if field.kind == flatbuffer.UNION else field.target
        ours[field.name.replace("_", "").lower()] = Theirs(
            field.id, field.kind, target, float(field.default)
        )
    assert ours == theirs


def test_no_table_is_missing() -> None:
    """A union names all that it holds, and all that those lead to."""
    tables = {name for name, body in known().items() if "def GetRootAs(" in body}
    assert {name for name in tables if not name.endswith("T")} <= set(TABLES)
