"""The part of the schema that grows: builtin operators and their options tables."""

# ruff: noqa: SIM905 — a list literal of 350 names is three screens; this is one.

from __future__ import annotations

from typing import Final

BUILTIN_OPTIONS: Final = tuple(
    name + "Options"
    for name in """
    Conv2D DepthwiseConv2D ConcatEmbeddings LSHProjection Pool2D SVDF RNN FullyConnected Softmax
    Concatenation Add L2Norm LocalResponseNormalization LSTM ResizeBilinear Call Reshape SkipGram
    SpaceToDepth EmbeddingLookupSparse Mul Pad Gather BatchToSpaceND SpaceToBatchND Transpose
    Reducer Sub Div Squeeze SequenceRNN StridedSlice Exp TopKV2 Split LogSoftmax Cast Dequantize
    MaximumMinimum ArgMax Less Neg PadV2 Greater GreaterEqual LessEqual Select Slice TransposeConv
    SparseToDense Tile ExpandDims Equal NotEqual Shape Pow ArgMin FakeQuant Pack LogicalOr OneHot
    LogicalAnd LogicalNot Unpack FloorDiv Square ZerosLike Fill BidirectionalSequenceLSTM
    BidirectionalSequenceRNN UnidirectionalSequenceLSTM FloorMod Range ResizeNearestNeighbor
    LeakyRelu SquaredDifference MirrorPad Abs SplitV Unique ReverseV2 AddN GatherNd Cos Where Rank
    ReverseSequence MatrixDiag Quantize MatrixSetDiag HardSwish If While DepthToSpace
    NonMaxSuppressionV4 NonMaxSuppressionV5 ScatterNd SelectV2 Densify SegmentSum BatchMatMul Cumsum
    CallOnce BroadcastTo Rfft2d Conv3D Hashtable HashtableFind HashtableImport HashtableSize
    VarHandle ReadVariable AssignVariable Random Bucketize Gelu DynamicUpdateSlice
    UnsortedSegmentProd UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentSum ATan2 Sign Bitcast
    BitwiseXor RightShift
    """.split()
)

BUILTIN_OPTIONS_2: Final = tuple(
    name + "Options"
    for name in """
    StablehloConcatenate StablehloBroadcastInDim StablehloSlice StablehloConvolution
    StablehloCustomCall StablehloReduce StablehloScatter StablehloCompare StablehloDynamicSlice
    StablehloPad StablehloIota StablehloDotGeneral StablehloReduceWindow StablehloSort
    StablehloWhile StablehloGather StablehloTranspose Dilate StablehloRngBitGenerator ReduceWindow
    StableHLOComposite StablehloShiftLeft StablehloCase
    """.split()
)

_ACTIVATION = "fused_activation_function:i1"
_STRIDES = "padding:i1 stride_w:i4 stride_h:i4"
_DILATIONS = "dilation_w_factor:i4=1 dilation_h_factor:i4=1"

