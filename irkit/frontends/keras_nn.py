"""Handlers of Keras layers and of the ``keras.ops.nn`` operations behind them: convolutions, pools, normalisation.

Keras keeps channels last by default and irkit's ops are channels-first: ``to_nchw`` and ``from_nchw`` convert, and the
builder merges a permute with the one before it, so chains of layers end up with one at each end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irkit import ops
from irkit.frontends.builder import Builder, NotSupportedError, as_array
from irkit.frontends.keras_registry import Importer, layer, operation
from irkit.ir.graph import Value
from irkit.ir.types import Array

Ints = int | Sequence[int]


# ---- data formats
def to_nchw(b: Builder, x: Value, data_format: str) -> Value:
    """(N, [H,] W, C) or (N, C, [H,] W) as (N, C, H, W); a 1-D signal gets H = 1."""
    rank = x.type.rank
    if rank not in (3, 4):
        raise NotSupportedError(f"{rank - 2}-D data")
    if data_format == "channels_last":
        x = b.permute(x, (0, rank - 1, *range(1, rank - 1)))
    return x if rank == 4 else b.unsqueeze(x, 2)


def from_nchw(b: Builder, y: Value, rank: int, data_format: str) -> Value:
    """The way back."""
    if rank == 3:
        y = b.squeeze(y, 2)
    return b.permute(y, (0, *range(2, rank), 1)) if data_format == "channels_last" else y


def spatial(v: Ints, rank: int) -> tuple[int, int]:
    """A setting per spatial axis, as (height, width); 1-D data has a height of 1."""
    values = (v,) * (rank - 2) if isinstance(v, int) else tuple(int(i) for i in v)
    return (1, values[0]) if rank == 3 else (values[0], values[1])


def same_pads(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Any:
    """TensorFlow's "same": ceil(size / stride) results, the odd row goes to the far side. (top, left, bottom, right)"""
    near, far = [], []
    for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
        total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        near.append(total // 2)
        far.append(total - total // 2)
    return (*near, *far)


def _lifted(a: Array) -> Array:
    """A 1-D kernel (W, i, o) as (1, W, i, o)."""
    return a[None] if a.ndim == 3 else a


def conv_kernel(a: Array) -> Array:
    """(H, W, in / groups, out) -> (out, in / groups, H, W)"""
    return _lifted(a).transpose(3, 2, 0, 1)


def depthwise_kernel(a: Array) -> Array:
    """(H, W, channels, multiplier) -> (channels * multiplier, 1, H, W)"""
    h, w, c, m = _lifted(a).shape
    return _lifted(a).transpose(2, 3, 0, 1).reshape(c * m, 1, h, w)


def transposed(a: Array) -> Array:
    """(in, out) -> (out, in)"""
    return a.T


# ---- convolution
def conv(
    k: Importer, x: Value, w: Value, bias: Value | None, strides: Ints, padding: str, dilation: Ints, data_format: str
) -> Value:
    """A convolution with irkit's kernel layout; Keras' settings."""
    b, rank = k.b, x.type.rank
    t = to_nchw(b, x, data_format)
    s, d = spatial(strides, rank), spatial(dilation, rank)
    kernel = w.type.shape[2:]
    pads = (0, 0, 0, 0)
    if padding == "same":
        pads = same_pads(t.type.shape[2:], kernel, s, d)
    elif padding == "causal":
        pads = (0, (kernel[1] - 1) * d[1], 0, 0)
    groups = t.type.shape[1] // w.type.shape[1]
    y = b.emit(ops.conv2d, t, w, bias, strides=s, pads=pads, dilation=d, groups=groups)
    return from_nchw(b, y, rank, data_format)


def _bias(k: Importer, op: Any) -> Value | None:
    return k.weight(op.bias) if op.use_bias else None


@layer("Conv1D", "Conv2D")
def conv_layer(k: Importer, op: Any, x: Value) -> Value:
    y = conv(
        k, x, k.weight(op.kernel, conv_kernel), _bias(k, op), op.strides, op.padding, op.dilation_rate, op.data_format
    )
    return k.activate(op.activation, y)


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_layer(k: Importer, op: Any, x: Value) -> Value:
    w = k.weight(op.kernel, depthwise_kernel)
    y = conv(k, x, w, _bias(k, op), op.strides, op.padding, op.dilation_rate, op.data_format)
    return k.activate(op.activation, y)


@layer("SeparableConv1D", "SeparableConv2D")
def separable_layer(k: Importer, op: Any, x: Value) -> Value:
    depth = k.weight(op.depthwise_kernel, depthwise_kernel)
    point = k.weight(op.pointwise_kernel, conv_kernel)
    y = conv(k, x, depth, None, op.strides, op.padding, op.dilation_rate, op.data_format)
    return k.activate(op.activation, conv(k, y, point, _bias(k, op), 1, "valid", 1, op.data_format))


@operation("Conv")
def conv_op(k: Importer, op: Any, x: Value, kernel: Any) -> Value:
    w = k.weight(kernel, conv_kernel)
    return conv(k, x, w, None, op.strides, op.padding, op.dilation_rate, op.data_format)


@operation("DepthwiseConv")
def depthwise_op(k: Importer, op: Any, x: Value, kernel: Any) -> Value:
    w = k.weight(kernel, depthwise_kernel)
    return conv(k, x, w, None, op.strides, op.padding, op.dilation_rate, op.data_format)


@operation("SeparableConv")
def separable_op(k: Importer, op: Any, x: Value, depth: Any, point: Any) -> Value:
    w = k.weight(depth, depthwise_kernel)
    y = conv(k, x, w, None, op.strides, op.padding, op.dilation_rate, op.data_format)
    return conv(k, y, k.weight(point, conv_kernel), None, 1, "valid", 1, op.data_format)


def _transpose_crop(kernel: int, stride: int, padding: str, output_padding: int | None) -> tuple[int, int]:
    """What Keras cuts off (before, after) the full result of length (n - 1) * stride + kernel; negative: zeros added.

    "valid" gives max(kernel, stride) in place of kernel, "same" n * stride; ``output_padding`` replaces the rest that
    these rules leave over.
    """
    if padding == "valid":
        extra = max(kernel, stride) - kernel if output_padding is None else output_padding
        return 0, -extra
    kept = stride + kernel - 2 if output_padding is None else kernel + kernel % 2 - 2 + output_padding
    before = min((kept + 1) // 2, kernel - 1)
    return kernel - 1 - before, kernel - 1 - (kept - before)


def conv_transpose(
    k: Importer, x: Value, w: Value, bias: Value | None, strides: Ints, padding: str, output_padding: Ints | None,
    dilation: Ints, data_format: str,
) -> Value:  # fmt: skip
    """A transposed convolution; w is (in, out, H, W)."""
    b, rank = k.b, x.type.rank
    t = to_nchw(b, x, data_format)
    s, d = spatial(strides, rank), spatial(dilation, rank)
    out: Any = (None, None)
    if output_padding is not None:
        out = spatial(output_padding, rank)
        out = (None, out[1]) if rank == 3 else out
    crops = [_transpose_crop((w.type.shape[2 + i] - 1) * d[i] + 1, s[i], padding, out[i]) for i in (0, 1)]
    (top, bottom), (left, right) = crops
    pads = tuple(max(0, c) for c in (top, left, bottom, right))
    add = [(max(0, -before), max(0, -after)) for before, after in crops]
    extended = any(n for pair in add for n in pair)
    y = b.emit(ops.conv_transpose2d, t, w, None if extended else bias, strides=s, pads=pads, dilation=d)
    if extended:
        y = b.emit(ops.pad, y, pads=((0, 0), (0, 0), *add))
        if bias is not None:
            y = b.emit(ops.add, y, b.reshape(bias, (-1, 1, 1)))
    return from_nchw(b, y, rank, data_format)


@layer("Conv1DTranspose", "Conv2DTranspose")
def conv_transpose_layer(k: Importer, op: Any, x: Value) -> Value:
    w = k.weight(op.kernel, conv_kernel)  # (H, W, out, in) -> (in, out, H, W)
    y = conv_transpose(
        k, x, w, _bias(k, op), op.strides, op.padding, op.output_padding, op.dilation_rate, op.data_format
    )
    return k.activate(op.activation, y)


@operation("ConvTranspose")
def conv_transpose_op(k: Importer, op: Any, x: Value, kernel: Any) -> Value:
    w = k.weight(kernel, conv_kernel)
    return conv_transpose(k, x, w, None, op.strides, op.padding, op.output_padding, op.dilation_rate, op.data_format)


# ---- dense
@layer("Dense")
def dense_layer(k: Importer, op: Any, x: Value, training: bool | None = None) -> Value:
    if getattr(op, "lora_enabled", False) or getattr(op, "quantization_mode", None):
        raise NotSupportedError("Dense with LoRA or Keras quantization")
    bias = None if op.bias is None else k.weight(op.bias)
    return k.activate(op.activation, k.b.emit(ops.linear, x, k.weight(op.kernel, transposed), bias))


# ---- pooling
def _pool(k: Importer, op: Any, x: Value, kind: str) -> Value:
    b, rank = k.b, x.type.rank
    t = to_nchw(b, x, op.data_format)
    kernel = spatial(op.pool_size, rank)
    s = kernel if op.strides is None else spatial(op.strides, rank)
    pads = same_pads(t.type.shape[2:], kernel, s, (1, 1)) if op.padding == "same" else (0, 0, 0, 0)
    if kind == "max":
        y = b.emit(ops.max_pool2d, t, kernel=kernel, strides=s, pads=pads)
    else:
        y = b.emit(ops.avg_pool2d, t, kernel=kernel, strides=s, pads=pads, count_include_pad=False)
    return from_nchw(b, y, rank, op.data_format)


@layer("MaxPooling1D", "MaxPooling2D")
def max_pool_layer(k: Importer, op: Any, x: Value) -> Value:
    return _pool(k, op, x, "max")


@layer("AveragePooling1D", "AveragePooling2D")
def average_pool_layer(k: Importer, op: Any, x: Value) -> Value:
    return _pool(k, op, x, "average")


@operation("MaxPool")
def max_pool_op(k: Importer, op: Any, x: Value) -> Value:
    return _pool(k, op, x, "max")


@operation("AveragePool")
def average_pool_op(k: Importer, op: Any, x: Value) -> Value:
    return _pool(k, op, x, "average")


def _adaptive(k: Importer, op: Any, x: Value, kind: str) -> Value:
    b, rank = k.b, x.type.rank
    t = to_nchw(b, x, op.data_format)
    opdef = ops.adaptive_max_pool2d if kind == "max" else ops.adaptive_avg_pool2d
    return from_nchw(b, b.emit(opdef, t, output=spatial(op.output_size, rank)), rank, op.data_format)


@operation("AdaptiveMaxPool")
def adaptive_max(k: Importer, op: Any, x: Value) -> Value:
    return _adaptive(k, op, x, "max")


@operation("AdaptiveAveragePool")
def adaptive_average(k: Importer, op: Any, x: Value) -> Value:
    return _adaptive(k, op, x, "average")


# ---- normalisation
def batch_norm(
    k: Importer, x: Value, gamma: Value | None, beta: Value | None, mean: Value, var: Value, axis: int, eps: float
) -> Value:
    """Batch norm along any axis."""
    b, rank = k.b, x.type.rank
    axis %= rank
    perm = (0, axis, *[a for a in range(1, rank) if a != axis]) if axis else (1, 0, *range(2, rank))
    y = b.emit(ops.batch_norm, b.permute(x, perm), gamma, beta, mean, var, eps=float(eps))
    return b.permute(y, tuple(int(i) for i in np.argsort(perm)))


@layer("BatchNormalization")
def batch_norm_layer(k: Importer, op: Any, x: Value, training: bool | None = None, mask: Any = None) -> Value:
    if training:
        raise NotSupportedError("training=True: statistics of the batch at hand")
    if not isinstance(op.axis, int):
        raise NotSupportedError(f"axis {op.axis}")
    gamma = k.weight(op.gamma) if op.scale else None
    beta = k.weight(op.beta) if op.center else None
    return batch_norm(k, x, gamma, beta, k.weight(op.moving_mean), k.weight(op.moving_variance), op.axis, op.epsilon)


@operation("BatchNorm")
def batch_norm_op(
    k: Importer, op: Any, x: Value, mean: Any, variance: Any, offset: Any = None, scale: Any = None
) -> Value:
    gamma = None if scale is None else k.value(scale)
    beta = None if offset is None else k.value(offset)
    return batch_norm(k, x, gamma, beta, k.value(mean), k.value(variance), op.axis, op.epsilon)


def layer_norm(k: Importer, x: Value, gamma: Value | None, beta: Value | None, axis: Any, eps: float) -> Value:
    """Layer norm over trailing axes; others are moved there and back."""
    b, rank = k.b, x.type.rank
    axes = sorted(a % rank for a in (axis if isinstance(axis, (list, tuple)) else [axis]))
    perm = (*[a for a in range(rank) if a not in axes], *axes)
    shape = tuple(x.type.shape[a] for a in axes)
    gamma = None if gamma is None else b.reshape(gamma, shape)
    beta = None if beta is None else b.reshape(beta, shape)
    y = b.emit(ops.layer_norm, b.permute(x, perm), gamma, beta, axis=rank - len(axes), eps=float(eps))
    return b.permute(y, tuple(int(i) for i in np.argsort(perm)))


@operation("LayerNorm")
def layer_norm_op(k: Importer, op: Any, x: Value, gamma: Any = None, beta: Any = None) -> Value:
    if op.rms_scaling:
        raise NotSupportedError("layer norm with rms_scaling")
    scale = None if gamma is None else k.value(gamma)
    shift = None if beta is None else k.value(beta)
    return layer_norm(k, x, scale, shift, op.axis, 1e-3 if op.epsilon is None else op.epsilon)


@layer("LayerNormalization")
def layer_norm_layer(k: Importer, op: Any, x: Value) -> Value:
    if op.rms_scaling:
        raise NotSupportedError("layer norm with rms_scaling")
    gamma = None if op.gamma is None else k.weight(op.gamma)
    beta = None if op.beta is None else k.weight(op.beta)
    return layer_norm(k, x, gamma, beta, op.axis, op.epsilon)


# ---- identities and simple layers
@layer(
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout",
    "ActivityRegularization", "Identity",
)  # fmt: skip
def identity_layer(k: Importer, op: Any, x: Value, training: bool | None = None, mask: Any = None) -> Value:
    if training:
        raise NotSupportedError("training=True")
    return x


@layer("Activation")
def activation_layer(k: Importer, op: Any, x: Value) -> Value:
    return k.activate(op.activation, x)


@layer("Flatten")
def flatten_layer(k: Importer, op: Any, x: Value) -> Value:
    rank = x.type.rank
    if op.data_format == "channels_first" and rank > 1:
        x = k.b.permute(x, (0, *range(2, rank), 1))
    return k.b.reshape(x, (x.type.shape[0], -1))


@layer("Reshape")
def reshape_layer(k: Importer, op: Any, x: Value) -> Value:
    return k.b.reshape(x, (x.type.shape[0], *op.target_shape))


@layer("PReLU")
def prelu_layer(k: Importer, op: Any, x: Value) -> Value:
    """Slopes per channel (one axis of the weight is not 1) become prelu; others max(x, 0) + slope * min(x, 0)."""
    shape = tuple(op.alpha.shape)
    wide = [i for i, n in enumerate(shape) if n != 1]
    if len(wide) <= 1:
        axis = wide[0] + 1 if wide else x.type.rank - 1
        perm = (0, axis, *[a for a in range(1, x.type.rank) if a != axis])
        y = k.b.emit(ops.prelu, k.b.permute(x, perm), k.weight(op.alpha, np.ravel))
        return k.b.permute(y, tuple(int(i) for i in np.argsort(perm)))
    zero = k.value(0.0, x)
    low = k.elementwise(ops.mul, k.elementwise(ops.minimum, x, zero), k.weight(op.alpha))
    return k.elementwise(ops.add, k.elementwise(ops.relu, x), low)


@layer("Rescaling")
def rescaling_layer(k: Importer, op: Any, x: Value) -> Value:
    scale, offset = (k.b.const(np.asarray(v, x.type.dtype.numpy)) for v in (op.scale, op.offset))
    return k.elementwise(ops.add, k.elementwise(ops.mul, x, scale), offset)


@layer("Normalization")
def normalization_layer(k: Importer, op: Any, x: Value) -> Value:
    mean, spread = as_array(op.mean), np.maximum(np.sqrt(as_array(op.variance)), 1e-7)
    if op.invert:
        return k.elementwise(ops.add, k.elementwise(ops.mul, x, k.b.const(spread)), k.b.const(mean))
    return k.elementwise(ops.div, k.elementwise(ops.sub, x, k.b.const(mean)), k.b.const(spread))


# ---- resizing
def resize(k: Importer, op: Any, x: Value, size: tuple[int, int]) -> Value:
    """Nearest or bilinear resizing, by the settings of a layer or operation."""
    if op.interpolation not in ("nearest", "bilinear"):
        raise NotSupportedError(f"interpolation {op.interpolation}")
    if getattr(op, "crop_to_aspect_ratio", False) or getattr(op, "pad_to_aspect_ratio", False):
        raise NotSupportedError("resize that keeps the aspect ratio")
    if not x.type.dtype.is_float or x.type.rank != 4:
        raise NotSupportedError("resize of integers or of a single image")
    t = to_nchw(k.b, x, op.data_format)
    if getattr(op, "antialias", False) and any(s < n for s, n in zip(size, t.type.shape[2:], strict=True)):
        raise NotSupportedError("resize with antialias to a smaller size")
    coords = "asymmetric" if op.interpolation == "nearest" else "half_pixel"
    y = k.b.emit(ops.resize2d, t, size=size, mode=op.interpolation, coords=coords)
    return from_nchw(k.b, y, 4, op.data_format)


@layer("UpSampling2D")
def upsampling_layer(k: Importer, op: Any, x: Value) -> Value:
    h, w = x.type.shape[1:3] if op.data_format == "channels_last" else x.type.shape[2:4]
    return resize(k, op, x, (h * op.size[0], w * op.size[1]))


@layer("Resizing")
def resizing_layer(k: Importer, op: Any, x: Value, training: bool | None = None) -> Value:
    return resize(k, op, x, (op.height, op.width))


@operation("Resize")
def resize_op(k: Importer, op: Any, x: Value) -> Value:
    return resize(k, op, x, (int(op.size[0]), int(op.size[1])))
