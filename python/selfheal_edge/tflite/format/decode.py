"""From a verified flatbuffer to records: indices into buffers and operator codes are resolved."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from selfheal_edge.errors import ModelFormatError
from selfheal_edge.tflite.format import flatbuffer
from selfheal_edge.tflite.format.flatbuffer import Table
from selfheal_edge.tflite.format.records import (
    DecodedModel,
    DecodedSubgraph,
    OperatorInfo,
    Signature,
    TensorInfo,
)
from selfheal_edge.tflite.format.schema import (
    BUILTIN_OPERATORS,
    MODEL_VERSION,
    TFLITE,
    operator_name,
    tensor_type,
)

__all__ = ["decode"]

MAX_RANK: Final = 16
_PLACEHOLDER: Final = BUILTIN_OPERATORS.index("PLACEHOLDER_FOR_GREATER_OP_CODES")
_CUSTOM: Final = BUILTIN_OPERATORS.index("CUSTOM")
_NO_OPTIONS: Final[MappingProxyType[str, Any]] = MappingProxyType({})


def decode(data: bytes) -> DecodedModel:
    """Read a buffer that `flatbuffer.verify` has accepted.

    Raises
    ------
    ModelFormatError
        When an index into buffers, operator codes or types is out of range, or data that is
        stored outside of the flatbuffer lies outside of the file.
    """
    root = flatbuffer.root_table(data, TFLITE)
    version = root.scalar("version")
    if version != MODEL_VERSION:
        raise ModelFormatError(f"Model.version: expected {MODEL_VERSION}, got {version}")
    buffers = _buffers(data, root)
    codes = [_operator_code(i, t) for i, t in enumerate(root.tables("operator_codes"))]
    subgraphs = root.tables("subgraphs")
    if not subgraphs:
        raise ModelFormatError("Model.subgraphs: expected at least one subgraph, got none")
    metadata = {}
    for number, entry in enumerate(root.tables("metadata")):
        index = entry.scalar("buffer")
        if index >= len(buffers):
            raise ModelFormatError(
                f"Model.metadata[{number}].buffer: expected less than {len(buffers)}, got {index}"
            )
        metadata[entry.string("name") or ""] = index
    return DecodedModel(
        version=version,
        description=root.string("description") or "",
        buffers=buffers,
        subgraphs=tuple(_subgraph(i, t, buffers, codes) for i, t in enumerate(subgraphs)),
        signatures=tuple(_signature(t) for t in root.tables("signature_defs")),
        metadata=MappingProxyType(metadata),
    )


def _buffers(data: bytes, root: Table) -> tuple[tuple[int, int] | None, ...]:
    if root.tables("external_buffers") or root.tables("external_buffer_groups"):
        raise ModelFormatError("Model.external_buffers: weights in other files are not supported")
    spans: list[tuple[int, int] | None] = []
    for index, table in enumerate(root.tables("buffers")):
        inline = table.span("data")
        if inline and inline[1]:
            spans.append(inline)
            continue
        offset, size = table.scalar("offset"), table.scalar("size")
        # By the schema's own rule an offset is real only above 1; 0 and 1 are placeholders.
        if offset > 1 and size:
            if offset + size > len(data):
                raise ModelFormatError(
                    f"Model.buffers[{index}]: expected data inside the file's {len(data)} bytes, "
                    f"got {size} bytes at offset {offset}"
                )
            spans.append((offset, size))
        else:
            spans.append(None)
    return tuple(spans)


def _operator_code(index: int, table: Table) -> tuple[str, str | None, int]:
    # Files older than code 127 hold it in the byte; newer ones hold the larger of both.
    code = max(table.scalar("deprecated_builtin_code"), table.scalar("builtin_code"))
    place = f"Model.operator_codes[{index}]"
    if code < 0 or code == _PLACEHOLDER:
        raise ModelFormatError(f"{place}: expected the code of a builtin operator, got {code}")
    custom = table.string("custom_code")
    if code == _CUSTOM and not custom:
        raise ModelFormatError(f"{place}.custom_code: expected a custom operator's name, got none")
    return operator_name(code), custom if code == _CUSTOM else None, table.scalar("version")


def _subgraph(
    number: int,
    table: Table,
    buffers: tuple[tuple[int, int] | None, ...],
    codes: list[tuple[str, str | None, int]],
) -> DecodedSubgraph:
    tensors = tuple(_tensor(number, i, t, buffers) for i, t in enumerate(table.tables("tensors")))
    return DecodedSubgraph(
        name=table.string("name") or "",
        tensors=tensors,
        operators=tuple(
            _operator(number, i, t, codes, tensors) for i, t in enumerate(table.tables("operators"))
        ),
        inputs=table.vector("inputs"),
        outputs=table.vector("outputs"),
    )


def _tensor(
    subgraph: int, index: int, table: Table, buffers: tuple[tuple[int, int] | None, ...]
) -> TensorInfo:
    place = f"Model.subgraphs[{subgraph}].tensors[{index}]"
    code = table.scalar("type")
    if code < 0:
        raise ModelFormatError(f"{place}.type: expected at least 0, got {code}")
    buffer = table.scalar("buffer")
    if buffer >= max(len(buffers), 1):  # 0 means "no data" even where there are no buffers
        raise ModelFormatError(f"{place}.buffer: expected less than {len(buffers)}, got {buffer}")
    if table.scalar("external_buffer"):
        raise ModelFormatError(f"{place}.external_buffer: weights in other files are not supported")
    rank = max((table.span(f) or (0, 0))[1] for f in ("shape", "shape_signature"))
    if rank > MAX_RANK:
        raise ModelFormatError(f"{place}.shape: expected at most {MAX_RANK} axes, got {rank}")
    kind = tensor_type(code)
    data = buffers[buffer] if buffers else None
    params = table.table("quantization") or _NoQuantization(table)
    scales, zeros = params.span("scale"), params.span("zero_point")
    return TensorInfo(
        subgraph=subgraph,
        index=index,
        name=table.string("name") or "",
        shape=table.vector("shape"),
        dtype=kind.dtype,
        type=kind.name,
        bits=kind.bits,
        buffer=buffer,
        offset=data[0] if data else None,
        nbytes=data[1] if data else None,
        scales=params.array("scale"),
        zero_points=params.array("zero_point"),
        quantized_dimension=params.scalar("quantized_dimension"),
        scales_offset=scales[0] if scales and scales[1] else None,
        zero_points_offset=zeros[0] if zeros and zeros[1] else None,
        is_variable=bool(table.scalar("is_variable")),
        is_sparse=table.table("sparsity") is not None,
        shape_signature=table.vector("shape_signature"),
    )


class _NoQuantization(Table):
    """Stands for an absent QuantizationParameters table: every field absent."""

    __slots__ = ()

    def __init__(self, owner: Table) -> None:
        super().__init__(owner.data, owner.pos, owner.schema, "QuantizationParameters")

    def position(self, field: str) -> int | None:  # noqa: ARG002 — same face as Table
        return None


def _operator(
    subgraph: int,
    index: int,
    table: Table,
    codes: list[tuple[str, str | None, int]],
    tensors: tuple[TensorInfo, ...],
) -> OperatorInfo:
    place = f"Model.subgraphs[{subgraph}].operators[{index}]"
    code = table.scalar("opcode_index")
    if code >= len(codes):
        raise ModelFormatError(f"{place}.opcode_index: expected less than {len(codes)}, got {code}")
    if table.scalar("large_custom_options_offset") > 1:
        start = table.scalar("large_custom_options_offset")
        size = table.scalar("large_custom_options_size")
        if start + size > len(table.data):
            raise ModelFormatError(
                f"{place}.large_custom_options_offset: expected to end inside the file, "
                f"got {size} bytes at {start}"
            )
    name, custom, version = codes[code]
    outputs = table.vector("outputs")
    first = outputs[0] if outputs else -1
    label = tensors[first].name if 0 <= first < len(tensors) else ""
    options = table.table("builtin_options") or table.table("builtin_options_2")
    return OperatorInfo(
        subgraph=subgraph,
        index=index,
        name=name,
        custom_code=custom,
        version=version,
        inputs=table.vector("inputs"),
        outputs=outputs,
        intermediates=table.vector("intermediates"),
        module=f"{subgraph}/{index}/{label}",
        options_type=options.name if options else None,
        options=MappingProxyType(_options(options)) if options else _NO_OPTIONS,
    )


def _options(table: Table) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in table.fields.values():
        if field.kind == flatbuffer.SCALAR:
            values[field.name] = table.scalar(field.name)
        elif field.kind == flatbuffer.VECTOR:
            values[field.name] = table.vector(field.name)
        elif field.kind == flatbuffer.STRING:
            values[field.name] = table.string(field.name)
    return values


def _signature(table: Table) -> Signature:
    def names(field: str) -> MappingProxyType[str, int]:
        return MappingProxyType(
            {t.string("name") or "": t.scalar("tensor_index") for t in table.tables(field)}
        )

    return Signature(
        key=table.string("signature_key") or "",
        subgraph=table.scalar("subgraph_index"),
        inputs=names("inputs"),
        outputs=names("outputs"),
    )
