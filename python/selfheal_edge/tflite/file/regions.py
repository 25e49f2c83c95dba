"""Which bytes of the file are whose: a partition of the file into regions."""

from __future__ import annotations

from typing import Final

from selfheal_edge.tflite.format.operators import operator_known_as
from selfheal_edge.tflite.format.records import (
    DecodedModel,
    OperatorInfo,
    Region,
    RegionKind,
    RegionUse,
    TensorInfo,
)

__all__ = ["file_regions"]

_PRIORITY: Final[dict[RegionKind, int]] = {"weights": 2, "bias": 1, "other": 0, "graph": -1}


def _kind(operator: OperatorInfo, position: int, tensor: TensorInfo) -> RegionKind:
    known = operator_known_as(operator.name)
    if position in known.bias:
        return "bias"
    if known.weights:
        return "weights" if position in known.weights else "other"
    if known.weights is not None or tensor.dtype in ("string", "bool", "int32", "int64"):
        return "other"
    return "weights"


def file_regions(model: DecodedModel, nbytes: int) -> tuple[Region, ...]:
    """Partition a file into its constants and, between them, its graph.

    Parameters
    ----------
    model
        A validated model: two constants are either the same bytes or do not overlap.
    nbytes
        Size of the file.

    Returns
    -------
    tuple of Region
        In the order of their offsets, without gap or overlap. Bytes that several buffers or
        tensors share are one region. What lies between constants is of kind ``"graph"``: tables,
        names, quantisation parameters, padding.
    """
    names: dict[tuple[int, int], str] = {}
    kinds: dict[tuple[int, int], RegionKind] = {}
    uses: dict[tuple[int, int], list[RegionUse]] = {}
    modules: dict[tuple[int, int], dict[str, None]] = {}
    for number, graph in enumerate(model.subgraphs):
        readers: dict[int, list[tuple[OperatorInfo, int]]] = {}
        for operator in graph.operators:
            for position, index in enumerate(operator.inputs):
                readers.setdefault(index, []).append((operator, position))
        for tensor in graph.tensors:
            if tensor.offset is None or tensor.nbytes is None:
                continue
            span = (tensor.offset, tensor.nbytes)
            names.setdefault(span, f"{number}/{tensor.index}/{tensor.name}")
            kinds.setdefault(span, "other")
            found = uses.setdefault(span, [])
            mine = modules.setdefault(span, {})
            for operator, position in readers.get(tensor.index, ()):
                kind = _kind(operator, position, tensor)
                kinds[span] = max(kinds[span], kind, key=_PRIORITY.__getitem__)
                found.append(RegionUse(number, tensor.index, operator.index))
                mine[operator.module] = None
            if tensor.index not in readers:
                found.append(RegionUse(number, tensor.index, None))
    for index, data in enumerate(model.buffers):
        if data is not None:
            names.setdefault(data, f"buffer/{index}")
    regions: list[Region] = []
    end = 0
    gaps = 0
    for span in sorted(names):
        if span[0] > end:
            regions.append(_graph(gaps, end, span[0]))
            gaps += 1
        regions.append(
            Region(
                name=names[span],
                modules=tuple(modules.get(span, ())),
                offset=span[0],
                nbytes=span[1],
                kind=kinds.get(span, "other"),
                uses=tuple(uses.get(span, ())),
            )
        )
        end = span[0] + span[1]
    if end < nbytes:
        regions.append(_graph(gaps, end, nbytes))
    return tuple(regions)


def _graph(number: int, start: int, end: int) -> Region:
    return Region(f"graph/{number}", (), start, end - start, "graph", ())
