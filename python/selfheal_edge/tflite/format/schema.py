"""The TFLite schema (version 3) as data: tables, unions, enums and operator names.

A table is one string, its fields in the order of their ids. A field is ``name:type`` with an
optional default: ``i1 i2 i4 i8 u1 … f4 b1`` are scalars with their bytes, ``str`` is a string,
``[x]`` a vector of scalars or of tables, a capital letter begins a table's name, and ``<X>`` is a
union, which takes two ids: its type (read as ``name_type``), then its value.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from selfheal_edge.tflite.format import schema_options as _options
from selfheal_edge.tflite.format.flatbuffer import Schema
from selfheal_edge.tflite.format.operators import OPERATORS

__all__ = [
    "BUILTIN_OPERATORS",
    "FILE_IDENTIFIER",
    "MODEL_VERSION",
    "TABLES",
    "TENSOR_TYPES",
    "TFLITE",
    "UNIONS",
    "TensorType",
]

FILE_IDENTIFIER: Final = b"TFL3"
MODEL_VERSION: Final = 3


class TensorType(NamedTuple):
    """An element type: name in the schema, NumPy-like name, bits (0: no fixed size)."""

    name: str
    dtype: str
    bits: int


def tensor_type(code: int) -> TensorType:
    """Return the type of this code; of one that is newer than this table, what is known of it."""
    if code < len(TENSOR_TYPES):
        return TENSOR_TYPES[code]
    return TensorType(f"UNKNOWN_{code}", f"unknown_{code}", 0)


def operator_name(code: int) -> str:
    """Return the name of a builtin operator; one that is newer than this table gets a number."""
    return BUILTIN_OPERATORS[code] if code < len(BUILTIN_OPERATORS) else f"UNKNOWN_{code}"


TENSOR_TYPES: Final = (
    TensorType("FLOAT32", "float32", 32),
    TensorType("FLOAT16", "float16", 16),
    TensorType("INT32", "int32", 32),
    TensorType("UINT8", "uint8", 8),
    TensorType("INT64", "int64", 64),
    TensorType("STRING", "string", 0),
    TensorType("BOOL", "bool", 8),
    TensorType("INT16", "int16", 16),
    TensorType("COMPLEX64", "complex64", 64),
    TensorType("INT8", "int8", 8),
    TensorType("FLOAT64", "float64", 64),
    TensorType("COMPLEX128", "complex128", 128),
    TensorType("UINT64", "uint64", 64),
    TensorType("RESOURCE", "resource", 0),
    TensorType("VARIANT", "variant", 0),
    TensorType("UINT32", "uint32", 32),
    TensorType("UINT16", "uint16", 16),
    TensorType("INT4", "int4", 4),
    TensorType("BFLOAT16", "bfloat16", 16),
    TensorType("INT2", "int2", 2),
    TensorType("UINT4", "uint4", 4),
    TensorType("FLOAT8_E4M3FN", "float8_e4m3fn", 8),
    TensorType("FLOAT8_E5M2", "float8_e5m2", 8),
)

BUILTIN_OPERATORS: Final = tuple(OPERATORS)
"""Names of the builtin operators; the index is the code."""

UNIONS: Final[dict[str, tuple[str, ...]]] = {
    "QuantizationDetails": (
        "CustomQuantization",
        "BlockwiseQuantization",
        "MultiAxisQuantization",
    ),
    "SparseIndexVector": ("Int32Vector", "Uint16Vector", "Uint8Vector"),
    "BuiltinOptions": _options.BUILTIN_OPTIONS,
    "BuiltinOptions2": _options.BUILTIN_OPTIONS_2,
}
"""Members of each union; member i has the type number i + 1, and 0 is "none"."""

TABLES: Final[dict[str, str]] = {
    "Model": "version:u4 operator_codes:[OperatorCode] subgraphs:[SubGraph] description:str "
    "buffers:[Buffer] metadata_buffer:[i4] metadata:[Metadata] signature_defs:[SignatureDef] "
    "external_buffer_groups:[ExternalBufferGroup] external_buffers:[ExternalBuffer]",
    "OperatorCode": "deprecated_builtin_code:i1 custom_code:str version:i4=1 builtin_code:i4",
    "SubGraph": "tensors:[Tensor] inputs:[i4] outputs:[i4] operators:[Operator] name:str "
    "debug_metadata_index:i4=-1",
    "Tensor": "shape:[i4] type:i1 buffer:u4 name:str quantization:QuantizationParameters "
    "is_variable:b1 sparsity:SparsityParameters shape_signature:[i4] has_rank:b1 "
    "variant_tensors:[VariantSubType] external_buffer:u4",
    "QuantizationParameters": "min:[f4] max:[f4] scale:[f4] zero_point:[i8] "
    "details:<QuantizationDetails> quantized_dimension:i4",
    "CustomQuantization": "custom:[u1]",
    "BlockwiseQuantization": "scales:i4 zero_points:i4 block_size:i4 block_shape:[i4]",
    "MultiAxisQuantization": "scales:i4 zero_points:i4 block_size:i4 quantized_dimensions:[i4]",
    "SparsityParameters": "traversal_order:[i4] block_map:[i4] dim_metadata:[DimensionMetadata]",
    "DimensionMetadata": "format:i1 dense_size:i4 array_segments:<SparseIndexVector> "
    "array_indices:<SparseIndexVector>",
    "Int32Vector": "values:[i4]",
    "Uint16Vector": "values:[u2]",
    "Uint8Vector": "values:[u1]",
    "VariantSubType": "shape:[i4] type:i1 has_rank:b1",
    "Operator": "opcode_index:u4 inputs:[i4] outputs:[i4] builtin_options:<BuiltinOptions> "
    "custom_options:[u1] custom_options_format:i1 mutating_variable_inputs:[b1] "
    "intermediates:[i4] large_custom_options_offset:u8 large_custom_options_size:u8 "
    "builtin_options_2:<BuiltinOptions2> debug_metadata_index:i4=-1",
    "Buffer": "data:[u1] offset:u8 size:u8",
    "ExternalBufferGroup": "name:str",
    "ExternalBuffer": "id:u4 group:u4 offset:u8 length:u8 packing:str",
    "Metadata": "name:str buffer:u4",
    "TensorMap": "name:str tensor_index:u4",
    "SignatureDef": "inputs:[TensorMap] outputs:[TensorMap] signature_key:str "
    "deprecated_tag:str subgraph_index:u4",
    **_options.OPTION_TABLES,
}

TFLITE: Final = Schema(TABLES, UNIONS, "Model")
