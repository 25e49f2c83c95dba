"""A bounds-checked FlatBuffers reader in pure Python, driven by a schema in text.

`verify` walks every table, vector, string and union that the schema can reach and refuses the
first offset that leaves the buffer, is misaligned or runs in circles. `Table` reads; each of its
reads is checked again, so that code which skips `verify` is still safe.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelFormatError

__all__ = ["MAX_BYTES", "Field", "Schema", "Table", "root_table", "verify"]

MAX_BYTES: Final = 2**31 - 1
"""Largest buffer: FlatBuffers offsets are signed 32-bit in places."""
MAX_DEPTH: Final = 64
MAX_TABLES: Final = 1_000_000

_SCALARS: Final = {
    code: struct.Struct("<" + fmt)
    for code, fmt in {
        "i1": "b",
        "u1": "B",
        "b1": "B",
        "i2": "h",
        "u2": "H",
        "i4": "i",
        "u4": "I",
        "i8": "q",
        "u8": "Q",
        "f4": "f",
    }.items()
}
_U16: Final = _SCALARS["u2"]
_U32: Final = _SCALARS["u4"]
_I32: Final = _SCALARS["i4"]

SCALAR, STRING, VECTOR, TABLES, TABLE, UNION = range(6)


class Field(NamedTuple):
    """One field of a table: where it stands in the vtable and how to read it."""

    id: int
    name: str
    kind: int
    size: int
    """Bytes of the scalar, or of one element of the vector."""
    target: str
    """Scalar code, table name or union name."""
    default: int


class Schema:
    """Tables and unions by name, parsed when first used."""

    def __init__(
        self, tables: Mapping[str, str], unions: Mapping[str, tuple[str, ...]], root: str
    ) -> None:
        self._tables = tables
        self.unions = unions
        self.root = root
        self._parsed: dict[str, dict[str, Field]] = {}

    def fields(self, table: str) -> dict[str, Field]:
        """Return the fields of a table by name, in the order of their ids."""
        fields = self._parsed.get(table)
        if fields is None:
            fields = self._parsed[table] = {f.name: f for f in _parse(self._tables[table])}
        return fields


def _parse(text: str) -> Iterator[Field]:
    number = 0
    for item in text.split():
        name, _, kind = item.partition(":")
        kind, _, default = kind.partition("=")
        inner = kind[1:-1]
        if kind in _SCALARS:
            yield Field(number, name, SCALAR, _SCALARS[kind].size, kind, int(default or 0))
        elif kind == "str":
            yield Field(number, name, STRING, 1, "u1", 0)
        elif kind[0] == "[" and inner in _SCALARS:
            yield Field(number, name, VECTOR, _SCALARS[inner].size, inner, 0)
        elif kind[0] == "[":
            yield Field(number, name, TABLES, 4, inner, 0)
        elif kind[0] == "<":
            yield Field(number, name + "_type", SCALAR, 1, "u1", 0)
            number += 1
            yield Field(number, name, UNION, 4, inner, 0)
        else:
            yield Field(number, name, TABLE, 4, kind, 0)
        number += 1


Place: TypeAlias = "tuple[Place | None, str]"


def _spell(place: Place | None) -> str:
    parts: list[str] = []
    while place is not None:
        place, part = place
        parts.append(part)
    return "".join(reversed(parts))


class _Verifier:
    """One walk over one buffer; see `verify`."""

    def __init__(self, data: bytes, schema: Schema) -> None:
        self.data = data
        self.size = len(data)
        self.schema = schema
        # A table takes at least four bytes, and four more where it is pointed at. Files in which
        # many offsets share one table could otherwise cost time without bound.
        self.tables_left = min(MAX_TABLES, self.size // 8 + 1024)
        self.vtables: dict[tuple[int, str], tuple[int, list[tuple[Field, int]]]] = {}

    def fail(self, place: Place | None, problem: str) -> ModelFormatError:
        return ModelFormatError(f"{_spell(place)}: {problem}")

    def table(self, pos: int, name: str, place: Place, depth: int) -> None:
        self.tables_left -= 1
        if self.tables_left < 0 or depth > MAX_DEPTH:
            raise self.fail(place, "expected a tree of tables, got too many or too deep ones")
        if pos & 3 or pos + 4 > self.size:
            raise self.fail(
                place, f"expected a table inside {self.size} bytes, 4-aligned, got offset {pos}"
            )
        vtable = pos - _I32.unpack_from(self.data, pos)[0]
        known = self.vtables.get((vtable, name))
        if known is None:
            known = self.vtables[vtable, name] = self.vtable(vtable, name, place)
        table_size, present = known
        if pos + table_size > self.size:
            raise self.fail(place, f"expected a table of {table_size} bytes, got the file's end")
        types: dict[str, int] = {}
        for field, offset in present:
            at = pos + offset
            if field.kind == SCALAR:
                size = field.size
                if at & (size - 1):
                    raise self.fail((place, "." + field.name), f"misaligned scalar at {at}")
                if size == 1:
                    types[field.name] = self.data[at]
                continue
            self.reference(at, field, types, (place, "." + field.name), depth)

    def reference(
        self, at: int, field: Field, types: dict[str, int], place: Place, depth: int
    ) -> None:
        if at & 3:
            raise self.fail(place, f"misaligned offset at {at}")
        target = at + _U32.unpack_from(self.data, at)[0]
        kind = field.kind
        if target == at:
            raise self.fail(place, "offset is 0")
        if kind == TABLE:
            self.table(target, field.target, place, depth + 1)
        elif kind == VECTOR:
            self.vector(target, field.size, place)
        elif kind == TABLES:
            count = self.vector(target, 4, place)
            entry = target + 4
            steps = struct.unpack_from(f"<{count}I", self.data, entry)
            for index, step in enumerate(steps):
                element = (place, f"[{index}]")
                self.table(entry + 4 * index + step, field.target, element, depth + 1)
        elif kind == STRING:
            end = target + 4 + self.vector(target, 1, place)
            if end >= self.size or self.data[end]:
                raise self.fail(place, "string does not end with a zero byte")
        else:
            self.union(target, field, types.get(field.name + "_type", 0), place, depth)

    def union(self, target: int, field: Field, member: int, place: Place, depth: int) -> None:
        members = self.schema.unions[field.target]
        if not member:
            raise self.fail(place, f"expected the type of a {field.target}, got 0")
        if member > len(members):  # newer than this schema: readers without it skip it as well
            if not 0 <= target <= self.size - 4:
                raise self.fail(place, f"expected a table inside {self.size} bytes, got {target}")
            return
        self.table(target, members[member - 1], place, depth + 1)

    def vtable(self, pos: int, name: str, place: Place) -> tuple[int, list[tuple[Field, int]]]:
        if pos < 0 or pos & 1 or pos + 4 > self.size:
            raise self.fail(place, f"expected a vtable inside {self.size} bytes, got offset {pos}")
        size, table_size = struct.unpack_from("<HH", self.data, pos)
        if size < 4 or size & 1 or pos + size > self.size:
            raise self.fail(place, f"vtable at {pos} has an impossible size of {size} bytes")
        if table_size < 4:
            raise self.fail(place, f"vtable at {pos} gives its table {table_size} bytes")
        entries = struct.unpack_from(f"<{size // 2 - 2}H", self.data, pos + 4)
        present = []
        fields = list(self.schema.fields(name).values())
        for index, offset in enumerate(entries):
            # Fields newer than this schema: readers skip them, so only their place is checked.
            field = fields[index] if index < len(fields) else None
            need = field.size if field and field.kind == SCALAR else 4 if field else 1
            if offset and not 4 <= offset <= table_size - need:
                what = field.name if field else f"field {index}"
                raise self.fail(
                    (place, "." + what), f"offset {offset} is outside the table of {table_size}"
                )
            if offset and field:
                present.append((field, offset))
        # A union's type stands before its value by id, so `table` has seen it in time.
        return table_size, present

    def vector(self, pos: int, item: int, place: Place) -> int:
        if pos & 3 or pos + 4 > self.size:
            raise self.fail(place, f"expected a vector inside {self.size} bytes, got offset {pos}")
        count: int = _U32.unpack_from(self.data, pos)[0]
        if count * item > self.size - pos - 4:
            raise self.fail(
                place,
                f"expected at most {(self.size - pos - 4) // item} elements, "
                f"all that the file has room for, got {count}",
            )
        if item > 4 and count and (pos + 4) & (item - 1):
            raise self.fail(place, f"misaligned elements at {pos + 4}")
        return count


def verify(data: bytes, schema: Schema) -> None:
    """Refuse a buffer with any malformed offset reachable from its root.

    Parameters
    ----------
    data
        The whole buffer.
    schema
        Its schema.

    Raises
    ------
    ModelFormatError
        With the place (such as ``Model.subgraphs[0].tensors[3].shape``) and the reason.

    Notes
    -----
    Cost is linear in the number of tables, about 3 µs each; at most `MAX_TABLES` are visited.
    """
    place: Place = (None, schema.root)
    verifier = _Verifier(data, schema)
    if not 8 <= len(data) <= MAX_BYTES:
        raise verifier.fail(place, f"expected 8 to {MAX_BYTES} bytes, got {len(data)}")
    verifier.table(_U32.unpack_from(data, 0)[0], schema.root, place, 0)


class Table:
    """One table of a buffer, read by field name.

    Parameters
    ----------
    data, pos
        The buffer, and the table's offset in it.
    schema, name
        The schema and the table's name in it.
    """

    __slots__ = ("_inside", "data", "fields", "name", "pos", "schema")

    def __init__(self, data: bytes, pos: int, schema: Schema, name: str) -> None:
        self.data = data
        self.pos = pos
        self.schema = schema
        self.name = name
        self.fields = schema.fields(name)
        self._inside: tuple[int, ...] | None = None  # offsets by the fields' ids, once read

    def _scalar(self, code: str, pos: int) -> Any:
        form = _SCALARS[code]
        if not 0 <= pos <= len(self.data) - form.size:
            raise ModelFormatError(f"{self.name}: offset {pos} is outside the file")
        return form.unpack_from(self.data, pos)[0]

    def vtable_entry(self, field: str) -> int | None:
        """Return the offset in the file of the field's two-byte vtable entry, or None."""
        vtable = self.pos - self._scalar("i4", self.pos)
        entry = 4 + 2 * self.fields[field].id
        return vtable + entry if entry < self._scalar("u2", vtable) else None

    def _read_vtable(self) -> tuple[int, ...]:
        vtable = self.pos - self._scalar("i4", self.pos)
        count = max(0, (self._scalar("u2", vtable) - 3) // 2)
        if vtable + 4 + 2 * count > len(self.data):
            raise ModelFormatError(f"{self.name}: offset {vtable} is outside the file")
        return struct.unpack_from(f"<{count}H", self.data, vtable + 4)

    def position(self, field: str) -> int | None:
        """Return the offset in the file of the field's inline value, or None where absent."""
        inside = self._inside
        if inside is None:
            inside = self._inside = self._read_vtable()
        number = self.fields[field].id
        offset = inside[number] if number < len(inside) else 0
        return self.pos + offset if offset else None

    def _target(self, field: str) -> int | None:
        at = self.position(field)
        return None if at is None else at + int(self._scalar("u4", at))

    def scalar(self, field: str) -> Any:
        """Return a scalar field, or its default."""
        at = self.position(field)
        spec = self.fields[field]
        return spec.default if at is None else self._scalar(spec.target, at)

    def span(self, field: str) -> tuple[int, int] | None:
        """Return the offset in the file of a vector's first element and the element count."""
        target = self._target(field)
        if target is None:
            return None
        count = int(self._scalar("u4", target))
        if count * self.fields[field].size > len(self.data) - target - 4:
            raise ModelFormatError(f"{self.name}.{field}: {count} elements leave the file")
        return target + 4, count

    def vector(self, field: str) -> tuple[Any, ...]:
        """Return a vector of scalars as a tuple; empty where absent."""
        start, count = self.span(field) or (0, 0)
        code = _SCALARS[self.fields[field].target].format[1:]
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def array(self, field: str) -> npt.NDArray[Any]:
        """Return a vector of scalars as a read-only array of its own; empty where absent."""
        start, count = self.span(field) or (0, 0)
        code = self.fields[field].target
        dtype = np.dtype("<" + code.replace("b", "u"))
        array = (
            np.frombuffer(self.data, dtype, count, start).copy() if count else np.empty(0, dtype)
        )
        array.flags.writeable = False
        return array

    def string(self, field: str) -> str | None:
        """Return a string; bytes that are not UTF-8 come as backslash escapes."""
        span = self.span(field)
        if span is None:
            return None
        return self.data[span[0] : span[0] + span[1]].decode("utf-8", "backslashreplace")

    def table(self, field: str) -> Table | None:
        """Return a table field or a union's value, or None where absent."""
        target = self._target(field)
        if target is None:
            return None
        name = self.fields[field].target
        if self.fields[field].kind == UNION:
            members = self.schema.unions[name]
            member = self.scalar(field + "_type")
            if not 1 <= member <= len(members):
                return None
            name = members[member - 1]
        return Table(self.data, target, self.schema, name)

    def tables(self, field: str) -> list[Table]:
        """Return a vector of tables; empty where absent."""
        start, count = self.span(field) or (0, 0)
        steps = struct.unpack_from(f"<{count}I", self.data, start)
        name = self.fields[field].target
        return [
            Table(self.data, start + 4 * i + step, self.schema, name)
            for i, step in enumerate(steps)
        ]


def root_table(data: bytes, schema: Schema) -> Table:
    """Return the root table of a buffer."""
    if len(data) < 8:
        raise ModelFormatError(f"{schema.root}: expected at least 8 bytes, got {len(data)}")
    return Table(data, _U32.unpack_from(data, 0)[0], schema, schema.root)
