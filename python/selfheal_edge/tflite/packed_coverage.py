"""Which regions of a model file run from the packed image of a compiled model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from selfheal_edge.tflite.model_file import ModelFile
from selfheal_edge.tflite.packed_index import PackedBuffer
from selfheal_edge.tflite.protocol import Coverage, CoverageTable, RegionCoverage
from selfheal_edge.tflite.records import OperatorInfo, Region, RegionUse

__all__ = ["Witness", "cover_packed", "packed_for"]

_TABLES_KEPT: Final = 16
_tables: dict[tuple[str, tuple[PackedBuffer, ...]], CoverageTable] = {}


class Witness(Protocol):
    """Answers by experiment what the index of a packed image does not tell."""

    def pack(self, source: bytes) -> bytes:
        """Return the image that these bytes are packed into."""
        ...

    def interpreted(self) -> CoverageTable:
        """Return the coverage that an interpreter with the same kernels has."""
        ...


def packed_for(
    operator: OperatorInfo, buffers: Sequence[PackedBuffer], model: ModelFile
) -> list[PackedBuffer]:
    """Return the packed stretches that an operator runs on."""
    tensors = model.subgraphs[operator.subgraph].tensors
    given = {tensors[i].buffer for i in operator.inputs if i >= 0}
    return [b for b in buffers if b.weights in given and (b.bias is None or b.bias in given)]


def cover_packed(
    model: ModelFile, buffers: tuple[PackedBuffer, ...], witness: Witness
) -> CoverageTable:
    """Return the coverage of every region, the worst of its uses.

    Parameters
    ----------
    model
        The map of the bytes that were compiled.
    buffers
        The index of the packed image.
    witness
        Asked only about weights that the index does not name: biases that some packings fold in
        without a mark of their own, and operands of operators that were not packed at all.

    Notes
    -----
    The answer depends on file and index alone, so a rebuild finds it remembered.
    """
    key = (model.sha256, buffers)
    table = _tables.get(key)
    if table is None:
        table = CoverageTable(tuple(_Rows(model, buffers, witness).cover()))
        while len(_tables) >= _TABLES_KEPT:
            del _tables[next(iter(_tables))]
        _tables[key] = table
    return table


class _Rows:
    def __init__(
        self, model: ModelFile, buffers: tuple[PackedBuffer, ...], witness: Witness
    ) -> None:
        self._model = model
        self._witness = witness
        self._packed = {
            (op.subgraph, op.index): packed_for(op, buffers, model) for op in model.operators
        }
        self._image: bytes | None = None
        self._interpreted: dict[str, RegionCoverage] | None = None

    def cover(self) -> list[RegionCoverage]:
        return [self._row(region) for region in self._model.regions]

    def _row(self, region: Region) -> RegionCoverage:
        used = [use for use in region.uses if use.operator is not None]
        if not used:
            return RegionCoverage(region, Coverage.DERIVED, "read when the model is compiled")
        # The index names buffers: of two subgraphs that share one, a single one may have packed it.
        named = len({use.subgraph for use in used}) == 1
        for use in used:
            buffer = self._model.tensor(use.tensor, use.subgraph).buffer
            own = self._packed_by(use)
            named &= any(buffer in (b.weights, b.bias) for b in own)
        if named:
            reason = "packed; the packed image is ours and is read at every inference"
            return RegionCoverage(region, Coverage.EXECUTING, reason, "packed")
        if region.kind not in ("weights", "bias"):
            return RegionCoverage(region, Coverage.DERIVED, "read when the model is compiled")
        if self._is_folded(region):
            reason = "packed with its operator's weights, in the packed image that is ours"
            return RegionCoverage(region, Coverage.EXECUTING, reason, "packed")
        if self._interpreted is None:
            self._interpreted = {r.region.name: r for r in self._witness.interpreted().rows}
        return self._interpreted[region.name]

    def _packed_by(self, use: RegionUse) -> list[PackedBuffer]:
        return [] if use.operator is None else self._packed[use.subgraph, use.operator]

    def _is_folded(self, region: Region) -> bool:
        """Whether packing changed bytes of this region changes what its operators run on."""
        used = {(u.subgraph, u.operator): u for u in region.uses if u.operator is not None}
        own = [self._packed_by(use) for use in used.values()]
        if not all(own) or len({subgraph for subgraph, _ in used}) != 1:
            return False
        data = self._model.data
        if self._image is None:
            self._image = self._witness.pack(data)
        changed = bytearray(data)
        span = np.frombuffer(changed, np.uint8)[region.offset : region.offset + region.nbytes]
        span ^= 1
        image = self._witness.pack(bytes(changed))
        if len(image) != len(self._image):
            return False
        differs = np.frombuffer(image, np.uint8) != np.frombuffer(self._image, np.uint8)
        inside = [any(differs[b.offset : b.offset + b.nbytes].any() for b in mine) for mine in own]
        total = sum(
            int(differs[b.offset : b.offset + b.nbytes].sum()) for b in {b for m in own for b in m}
        )
        return all(inside) and total == int(differs.sum())
