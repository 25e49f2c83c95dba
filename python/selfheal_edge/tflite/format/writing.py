"""Write tables in front of a flatbuffer, which stays as it is.

Offsets point forward, so a new root in front can lead to all that the file has. A table is a
dictionary by the schema's names, a vector a list, a union ``(member, table)``; `Kept` is what
stands in the file already.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple, TypeAlias

from selfheal_edge.tflite.format import flatbuffer
from selfheal_edge.tflite.format.flatbuffer import Field, Schema, Table

__all__ = ["Kept", "Tree", "front_of", "is_newer", "tree_of"]

Tree: TypeAlias = dict[str, Any]
_FORMATS: Final = {
    "i1": "b", "u1": "B", "b1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q",
    "u8": "Q", "f4": "f",
}  # fmt: skip
_ALIGNMENT: Final = 64
"""Of the file behind the front: nothing in it asks for more."""
_BYTES_ALIGNMENT: Final = 16
"""Of vectors of bytes: the constants of a model."""


class Kept(NamedTuple):
    """A table, vector or string of the file, by its offset there."""

    pos: int


def tree_of(table: Table) -> Tree:
    """Return what a table has: scalars by their values, all else as `Kept`."""
    tree: Tree = {}
    for name, field in table.fields.items():
        at = table.position(name)
        if at is None:
            continue
        if field.kind == flatbuffer.SCALAR:
            tree[name] = table.scalar(name)
        else:
            tree[name] = Kept(at + int(struct.unpack_from("<I", table.data, at)[0]))
    return tree


def is_newer(table: Table) -> bool:
    """Whether a table has fields that the schema does not know, and `tree_of` leaves out."""
    vtable = table.pos - struct.unpack_from("<i", table.data, table.pos)[0]
    (size,) = struct.unpack_from("<H", table.data, vtable)
    entries = struct.unpack_from(f"<{size // 2 - 2}H", table.data, vtable + 4)
    return any(entries[len(table.fields) :])


def front_of(root: Tree, schema: Schema, identifier: bytes) -> bytes:
    """Return what goes in front of a file: its bytes begin right behind.

    Parameters
    ----------
    root
        The new root table.
    schema
        The file's.
    identifier
        Four bytes.
    """
    front = _Front(schema)
    front.out[:] = bytes(4) + identifier
    struct.pack_into("<I", front.out, 0, front.table(schema.root, root))
    front.align(_ALIGNMENT)
    for at, kept in front.kept:
        struct.pack_into("<I", front.out, at, len(front.out) + kept - at)
    return bytes(front.out)


class _Front:
    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.out = bytearray()
        self.kept: list[tuple[int, int]] = []

    def align(self, step: int, ahead: int = 0) -> int:
        self.out.extend(bytes(-(len(self.out) + ahead) % step))
        return len(self.out)

    def table(self, name: str, tree: Tree) -> int:
        """Append a table and, behind it, what it leads to."""
        fields = self.schema.fields(name)
        tree = dict(tree)
        for key, value in tuple(tree.items()):
            if fields[key].kind == flatbuffer.UNION and not isinstance(value, Kept):
                members = self.schema.unions[fields[key].target]
                tree[key + "_type"] = members.index(value[0]) + 1
        places, size = {}, 4
        for key in tree:
            width = fields[key].size if fields[key].kind == flatbuffer.SCALAR else 4
            size += -size % width
            places[key] = size
            size += width
        entries = [0] * (1 + max((fields[key].id for key in tree), default=-1))
        for key, place in places.items():
            entries[fields[key].id] = place
        vtable = self.align(2)
        self.out += struct.pack(f"<HH{len(entries)}H", 4 + 2 * len(entries), size, *entries)
        pos = self.align(8)
        self.out += struct.pack("<i", pos - vtable) + bytes(size - 4)
        for key, value in tree.items():
            field, at = fields[key], pos + places[key]
            if field.kind == flatbuffer.SCALAR:
                struct.pack_into("<" + _FORMATS[field.target], self.out, at, value)
            else:
                self.lead(at, field, value)
        return pos

    def lead(self, at: int, field: Field, value: Any) -> None:
        """Let the offset at a place lead to a value, which is appended if it is new."""
        if isinstance(value, Kept):
            self.kept.append((at, value.pos))
        else:
            struct.pack_into("<I", self.out, at, self.child(field, value) - at)

    def child(self, field: Field, value: Any) -> int:
        if field.kind == flatbuffer.UNION:
            return self.table(value[0], value[1])
        if field.kind == flatbuffer.TABLE:
            return self.table(field.target, value)
        if field.kind == flatbuffer.STRING:
            raw = value.encode()
            pos = self.align(4)
            self.out += struct.pack("<I", len(raw)) + raw + b"\0"
            return pos
        if field.kind == flatbuffer.VECTOR:
            is_bytes = field.target == "u1"
            pos = self.align(_BYTES_ALIGNMENT if is_bytes else max(4, field.size), 4)
            self.out += struct.pack("<I", len(value))
            self.out += (
                value if is_bytes else struct.pack(f"<{len(value)}{_FORMATS[field.target]}", *value)
            )
            return pos
        pos = self.align(4)
        self.out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for index, item in enumerate(value):
            at = pos + 4 + 4 * index
            if isinstance(item, Kept):
                self.kept.append((at, item.pos))
            else:
                struct.pack_into("<I", self.out, at, self.table(field.target, item) - at)
        return pos
