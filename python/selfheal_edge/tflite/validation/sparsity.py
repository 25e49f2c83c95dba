"""Check the index structure of a sparse tensor: kernels follow it without looking."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format.flatbuffer import Table

__all__ = ["stored_values"]


def stored_values(sparsity: Table, shape: tuple[int, ...], place: str) -> int:
    """Return how many values a sparse tensor stores.

    Parameters
    ----------
    sparsity
        A SparsityParameters table.
    shape
        The dense shape.
    place
        Name of the tensor for messages.

    Raises
    ------
    ModelFormatError
        When order, blocks, segments or indices do not describe a tensor of this shape.
    """

    def fail(problem: str) -> ModelFormatError:
        return ModelFormatError(f"{place}.sparsity: {problem}")

    rank = len(shape)
    order = sparsity.vector("traversal_order")
    block_map = sparsity.vector("block_map")
    levels = sparsity.tables("dim_metadata")
    if len(order) != rank + len(block_map) or len(levels) != len(order):
        raise fail(f"expected {rank} axes and {len(block_map)} blocks, got {len(order)} levels")
    if sorted(order[:rank]) != list(range(rank)) or sorted(order) != list(range(len(order))):
        raise fail(f"expected a permutation that ends with the blocks, got {list(order)}")
    if len(set(block_map)) != len(block_map) or any(not 0 <= b < rank for b in block_map):
        raise fail(f"expected distinct axes below {rank} in block_map, got {list(block_map)}")
    extents = list(shape) + [0] * len(block_map)
    for level, axis in zip(levels[rank:], order[rank:], strict=True):
        block = level.scalar("dense_size")
        whole = shape[block_map[axis - rank]]
        if level.scalar("format") != 0 or block < 1 or whole % block:
            raise fail(f"expected dense blocks that divide {whole}, got {block}")
        extents[axis] = block
        extents[block_map[axis - rank]] = whole // block
    total = 1
    for level, axis in zip(levels, order, strict=True):
        extent = extents[axis]
        if level.scalar("format") == 0:
            if level.scalar("dense_size") != extent:
                raise fail(f"expected dense_size {extent}, got {level.scalar('dense_size')}")
            total *= extent
            continue
        if level.scalar("format") != 1:
            raise fail(f"expected format 0 or 1, got {level.scalar('format')}")
        segments, indices = (_values(level, f) for f in ("array_segments", "array_indices"))
        if (
            segments.size != total + 1
            or segments[0] != 0
            or segments[-1] != indices.size
            or (np.diff(segments) < 0).any()
        ):
            raise fail(f"expected {total + 1} segments that grow from 0 to {indices.size}")
        if indices.size and not 0 <= indices.min() <= indices.max() < extent:
            raise fail(f"expected indices from 0 to {extent - 1}, got others")
        total = indices.size
    return total


def _values(level: Table, field: str) -> npt.NDArray[np.int64]:
    vector = level.table(field)
    return np.empty(0, np.int64) if vector is None else vector.array("values").astype(np.int64)