_WITH_FIELDS: Final[dict[str, str]] = {
    "Conv2DOptions": f"{_STRIDES} {_ACTIVATION} {_DILATIONS} quantized_bias_type:i1",
    "DepthwiseConv2DOptions": f"{_STRIDES} depth_multiplier:i4 {_ACTIVATION} {_DILATIONS}",
    "Conv3DOptions": f"padding:i1 stride_d:i4 stride_w:i4 stride_h:i4 {_ACTIVATION} "
    f"dilation_d_factor:i4=1 {_DILATIONS}",
    "Pool2DOptions": f"{_STRIDES} filter_width:i4 filter_height:i4 {_ACTIVATION}",
    "TransposeConvOptions": f"{_STRIDES} {_ACTIVATION} quantized_bias_type:i1",
    "ConcatEmbeddingsOptions": "num_channels:i4 num_columns_per_channel:[i4] "
    "embedding_dim_per_channel:[i4]",
    "LSHProjectionOptions": "type:i1",
    "SVDFOptions": f"rank:i4 {_ACTIVATION} asymmetric_quantize_inputs:b1",
    "RNNOptions": f"{_ACTIVATION} asymmetric_quantize_inputs:b1",
    "SequenceRNNOptions": f"time_major:b1 {_ACTIVATION} asymmetric_quantize_inputs:b1",
    "BidirectionalSequenceRNNOptions": f"time_major:b1 {_ACTIVATION} merge_outputs:b1 "
    "asymmetric_quantize_inputs:b1",
    "FullyConnectedOptions": f"{_ACTIVATION} weights_format:i1 keep_num_dims:b1 "
    "asymmetric_quantize_inputs:b1 quantized_bias_type:i1 quant_spec:[u1]",
    "SoftmaxOptions": "beta:f4",
    "ConcatenationOptions": f"axis:i4 {_ACTIVATION}",
    "AddOptions": f"{_ACTIVATION} pot_scale_int16:b1=1",
    "SubOptions": f"{_ACTIVATION} pot_scale_int16:b1=1",
    "MulOptions": _ACTIVATION,
    "DivOptions": _ACTIVATION,
    "L2NormOptions": _ACTIVATION,
    "LocalResponseNormalizationOptions": "radius:i4 bias:f4 alpha:f4 beta:f4",
    "LSTMOptions": f"{_ACTIVATION} cell_clip:f4 proj_clip:f4 kernel_type:i1 "
    "asymmetric_quantize_inputs:b1",
    "UnidirectionalSequenceLSTMOptions": f"{_ACTIVATION} cell_clip:f4 proj_clip:f4 time_major:b1 "
    "asymmetric_quantize_inputs:b1 diagonal_recurrent_tensors:b1",
    "BidirectionalSequenceLSTMOptions": f"{_ACTIVATION} cell_clip:f4 proj_clip:f4 "
    "merge_outputs:b1 time_major:b1=1 asymmetric_quantize_inputs:b1",
    "ResizeBilinearOptions": "new_height:i4 new_width:i4 align_corners:b1 half_pixel_centers:b1",
    "ResizeNearestNeighborOptions": "align_corners:b1 half_pixel_centers:b1",
    "CallOptions": "subgraph:u4",
    "ReshapeOptions": "new_shape:[i4]",
    "SkipGramOptions": "ngram_size:i4 max_skip_size:i4 include_all_ngrams:b1",
    "SpaceToDepthOptions": "block_size:i4",
    "DepthToSpaceOptions": "block_size:i4",
    "EmbeddingLookupSparseOptions": "combiner:i1",
    "GatherOptions": "axis:i4 batch_dims:i4",
    "ReducerOptions": "keep_dims:b1",
    "SqueezeOptions": "squeeze_dims:[i4]",
    "SplitOptions": "num_splits:i4",
    "SplitVOptions": "num_splits:i4",
    "StridedSliceOptions": "begin_mask:i4 end_mask:i4 ellipsis_mask:i4 new_axis_mask:i4 "
    "shrink_axis_mask:i4 offset:b1",
    "CastOptions": "in_data_type:i1 out_data_type:i1",
    "ArgMaxOptions": "output_type:i1",
    "ArgMinOptions": "output_type:i1",
    "SparseToDenseOptions": "validate_indices:b1",
    "ShapeOptions": "out_type:i1",
    "FakeQuantOptions": "min:f4 max:f4 num_bits:i4 narrow_range:b1",
    "PackOptions": "values_count:i4 axis:i4",
    "UnpackOptions": "num:i4 axis:i4",
    "OneHotOptions": "axis:i4",
    "LeakyReluOptions": "alpha:f4",
    "MirrorPadOptions": "mode:i1",
    "UniqueOptions": "idx_out_type:i1=2",
    "ReverseSequenceOptions": "seq_dim:i4 batch_dim:i4",
    "IfOptions": "then_subgraph_index:i4 else_subgraph_index:i4",
    "WhileOptions": "cond_subgraph_index:i4 body_subgraph_index:i4",
    "CallOnceOptions": "init_subgraph_index:i4",
    "BatchMatMulOptions": "adj_x:b1 adj_y:b1 asymmetric_quantize_inputs:b1",
    "CumsumOptions": "exclusive:b1 reverse:b1",
    "HashtableOptions": "table_id:i4 key_dtype:i1 value_dtype:i1",
    "VarHandleOptions": "container:str shared_name:str",
    "RandomOptions": "seed:i8 seed2:i8",
    "BucketizeOptions": "boundaries:[f4]",
    "GeluOptions": "approximate:b1",
    "ReduceWindowOptions": "reduce_function:i4",
    "StablehloConcatenateOptions": "dimension:i8",
    "StablehloBroadcastInDimOptions": "broadcast_dimensions:[i8]",
    "StablehloSliceOptions": "start_indices:[i8] limit_indices:[i8] strides:[i8]",
    "StablehloConvolutionOptions": "window_strides:[i8] padding:[i8] lhs_dilation:[i8] "
    "rhs_dilation:[i8] window_reversal:[b1] input_batch_dimension:i8 input_feature_dimension:i8 "
    "input_spatial_dimensions:[i8] kernel_input_feature_dimension:i8 "
    "kernel_output_feature_dimension:i8 kernel_spatial_dimensions:[i8] output_batch_dimension:i8 "
    "output_feature_dimension:i8 output_spatial_dimensions:[i8] feature_group_count:i8 "
    "batch_group_count:i8 precision_config:[u4]",
    "StablehloCustomCallOptions": "call_target_name:str has_side_effect:b1 backend_config:str "
    "api_version:i4 called_computations:[i4] custom_attributes:[u1]",
    "StablehloReduceOptions": "dimensions:[i8] body_subgraph_index:i4",
    "StablehloScatterOptions": "indices_are_sorted:b1 update_window_dims:[i8] "
    "inserted_window_dims:[i8] scatter_dims_to_operand_dims:[i8] index_vector_dim:i8 "
    "unique_indices:b1 update_computation_subgraph_index:i4",
    "StablehloCompareOptions": "comparison_direction:u4 compare_type:u4",
    "StablehloDynamicSliceOptions": "slice_sizes:[i8]",
    "StablehloPadOptions": "edge_padding_low:[i8] edge_padding_high:[i8] interior_padding:[i8]",
    "StablehloIotaOptions": "iota_dimension:i8",
    "StablehloDotGeneralOptions": "lhs_batching_dimensions:[i8] rhs_batching_dimensions:[i8] "
    "lhs_contracting_dimensions:[i8] rhs_contracting_dimensions:[i8] precision_config:[u4]",
    "StablehloReduceWindowOptions": "window_dimensions:[i8] window_strides:[i8] "
    "base_dilations:[i8] window_dilations:[i8] padding:[i8] body_subgraph_index:i4",
    "StablehloSortOptions": "dimension:i8 is_stable:b1 comparator_subgraph_index:i4",
    "StablehloWhileOptions": "cond_subgraph_index:i4 body_subgraph_index:i4",
    "StablehloGatherOptions": "offset_dims:[i8] collapsed_slice_dims:[i8] start_index_map:[i8] "
    "index_vector_dim:i8 slice_sizes:[i8] indices_are_sorted:b1",
    "StablehloTransposeOptions": "permutation:[i8]",
    "StablehloRngBitGeneratorOptions": "algorithm:i1",
    "StableHLOCompositeOptions": "name:str decomposition_subgraph_index:i4 "
    "composite_attributes:[u1] composite_attributes_format:i1 version:i4",
    "StablehloCaseOptions": "branch_subgraph_indices:[i4]",
}

OPTION_TABLES: Final[dict[str, str]] = {
    name: _WITH_FIELDS.get(name, "") for name in BUILTIN_OPTIONS + BUILTIN_OPTIONS_2
}
