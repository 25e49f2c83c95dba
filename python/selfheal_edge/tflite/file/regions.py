"""Which bytes of the file are whose: a partition of the file into regions."""

# ruff: noqa: SIM905 — names as text stay short

from __future__ import annotations

from typing import Final

from selfheal_edge.tflite.format.records import (
    DecodedModel,
    OperatorInfo,
    Region,
    RegionKind,
    RegionUse,
    TensorInfo,
)

__all__ = ["file_regions"]

_BIAS_INPUTS: Final[dict[str, tuple[int, ...]]] = {
    "CONV_2D": (2,),
    "DEPTHWISE_CONV_2D": (2,),
    "FULLY_CONNECTED": (2,),
    "CONV_3D": (2,),
    "CONV_3D_TRANSPOSE": (3,),
    "TRANSPOSE_CONV": (3,),
    "SVDF": (3,),
    "RNN": (3,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (3,),
    "BIDIRECTIONAL_SEQUENCE_RNN": (3, 7),
    "LSTM": (12, 13, 14, 15, 17),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (12, 13, 14, 15, 17),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (12, 13, 14, 15, 17, 29, 30, 31, 32, 34),
}
_PARAMETER_INPUTS: Final[dict[str, tuple[int, ...]]] = {
    # Inputs beyond these are shapes, axes or indices, whatever their type.
    "TRANSPOSE_CONV": (1,),
    "CONV_3D_TRANSPOSE": (1,),
    "GATHER": (0,),
    "EMBEDDING_LOOKUP": (1,),
    "PRELU": (1,),
}
_NOT_PARAMETERS: Final = frozenset(
    """
    RESHAPE PAD PADV2 MIRROR_PAD MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL
    TRANSPOSE STRIDED_SLICE SLICE SPLIT SPLIT_V TILE EXPAND_DIMS RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR ARG_MAX ARG_MIN TOPK_V2 SHAPE FILL RANGE ONE_HOT REVERSE_V2 CUMSUM
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND BROADCAST_TO BROADCAST_ARGS SQUEEZE IF WHILE
    """.split()
)
_PRIORITY: Final[dict[RegionKind, int]] = {"weights": 2, "bias": 1, "other": 0, "graph": -1}


def _kind(operator: OperatorInfo, position: int, tensor: TensorInfo) -> RegionKind:
    if position in _BIAS_INPUTS.get(operator.name, ()):
        return "bias"
    if operator.name in _PARAMETER_INPUTS:
        return "weights" if position in _PARAMETER_INPUTS[operator.name] else "other"
    if operator.name in _NOT_PARAMETERS or tensor.dtype in ("string", "bool", "int32", "int64"):
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
