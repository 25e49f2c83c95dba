"""The catalogue of builtin operators: one row each, in the order of their codes.

A row is a name and what this package knows of the operator. Where a row is silent, nothing is
known, which is never an error: the runtime judges, and what the operator reads counts as derived.
Functions that a row names stand where they are needed (`validation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["OPERATORS", "UNKNOWN", "Operator", "operator_known_as"]


@dataclass(frozen=True, slots=True)
class Operator:
    """One row."""

    name: str
    fewest: int = 0
    most: int | None = None
    """Inputs that it takes; None: any number from `fewest` on."""
    gives: int | None = None
    """Results; None: any number."""
    absent: frozenset[int] = frozenset()
    """Inputs that may be left out, as -1. Kernels of all others take that for an index."""
    options: str | None = None
    """The options table without which its kernel has no sane behaviour."""
    calls: tuple[str, ...] = ()
    """Fields of the options that name subgraphs."""
    bias: frozenset[int] = frozenset()
    """Inputs that are biases."""
    weights: frozenset[int] | None = None
    """Inputs that may be weights; others are shapes, axes or indices. None: any of numbers."""
    in_place: frozenset[int] = frozenset()
    """Inputs that no kernel packs: every inference reads them as they lie in the file."""
    builtin_reads: frozenset[int] = frozenset()
    """Inputs that builtin kernels read from the file at every inference, while others pack them."""
    size: str = ""
    """How many elements its results have; a rule of `validation.result_sizes`."""
    mixes_batch: bool = False
    """Whether it may move elements between the first axis and others."""
    rule: str = ""
    """What else must hold; a rule of `validation.operator_rules`."""
    probabilities: bool = False
    """Whether it makes probabilities of scores."""
    keeps_classes: bool = False
    """Whether it keeps one value per class, and makes no probabilities."""
    unfolds: bool = False
    """Whether it unfolds weights that lie in the file in another form."""
    bounds: bool = False
    """Whether a single number becomes a bound when XNNPACK is built."""
    fuses_bounds: bool = False
    """Whether a single number of 8 bits becomes a parameter then, beside a fused activation."""


UNKNOWN: Final = Operator("")
"""An operator of which nothing is known."""

_TEXT: Final = """
    ADD takes=2 gives=1 in_place=0,1 size=broadcast fuses_bounds
    AVERAGE_POOL_2D takes=1 gives=1 options=Pool2DOptions size=pool rule=pool
    CONCATENATION takes=1- gives=1 options=ConcatenationOptions in_place=0-255 size=sum
        mixes_batch
    CONV_2D takes=2-3 gives=1 absent=2 options=Conv2DOptions bias=2 builtin_reads=1,2
        size=convolution rule=conv_2d
    DEPTHWISE_CONV_2D takes=2-3 gives=1 absent=2 options=DepthwiseConv2DOptions bias=2
        builtin_reads=1,2 size=depthwise rule=depthwise
    DEPTH_TO_SPACE takes=1 gives=1 options=DepthToSpaceOptions size=same
    DEQUANTIZE takes=1 gives=1 size=same keeps_classes unfolds
    EMBEDDING_LOOKUP takes=2 gives=1 weights=1 in_place=1
    FLOOR takes=1 gives=1 size=same
    FULLY_CONNECTED takes=2-3 absent=2 options=FullyConnectedOptions bias=2 builtin_reads=1,2
        size=fully_connected rule=fully_connected
    HASHTABLE_LOOKUP
    L2_NORMALIZATION takes=1 gives=1 size=same
    L2_POOL_2D takes=1 gives=1 options=Pool2DOptions size=pool rule=pool
    LOCAL_RESPONSE_NORMALIZATION takes=1 gives=1 size=same
    LOGISTIC takes=1 gives=1 size=same probabilities
    LSH_PROJECTION
    LSTM takes=5-24 absent=1,5,9-12,16,17,20-47 options=LSTMOptions bias=12-15,17
    MAX_POOL_2D takes=1 gives=1 options=Pool2DOptions size=pool rule=pool
    MUL takes=2 gives=1 in_place=0,1 size=broadcast fuses_bounds
    RELU takes=1 gives=1 size=same
    RELU_N1_TO_1 takes=1 gives=1 size=same
    RELU6 takes=1 gives=1 size=same
    RESHAPE takes=1-2 gives=1 weights=none size=same mixes_batch keeps_classes
    RESIZE_BILINEAR takes=2 gives=1 weights=none size=resize
    RNN takes=5 gives=1 bias=3
    SOFTMAX takes=1 gives=1 options=SoftmaxOptions size=same probabilities
    SPACE_TO_DEPTH takes=1 gives=1 options=SpaceToDepthOptions size=same
    SVDF takes=5 gives=1 absent=3 options=SVDFOptions bias=3 rule=svdf
    TANH takes=1 gives=1 size=same
    CONCAT_EMBEDDINGS
    SKIP_GRAM
    CALL options=CallOptions calls=subgraph
    CUSTOM absent=0-255
    EMBEDDING_LOOKUP_SPARSE
    PAD takes=2 gives=1 weights=none size=pad
    UNIDIRECTIONAL_SEQUENCE_RNN takes=5 gives=1 bias=3
    GATHER takes=2 gives=1 weights=0 in_place=0
    BATCH_TO_SPACE_ND takes=3 gives=1 weights=none
    SPACE_TO_BATCH_ND takes=3 gives=1 weights=none
    TRANSPOSE takes=2 gives=1 weights=none size=same mixes_batch
    MEAN takes=2 gives=1 weights=none size=reduce
    SUB takes=2 gives=1 in_place=0,1 size=broadcast fuses_bounds
    DIV takes=2 gives=1 in_place=0,1 size=broadcast fuses_bounds
    SQUEEZE takes=1 gives=1 weights=none size=same mixes_batch keeps_classes
    UNIDIRECTIONAL_SEQUENCE_LSTM takes=20-24 gives=1 absent=1,5,9-12,16,17,20-47
        options=UnidirectionalSequenceLSTMOptions bias=12-15,17 builtin_reads=1-11
    STRIDED_SLICE takes=4 gives=1 weights=none size=strided_slice mixes_batch
    BIDIRECTIONAL_SEQUENCE_RNN takes=12 absent=9-11 bias=3,7
    EXP takes=1 gives=1 size=same
    TOPK_V2 takes=2 gives=2 weights=none
    SPLIT takes=2 options=SplitOptions weights=none size=split mixes_batch
    LOG_SOFTMAX takes=1 gives=1 size=same keeps_classes
    DELEGATE
    BIDIRECTIONAL_SEQUENCE_LSTM takes=48 absent=1-47 options=BidirectionalSequenceLSTMOptions
        bias=12-15,17,29-32,34
    CAST takes=1 gives=1 size=same keeps_classes
    PRELU takes=2 gives=1 weights=1 in_place=1 size=same
    MAXIMUM takes=2 gives=1 in_place=0,1 size=broadcast bounds
    ARG_MAX takes=2 gives=1 weights=none
    MINIMUM takes=2 gives=1 in_place=0,1 size=broadcast bounds
    LESS takes=2 gives=1 size=broadcast
    NEG takes=1 gives=1 size=same
    PADV2 takes=3 gives=1 weights=none size=pad
    GREATER takes=2 gives=1 size=broadcast
    GREATER_EQUAL takes=2 gives=1 size=broadcast
    LESS_EQUAL takes=2 gives=1 size=broadcast
    SELECT takes=3 gives=1
    SLICE takes=3 gives=1 weights=none size=slice mixes_batch
    SIN takes=1 gives=1 size=same
    TRANSPOSE_CONV takes=3-4 gives=1 absent=3 options=TransposeConvOptions bias=3 weights=1
        size=given_shape mixes_batch rule=transpose_conv
    SPARSE_TO_DENSE takes=4 gives=1
    TILE takes=2 gives=1 weights=none
    EXPAND_DIMS takes=2 gives=1 weights=none size=same mixes_batch keeps_classes
    EQUAL takes=2 gives=1 size=broadcast
    NOT_EQUAL takes=2 gives=1 size=broadcast
    LOG takes=1 gives=1 size=same
    SUM takes=2 gives=1 weights=none size=reduce
    SQRT takes=1 gives=1 size=same
    RSQRT takes=1 gives=1 size=same
    SHAPE takes=1 gives=1 weights=none
    POW takes=2 gives=1 size=broadcast
    ARG_MIN takes=2 gives=1 weights=none
    FAKE_QUANT takes=1 gives=1 size=same
    REDUCE_PROD takes=2 gives=1 weights=none size=reduce
    REDUCE_MAX takes=2 gives=1 weights=none size=reduce
    PACK takes=1- gives=1 options=PackOptions size=sum mixes_batch
    LOGICAL_OR takes=2 gives=1 size=broadcast
    ONE_HOT takes=4 gives=1 weights=none
    LOGICAL_AND takes=2 gives=1 size=broadcast
    LOGICAL_NOT takes=1 gives=1 size=same
    UNPACK takes=1 options=UnpackOptions size=same mixes_batch
    REDUCE_MIN takes=2 gives=1 weights=none size=reduce
    FLOOR_DIV takes=2 gives=1 size=broadcast
    REDUCE_ANY takes=2 gives=1 weights=none size=reduce
    SQUARE takes=1 gives=1 size=same
    ZEROS_LIKE takes=1 gives=1 size=same
    FILL takes=2 gives=1 weights=none
    FLOOR_MOD takes=2 gives=1 size=broadcast
    RANGE takes=3 gives=1 weights=none
    RESIZE_NEAREST_NEIGHBOR takes=2 gives=1 weights=none size=resize
    LEAKY_RELU takes=1 gives=1 size=same
    SQUARED_DIFFERENCE takes=2 gives=1 in_place=0,1 size=broadcast
    MIRROR_PAD takes=2 gives=1 weights=none size=pad
    ABS takes=1 gives=1 size=same
    SPLIT_V takes=3 options=SplitVOptions weights=none size=split mixes_batch
    UNIQUE takes=1 gives=2
    CEIL takes=1 gives=1 size=same
    REVERSE_V2 takes=2 gives=1 weights=none size=same
    ADD_N takes=1- gives=1
    GATHER_ND takes=2 gives=1
    COS takes=1 gives=1 size=same
    WHERE takes=1 gives=1
    RANK takes=1 gives=1
    ELU takes=1 gives=1 size=same
    REVERSE_SEQUENCE takes=2 gives=1 size=same
    MATRIX_DIAG takes=1 gives=1
    QUANTIZE takes=1 gives=1 size=same keeps_classes
    MATRIX_SET_DIAG takes=2 gives=1
    ROUND takes=1 gives=1 size=same
    HARD_SWISH takes=1 gives=1 size=same
    IF takes=1- weights=none options=IfOptions calls=then_subgraph_index,else_subgraph_index
    WHILE takes=1- weights=none options=WhileOptions calls=cond_subgraph_index,body_subgraph_index
    NON_MAX_SUPPRESSION_V4 takes=5 gives=2
    NON_MAX_SUPPRESSION_V5 takes=6 gives=3
    SCATTER_ND takes=3 gives=1
    SELECT_V2 takes=3 gives=1 size=broadcast
    DENSIFY takes=1 gives=1 unfolds
    SEGMENT_SUM takes=2 gives=1
    BATCH_MATMUL takes=2 gives=1 size=matmul mixes_batch
    PLACEHOLDER_FOR_GREATER_OP_CODES
    CUMSUM takes=2 gives=1 weights=none size=same
    CALL_ONCE takes=0 gives=0 options=CallOnceOptions calls=init_subgraph_index
    BROADCAST_TO takes=2 gives=1 weights=none
    RFFT2D takes=2 gives=1
    CONV_3D takes=2-3 gives=1 absent=2 options=Conv3DOptions bias=2
    IMAG takes=1 gives=1
    REAL takes=1 gives=1
    COMPLEX_ABS takes=1 gives=1
    HASHTABLE takes=0 gives=1
    HASHTABLE_FIND takes=3 gives=1
    HASHTABLE_IMPORT takes=3 gives=0
    HASHTABLE_SIZE takes=1 gives=1
    REDUCE_ALL takes=2 gives=1 weights=none size=reduce
    CONV_3D_TRANSPOSE takes=3-4 gives=1 absent=3 options=Conv3DOptions bias=3 weights=1
    VAR_HANDLE takes=0 gives=1
    READ_VARIABLE takes=1 gives=1
    ASSIGN_VARIABLE takes=2 gives=0
    BROADCAST_ARGS takes=2 gives=1 weights=none
    RANDOM_STANDARD_NORMAL
    BUCKETIZE takes=1 gives=1
    RANDOM_UNIFORM
    MULTINOMIAL
    GELU takes=1 gives=1 size=same
    DYNAMIC_UPDATE_SLICE takes=3 gives=1 size=same mixes_batch
    RELU_0_TO_1 takes=1 gives=1 size=same
    UNSORTED_SEGMENT_PROD takes=3 gives=1
    UNSORTED_SEGMENT_MAX takes=3 gives=1
    UNSORTED_SEGMENT_SUM takes=3 gives=1
    ATAN2 takes=2 gives=1 size=broadcast
    UNSORTED_SEGMENT_MIN takes=3 gives=1
    SIGN takes=1 gives=1 size=same
    BITCAST takes=1 gives=1
    BITWISE_XOR takes=2 gives=1 size=broadcast
    RIGHT_SHIFT takes=2 gives=1 size=broadcast
    STABLEHLO_LOGISTIC
    STABLEHLO_ADD
    STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY
    STABLEHLO_MAXIMUM
    STABLEHLO_RESHAPE
    STABLEHLO_CLAMP
    STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM
    STABLEHLO_CONVOLUTION
    STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL options=StablehloCustomCallOptions calls=called_computations
    STABLEHLO_REDUCE options=StablehloReduceOptions calls=body_subgraph_index
    STABLEHLO_ABS
    STABLEHLO_AND
    STABLEHLO_COSINE
    STABLEHLO_EXPONENTIAL
    STABLEHLO_FLOOR
    STABLEHLO_LOG
    STABLEHLO_MINIMUM
    STABLEHLO_NEGATE
    STABLEHLO_OR
    STABLEHLO_POWER
    STABLEHLO_REMAINDER
    STABLEHLO_RSQRT
    STABLEHLO_SELECT
    STABLEHLO_SUBTRACT
    STABLEHLO_TANH
    STABLEHLO_SCATTER options=StablehloScatterOptions calls=update_computation_subgraph_index
    STABLEHLO_COMPARE
    STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE
    STABLEHLO_DYNAMIC_UPDATE_SLICE
    STABLEHLO_PAD
    STABLEHLO_IOTA
    STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW options=StablehloReduceWindowOptions calls=body_subgraph_index
    STABLEHLO_SORT options=StablehloSortOptions calls=comparator_subgraph_index
    STABLEHLO_WHILE options=StablehloWhileOptions calls=cond_subgraph_index,body_subgraph_index
    STABLEHLO_GATHER
    STABLEHLO_TRANSPOSE
    DILATE
    STABLEHLO_RNG_BIT_GENERATOR
    REDUCE_WINDOW
    STABLEHLO_COMPOSITE options=StableHLOCompositeOptions calls=decomposition_subgraph_index
    STABLEHLO_SHIFT_LEFT
    STABLEHLO_CBRT
    STABLEHLO_CASE options=StablehloCaseOptions calls=branch_subgraph_indices
"""
# takes=2-3: two or three inputs; takes=1-: one or more. in_place=0,1 are positions, 1-11 a range.


def _numbers(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first != "none":
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _read(key: str, value: str) -> dict[str, Any]:
    if key == "takes":
        first, dash, last = value.partition("-")
        return {"fewest": int(first), "most": int(last) if last else None if dash else int(first)}
    if key == "gives":
        return {"gives": int(value)}
    if key in ("absent", "bias", "weights", "in_place", "builtin_reads"):
        return {key: _numbers(value)}
    if key == "calls":
        return {"calls": tuple(value.split(","))}
    return {key: value or True}


def _parse(text: str) -> dict[str, Operator]:
    rows: dict[str, Operator] = {}
    for line in text.strip("\n").replace("\n        ", " ").splitlines():
        name, *items = line.split()
        known: dict[str, Any] = {}
        for item in items:
            key, _, value = item.partition("=")
            known |= _read(key, value)
        rows[name] = Operator(name, **known)
    return rows


OPERATORS: Final = _parse(_TEXT)
"""Rows by name; the position is the operator's code."""


def operator_known_as(name: str) -> Operator:
    """Return the row of an operator; `UNKNOWN` where there is none."""
    return OPERATORS.get(name, UNKNOWN)
