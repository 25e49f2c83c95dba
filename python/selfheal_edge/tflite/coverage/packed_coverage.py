"""Which regions of a model file run from the packed image of a compiled model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from selfheal_edge.tflite.coverage.packed_index import PackedBuffer, packed_for, unfolded
from selfheal_edge.tflite.coverage.table import Coverage, CoverageTable, RegionCoverage
from selfheal_edge.tflite.file.model_file import ModelFile
from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import OperatorInfo, Region, RegionUse, TensorInfo

__all__ = ["Witness", "cover_packed"]

_TABLES_KEPT: Final = 16
_IN_PLACE_DTYPES: Final = frozenset({"float32", "int8", "uint8"})
_tables: dict[tuple[str, tuple[PackedBuffer, ...], int], CoverageTable] = {}


def _is_taken_at_build(operator: OperatorInfo, number: TensorInfo) -> bool:
    """Whether XNNPACK copies a single number when it is built.

    That of a MINIMUM or MAXIMUM becomes a bound; that of arithmetic on 8 bits goes into the
    parameters of the kernel where the operator has bounds of its own.
    """
    has_bounds = bool(operator.options.get("fused_activation_function", 0))
    known = operator_known_as(operator.name)
    is_fused = known.fuses_bounds and has_bounds and number.dtype != "float32"
    return known.bounds or is_fused


class Witness(Protocol):
    """Answers by experiment what the index of a packed image does not tell."""

    def pack(self, source: bytes) -> bytes:
        """Return the image that these bytes are packed into."""
        ...

    def interpreted(self) -> CoverageTable:
        """Return the coverage that an interpreter with the same kernels has."""
        ...


def cover_packed(
    model: ModelFile, buffers: tuple[PackedBuffer, ...], num_threads: int, witness: Witness
) -> CoverageTable:
    """Return the coverage of every region, the worst of its uses.

    Parameters
    ----------
    model
        The map of the bytes that were compiled.
    buffers
        The index of the packed image.
    num_threads
        Threads it was compiled for: what is not packed may run otherwise with several.
    witness
        Asked only about weights that the index does not name: biases that some packings fold in
        without a mark of their own, and operands of operators that were not packed at all.

    Notes
    -----
    The answer depends on file, index and threads alone, so a rebuild finds it remembered.
    """
    key = (model.sha256, buffers, num_threads)
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
        self._origins = [unfolded(graph) for graph in model.subgraphs]
        self._packed = {
            (op.subgraph, op.index): [b for b, _ in packed_for(op, buffers, graph, origins)]
            for graph, origins in zip(model.subgraphs, self._origins, strict=True)
            for op in graph.operators
        }
        self._image: bytes | None = None
        self._interpreted: dict[str, RegionCoverage] | None = None

    def cover(self) -> list[RegionCoverage]:
        return [self._row(region) for region in self._model.regions]

    def _row(self, region: Region) -> RegionCoverage:
        used = self._uses(region)
        if not used:
            return RegionCoverage(region, Coverage.DERIVED, "read when the model is compiled")
        packed = [use for use in used if self._is_packed(use)]
        watched = all(use in packed or self._is_read_in_place(use) for use in used)
        # The index names buffers: of two subgraphs that share one, a single one may have packed it.
        if watched and len({use.subgraph for use in packed}) == 1:
            reason = "packed; the packed image is ours and is read at every inference"
            return RegionCoverage(region, Coverage.EXECUTING, reason, "packed")
        if region.kind not in ("weights", "bias"):
            return RegionCoverage(region, Coverage.DERIVED, "read when the model is compiled")
        if watched and not packed:
            reason = "not packed; read from the file at every inference"
            return RegionCoverage(region, Coverage.EXECUTING, reason)
        if self._is_folded(region, used):
            reason = "packed with its operator's weights, in the packed image that is ours"
            return RegionCoverage(region, Coverage.EXECUTING, reason, "packed")
        if self._interpreted is None:
            self._interpreted = {r.region.name: r for r in self._witness.interpreted().rows}
        return self._interpreted[region.name]

    def _uses(self, region: Region) -> list[RegionUse]:
        """Return the operators that compute with a region, through those that only unfold it."""
        pending = [use for use in region.uses if use.operator is not None]
        found = []
        while pending:
            use = pending.pop()
            graph = self._model.subgraphs[use.subgraph]
            operator = graph.operators[use.operator or 0]
            results = set(operator.outputs) & set(self._origins[use.subgraph])
            if not results or results & set(graph.outputs):
                found.append(use)
                continue
            readers = [op for op in graph.operators if results & set(op.inputs)]
            pending += [RegionUse(use.subgraph, use.tensor, op.index) for op in readers]
        return found

    def _packed_by(self, use: RegionUse) -> list[PackedBuffer]:
        return [] if use.operator is None else self._packed[use.subgraph, use.operator]

    def _is_packed(self, use: RegionUse) -> bool:
        buffer = self._model.tensor(use.tensor, use.subgraph).buffer
        return any(buffer in (b.weights, b.bias) for b in self._packed_by(use))

    def _is_read_in_place(self, use: RegionUse) -> bool:
        """Whether builtin kernels and XNNPACK alike read this operand where it lies."""
        operator = self._model.subgraphs[use.subgraph].operators[use.operator or 0]
        tensor = self._model.tensor(use.tensor, use.subgraph)
        if tensor.dtype not in _IN_PLACE_DTYPES:
            return False
        if tensor.size == 1 and _is_taken_at_build(operator, tensor):
            return False
        places = [place for place, i in enumerate(operator.inputs) if i == use.tensor]
        readable = operator_known_as(operator.name).in_place
        return bool(places) and all(place in readable for place in places)

    def _is_folded(self, region: Region, used: Sequence[RegionUse]) -> bool:
        """Whether packing changed bytes of this region changes what its operators run on."""
        own = [self._packed_by(use) for use in set(used)]
        if not all(own) or len({use.subgraph for use in used}) != 1:
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
