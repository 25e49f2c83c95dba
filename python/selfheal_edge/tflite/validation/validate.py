"""Full structural validation of a model file, before any runtime sees it.

The order: identifier, every offset (`flatbuffer.verify`), indices and enums (`decode`), tensors,
graph, operators. What this cannot promise is that a runtime survives the file: kernels have
conditions of their own. For that there is `selfheal_edge.tflite.sandbox.probe`.
"""

from __future__ import annotations

from itertools import pairwise

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format import flatbuffer
from selfheal_edge.tflite.format.decode import decode
from selfheal_edge.tflite.format.records import DecodedModel
from selfheal_edge.tflite.format.schema import FILE_IDENTIFIER, TFLITE
from selfheal_edge.tflite.validation.graph_rules import check_graph, check_subgraph_references
from selfheal_edge.tflite.validation.tensor_rules import check_tensors

__all__ = ["validate"]


def validate(data: bytes) -> DecodedModel:
    """Check everything that can be checked without running the model, and decode it.

    Raises
    ------
    ModelFormatError
        With the place, what was expected and what was found.
    """
    if not data:
        raise ModelFormatError("expected a TFLite file, got no bytes at all")
    if len(data) < 16 or data[4:8] != FILE_IDENTIFIER:
        raise ModelFormatError(
            f"expected a TFLite file ('TFL3' at byte 4), got {len(data)} bytes that begin with "
            f"{data[:8]!r}"
        )
    flatbuffer.verify(data, TFLITE)
    model = decode(data)
    _check_constants_disjoint(model)
    tables = flatbuffer.root_table(data, TFLITE).tables("subgraphs")
    for graph, table in zip(model.subgraphs, tables, strict=True):
        check_tensors(data, graph, table)
    for number, graph in enumerate(model.subgraphs):
        check_graph(data, number, graph)
    check_subgraph_references(model)
    _check_signatures(model)
    return model


def _check_constants_disjoint(model: DecodedModel) -> None:
    spans = sorted({span for span in model.buffers if span is not None})
    for (start, nbytes), (after, _) in pairwise(spans):
        if start + nbytes > after:
            raise ModelFormatError(
                f"Model.buffers: expected buffers that do not overlap, got {nbytes} bytes at "
                f"{start} and another buffer at {after}"
            )


def _check_signatures(model: DecodedModel) -> None:
    for number, signature in enumerate(model.signatures):
        place = f"Model.signature_defs[{number}]"
        if signature.subgraph >= len(model.subgraphs):
            raise ModelFormatError(
                f"{place}.subgraph_index: expected less than {len(model.subgraphs)}, "
                f"got {signature.subgraph}"
            )
        graph = model.subgraphs[signature.subgraph]
        for what, names, allowed in (
            ("inputs", signature.inputs, graph.inputs),
            ("outputs", signature.outputs, graph.outputs),
        ):
            for name, index in names.items():
                if index not in allowed:
                    raise ModelFormatError(
                        f"{place}.{what}: expected {name!r} to be one of the subgraph's {what} "
                        f"{list(allowed)}, got tensor {index}"
                    )
