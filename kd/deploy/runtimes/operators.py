"""Operators of torch.ops.aten that classifiers of images and texts consist of."""

# None reads or writes a file, as aten.from_file does, and none makes a large tensor of a number.
_NAMES = """
_adaptive_avg_pool2d _assert_scalar _assert_tensor_metadata _native_batch_norm_legit_no_training
_softmax _to_copy _unsafe_view abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d add
add_ addmm alias amax amin any avg_pool1d avg_pool2d batch_norm bitwise_not bmm cat celu celu_
channel_shuffle chunk clamp clamp_ clamp_max clamp_min clone constant_pad_nd contiguous conv1d
conv2d convolution cos detach detach_ div div_ dropout dropout_ einsum elu elu_ embedding eq erf exp
expand expand_as feature_dropout flatten floor gelu gelu_ group_norm hardsigmoid hardsigmoid_
hardswish hardswish_ hardtanh hardtanh_ instance_norm layer_norm leaky_relu leaky_relu_
lift_fresh_copy linalg_norm linalg_vector_norm linear log log_softmax logical_not lt masked_fill
matmul max max_pool2d maximum mean min minimum mish mish_ mm mul mul_ narrow native_batch_norm
native_group_norm native_layer_norm ne neg norm pad permute pixel_shuffle pixel_unshuffle pow prelu
reciprocal relu relu6 relu6_ relu_ reshape roll rsqrt scaled_dot_product_attention select selu selu_
sigmoid sigmoid_ silu silu_ sin slice softmax softplus split split_with_sizes sqrt squeeze stack std
sub sub_ sum swapaxes sym_size t tan tanh tanh_ to transpose unbind unflatten unsafe_chunk
unsafe_split unsqueeze var view view_as where
"""
OPERATORS = frozenset(_NAMES.split())
