"""Which module each byte of a packed image belongs to, by the index that XNNPACK writes.

The image is a weight cache file: a header of four fields, the packed weights, each at a multiple
of 128 bytes, and behind them a FlatBuffer that lists them with the numbers of the model's buffers
that went into each. Reading that list is exact and takes microseconds; the other way, to build
again with one region changed and compare, needs no knowledge of the format but one build for each
region. The tests do it the other way and compare.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format.flatbuffer import Schema, root_table, verify
from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import DecodedSubgraph, OperatorInfo, Region, RegionUse

__all__ = ["PackedBuffer", "packed_for", "packed_regions", "read_index", "unfolded"]

_HEADER: Final = struct.Struct("<QQQB")
_VERSION: Final = 4
_NONE: Final = 2**64 - 1
_SCHEMA: Final = Schema(
    {
        "BufferList": "fingerprints:[u8] buffers:[Buffer] base_offset:u8",
        "Buffer": "packing_algorithm_id:u8 weights_id:u8 bias_id:u8 offset:u8 size:u8",
    },
    {},
    "BufferList",
)


@dataclass(frozen=True, slots=True)
class PackedBuffer:
    """One packed stretch of the image."""

    offset: int
    nbytes: int
    weights: int
    """Index of the model's buffer that was packed."""
    bias: int | None
    """Index of the buffer packed with it, or None."""


def read_index(image: bytes) -> tuple[PackedBuffer, ...]:
    """Read what was packed where.

    Parameters
    ----------
    image
        A copy of the whole image, as it was when it was packed.

    Returns
    -------
    tuple of PackedBuffer
        By offset; disjoint and inside the image.

    Raises
    ------
    ModelFormatError
        When the image is not laid out as this reader knows it.
    """
    if len(image) < _HEADER.size:
        raise ModelFormatError(f"packed image: expected a header, got {len(image)} bytes")
    version, start, nbytes, _ = _HEADER.unpack_from(image)
    if version != _VERSION:
        raise ModelFormatError(f"packed image: expected format {_VERSION}, got {version}")
    if start + nbytes > len(image):
        raise ModelFormatError("packed image: its index lies outside")
    index = image[start : start + nbytes]
    verify(index, _SCHEMA)
    root = root_table(index, _SCHEMA)
    base = root.scalar("base_offset")
    found = []
    for entry in root.tables("buffers"):
        bias = entry.scalar("bias_id")
        found.append(
            PackedBuffer(
                base + entry.scalar("offset"),
                entry.scalar("size"),
                entry.scalar("weights_id"),
                None if bias == _NONE else bias,
            )
        )
    found.sort(key=lambda buffer: buffer.offset)
    end = _HEADER.size
    for buffer in found:
        if not end <= buffer.offset <= buffer.offset + buffer.nbytes <= start:
            raise ModelFormatError("packed image: its index lists stretches that overlap")
        end = buffer.offset + buffer.nbytes
    return tuple(found)


def packed_regions(
    buffers: Sequence[PackedBuffer],
    nbytes: int,
    graphs: Sequence[DecodedSubgraph],
) -> tuple[Region, ...]:
    """Partition the image into regions that carry the names of the model's modules.

    Parameters
    ----------
    buffers
        From `read_index`.
    nbytes
        Bytes of the image.
    graphs
        The model's subgraphs, the first of which is the model.

    Returns
    -------
    tuple of Region
        By offset, without gap or overlap: packed weights of kind ``"weights"``, with the modules
        that run on them; the header, padding and index of kind ``"graph"``.
    """
    users = []
    for graph in graphs:
        origins = unfolded(graph)
        users += [(op, dict(packed_for(op, buffers, graph, origins))) for op in graph.operators]
    regions: list[Region] = []
    end = 0
    for buffer in buffers:
        if buffer.offset > end:
            regions.append(_rest(end, buffer.offset))
        mine = [(op, own[buffer]) for op, own in users if buffer in own]
        regions.append(_region(buffer, mine, graphs))
        end = buffer.offset + buffer.nbytes
    if end < nbytes:
        regions.append(_rest(end, nbytes))
    return tuple(regions)


def _rest(start: int, end: int) -> Region:
    return Region(f"packed/{start}", (), start, end - start, "graph", ())


def _region(
    buffer: PackedBuffer,
    users: Sequence[tuple[OperatorInfo, int]],
    graphs: Sequence[DecodedSubgraph],
) -> Region:
    name = f"buffer {buffer.weights}"
    if users:
        operator, tensor = users[-1]
        name = graphs[operator.subgraph].tensors[tensor].name
    return Region(
        name=f"packed/{buffer.offset}/{name}",
        modules=tuple(operator.module for operator, _ in users),
        offset=buffer.offset,
        nbytes=buffer.nbytes,
        kind="weights",
        uses=tuple(RegionUse(op.subgraph, tensor, op.index) for op, tensor in users),
    )


def unfolded(graph: DecodedSubgraph) -> dict[int, int]:
    """Return the constants that tensors are unfolded from when the model is built.

    Weights may lie in the file as float16 or sparse: what is packed are they, and not what the
    operators that unfold them would give.
    """
    found: dict[int, int] = {}
    for operator in graph.operators:
        if operator_known_as(operator.name).unfolds:
            origin = found.get(operator.inputs[0], operator.inputs[0])
            if graph.tensors[origin].is_constant:
                found[operator.outputs[0]] = origin
    return found


def packed_for(
    operator: OperatorInfo,
    buffers: Sequence[PackedBuffer],
    graph: DecodedSubgraph,
    origins: Mapping[int, int],
) -> list[tuple[PackedBuffer, int]]:
    """Return the packed stretches that an operator runs on, each with its weights' tensor.

    Parameters
    ----------
    operator
        One of `graph`.
    buffers
        From `read_index`.
    graph, origins
        A subgraph, and what `unfolded` says of it.
    """
    constants = [origins.get(i, i) for i in operator.inputs if i >= 0]
    given = {graph.tensors[i].buffer: i for i in constants}
    return [
        (b, given[b.weights])
        for b in buffers
        if b.weights in given and (b.bias is None or b.bias in given)
    ]
