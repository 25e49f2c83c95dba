"""Structural mutations of a valid model file: each hits one field that means something."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format import flatbuffer
from selfheal_edge.tflite.format.flatbuffer import Table
from selfheal_edge.tflite.format.schema import TFLITE

_INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 31, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1)


class Site(NamedTuple):
    kind: str
    pos: int
    size: int


def sites(data: bytes) -> dict[str, list[Site]]:
    """Return every place worth hitting, by kind."""
    found: dict[str, list[Site]] = {}
    for site in _walk(flatbuffer.root_table(data, TFLITE)):
        found.setdefault(site.kind, []).append(site)
    for region in ModelFile.from_bytes(data).regions:
        if region.kind == "other" and region.nbytes <= 64:
            for pos in range(region.offset, region.offset + region.nbytes - 3, 4):
                found.setdefault("operand", []).append(Site("operand", pos, 4))
    return found


def _walk(table: Table) -> Iterator[Site]:
    vtable = table.pos - struct.unpack_from("<i", table.data, table.pos)[0]
    yield Site("offset", table.pos, 4)
    yield Site("vtable", vtable, 2)
    yield Site("vtable", vtable + 2, 2)
    for field in table.fields.values():
        entry = table.vtable_entry(field.name)
        at = table.position(field.name)
        if entry is not None:
            yield Site("vtable", entry, 2)
        if at is None:
            continue
        if field.kind == flatbuffer.SCALAR:
            yield Site("scalar", at, field.size)
            continue
        yield Site("offset", at, 4)
        if field.kind in (flatbuffer.TABLE, flatbuffer.UNION):
            target = table.table(field.name)
            if target is not None:
                yield from _walk(target)
            continue
        start, count = table.span(field.name) or (0, 0)
        yield Site("length", start - 4, 4)
        if field.kind == flatbuffer.TABLES:
            for index, target in enumerate(table.tables(field.name)):
                yield Site("offset", start + 4 * index, 4)
                yield from _walk(target)
        elif field.kind == flatbuffer.VECTOR and count <= 64:
            for index in range(count):
                yield Site("element", start + field.size * index, field.size)


def _value(rng: random.Random, old: int, size: int) -> int:
    choices: tuple[Callable[[], int], ...] = (
        lambda: rng.choice(_INTERESTING),
        lambda: -rng.choice(_INTERESTING),
        lambda: old + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8)),
        lambda: old * rng.choice((2, 3, 1000)),
        lambda: old ^ (1 << rng.randrange(8 * size)),
        lambda: rng.randrange(2 ** (8 * size)),
        lambda: rng.randrange(64),
    )
    return int(rng.choice(choices)() % 2 ** (8 * size))


def mutate(data: bytes, found: dict[str, list[Site]], rng: random.Random) -> bytes:
    """Return the file with one to three fields changed, or cut short."""
    if rng.random() < 0.03:
        return data[: rng.randrange(len(data))]
    # Offsets are nearly always refused at once; what reaches the kernels deserves more tries.
    weights = {"scalar": 5, "element": 8, "operand": 2, "length": 2, "offset": 1, "vtable": 2}
    kinds = [kind for kind in weights if kind in found]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.choices(kinds, [weights[k] for k in kinds])[0]
        site = rng.choice(found[kind])
        old = int.from_bytes(changed[site.pos : site.pos + site.size], "little")
        new = _value(rng, old, site.size)
        changed[site.pos : site.pos + site.size] = new.to_bytes(site.size, "little")
    return bytes(changed)
