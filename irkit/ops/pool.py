"""Pooling windows and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, DType, TensorType
from irkit.ops.check import axes_of, keep_quant, out_size, show, want_float, want_ints, want_rank
from irkit.ops.conv import pad_hw, windows
from irkit.ops.linear import wave

Ints = tuple[int, ...]


def lowest(dtype: np.dtype[Any]) -> float:
    """The value that never wins a maximum: -inf, or the smallest integer."""
    return -math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def _check_window(x: TensorType, kernel: Ints, strides: Ints, pads: Ints, dilation: Ints, ceil: Ints) -> Ints:
    want_rank("x", x, 4)
    want_ints("kernel", kernel, 2, 1)
    want_ints("strides", strides, 2, 1)
    want_ints("pads", pads, 4)
    want_ints("dilation", dilation, 2, 1)
    want_ints("ceil", ceil, 2)
    n, c, h, w = x.shape
    oh = out_size(h, kernel[0], strides[0], pads[0], pads[2] + ceil[0], dilation[0], "height")
    ow = out_size(w, kernel[1], strides[1], pads[1], pads[3] + ceil[1], dilation[1], "width")
    return (n, c, oh, ow)


def _covered(size: int, kernel: int, stride: int, before: int, out: int, dilation: int) -> bool:
    """True when every window holds at least one element of x."""
    for i in range(out):
        start = i * stride - before
        if not any(0 <= start + k * dilation < size for k in range(kernel)):
            return False
    return True


def _max_pool_infer(x: TensorType, *, kernel: Ints, strides: Ints, pads: Ints, dilation: Ints) -> TensorType:
    if x.dtype is DType.BOOL:
        raise IRError(f"operand x: expected numbers, got {show(x)}")
    shape = _check_window(x, kernel, strides, pads, dilation, (0, 0))
    for i, axis in ((0, "height"), (1, "width")):
        if not _covered(x.shape[2 + i], kernel[i], strides[i], pads[i], shape[2 + i], dilation[i]):
            raise IRError(f"attribute pads: some windows along the {axis} hold only padding")
    return keep_quant(x, shape, (0, 1, 2, 3))


def _max_pool_cases() -> Iterator[Case]:
    x = wave(2, 3, 7, 6, step=1.7)
    yield Case((x,), {"kernel": (2, 2), "strides": (2, 2)}, "2x2")
    yield Case((x,), {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}, "3x3_pad")
    yield Case((x,), {"kernel": (3, 2), "strides": (1, 2), "pads": (1, 0, 0, 1)}, "asymmetric")
    yield Case((x,), {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 1, 0)}, "ceil")
    yield Case((x,), {"kernel": (2, 2), "strides": (1, 1), "dilation": (2, 3)}, "dilation")
    odd = x.copy()
    odd[0, 0, 1, 1], odd[0, 1, 2, 2], odd[1, 2] = np.nan, np.inf, -np.inf
    yield Case((odd,), {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}, "nan_inf")
    q = np.round(x * 127).astype(np.int8)
    yield Case((q,), {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}, "i8")


@op(infer=_max_pool_infer, tags="same_scale channels_last", cases=_max_pool_cases)
def max_pool2d(x: Array, *, kernel: Ints, strides: Ints, pads: Ints = (0, 0, 0, 0), dilation: Ints = (1, 1)) -> Array:
    """Maximum of every window of NCHW x; padding (top, left, bottom, right) never wins, NaN always does.

    Ceil mode is a larger bottom and right padding.
    """
    v = windows(pad_hw(x, pads, lowest(x.dtype)), (kernel[0], kernel[1]), strides, dilation)
    y = v[..., 0, 0].copy()
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            np.maximum(y, v[..., i, j], out=y)
    return y


def _avg_pool_infer(
    x: TensorType, *, kernel: Ints, strides: Ints, pads: Ints, ceil: Ints, count_include_pad: bool
) -> TensorType:
    dtype = want_float(x=x)
    return TensorType(avg_pool_shape(x, kernel, strides, pads, ceil, count_include_pad), dtype)


def avg_pool_shape(x: TensorType, kernel: Ints, strides: Ints, pads: Ints, ceil: Ints, count_include_pad: bool) -> Ints:
    """Result shape of avg_pool2d and its quantized form, after checking that no window is empty."""
    shape = _check_window(x, kernel, strides, pads, (1, 1), ceil)
    if (pool_counts(x.shape, kernel, strides, pads, ceil, count_include_pad) == 0).any():
        raise IRError("attribute pads: some windows hold nothing that counts")
    return shape


def pool_counts(shape: Ints, kernel: Ints, strides: Ints, pads: Ints, ceil: Ints, include_pad: bool) -> Array:
    """How many positions each window's average divides by: int64 [OH, OW]."""
    ones = np.ones((1, 1, *shape[2:]), np.int64)
    ones = pad_hw(pad_hw(ones, pads, 1 if include_pad else 0), (0, 0, *ceil), 0)
    return np.asarray(windows(ones, (kernel[0], kernel[1]), strides, (1, 1)).sum((-2, -1))[0, 0])


def pool_sums(x: Array, kernel: Ints, strides: Ints, pads: Ints, ceil: Ints) -> Array:
    """Sum of every window, padding counted as 0, in x's dtype."""
    t, left, b, r = pads
    v = windows(pad_hw(x, (t, left, b + ceil[0], r + ceil[1])), (kernel[0], kernel[1]), strides, (1, 1))
    y = v[..., 0, 0].copy()
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            if i or j:
                y += v[..., i, j]
    return y


def avg_pool_attrs() -> Iterator[tuple[str, dict[str, object]]]:
    """Name and attributes for an x of [2, 3, 7, 6]: shared by the float and the quantized op."""
    yield "2x2", {"kernel": (2, 2), "strides": (2, 2)}
    yield "3x3_pad", {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    yield "exclude_pad", {"kernel": (3, 3), "strides": (1, 2), "pads": (1, 1, 1, 1), "count_include_pad": False}
    yield "ceil", {"kernel": (2, 2), "strides": (2, 2), "ceil": (1, 0)}
    yield "ceil_pad", {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil": (0, 1)}
    yield "asymmetric", {"kernel": (3, 2), "strides": (2, 1), "pads": (0, 0, 2, 1), "count_include_pad": False}


def _avg_pool_cases() -> Iterator[Case]:
    x = wave(2, 3, 7, 6, step=1.7)
    for name, attrs in avg_pool_attrs():
        yield Case((x,), attrs, name)
    yield Case((np.where(x > 0.99, np.inf, x).astype(np.float32),), {"kernel": (2, 2), "strides": (2, 2)}, "inf")


@op(infer=_avg_pool_infer, tags="channels_last", cases=_avg_pool_cases)
def avg_pool2d(
    x: Array,
    *,
    kernel: Ints,
    strides: Ints,
    pads: Ints = (0, 0, 0, 0),
    ceil: Ints = (0, 0),
    count_include_pad: bool = True,
) -> Array:
    """Mean of every window of NCHW x.

    ``pads`` are zeros at (top, left, bottom, right) that count when ``count_include_pad``; ``ceil`` are further rows at
    the bottom and columns at the right that never count (ceil mode of the frameworks).
    """
    count = pool_counts(x.shape, kernel, strides, pads, ceil, count_include_pad)
    with np.errstate(invalid="ignore"):
        return np.asarray(pool_sums(x, kernel, strides, pads, ceil) / count.astype(x.dtype))


def adaptive_windows(size: int, out: int) -> list[tuple[int, int]]:
    """Start and end of every window of adaptive pooling along one axis, as PyTorch defines them."""
    return [(i * size // out, -((-(i + 1) * size) // out)) for i in range(out)]


def _adaptive(x: Array, output: Ints, reduce: Callable[[Array], Array]) -> Array:
    y = np.empty((*x.shape[:2], *output), x.dtype)
    cols = adaptive_windows(x.shape[3], output[1])
    for i, (a, b) in enumerate(adaptive_windows(x.shape[2], output[0])):
        for j, (c, d) in enumerate(cols):
            y[:, :, i, j] = reduce(x[:, :, a:b, c:d])
    return y


def _adaptive_infer(x: TensorType, *, output: Ints) -> TensorType:
    want_float(x=x)
    want_rank("x", x, 4)
    want_ints("output", output, 2, 1)
    if 0 in x.shape[2:]:
        raise IRError(f"operand x: expected at least one row and column, got {show(x)}")
    return TensorType((*x.shape[:2], *output), x.dtype)


def _adaptive_cases() -> Iterator[Case]:
    x = wave(2, 3, 7, 6, step=1.7)
    yield Case((x,), {"output": (1, 1)}, "global")
    yield Case((x,), {"output": (3, 4)}, "uneven")
    yield Case((x,), {"output": (7, 6)}, "same")
    yield Case((x,), {"output": (9, 2)}, "grow")


@op(infer=_adaptive_infer, tags="channels_last", cases=_adaptive_cases)
def adaptive_avg_pool2d(x: Array, *, output: Ints) -> Array:
    """Mean over [floor(i*H/OH), ceil((i+1)*H/OH)) and likewise along W; result [N, C, *output]."""
    return _adaptive(x, output, lambda v: np.asarray(v.mean((2, 3))))


@op(infer=_adaptive_infer, tags="channels_last", cases=_adaptive_cases)
def adaptive_max_pool2d(x: Array, *, output: Ints) -> Array:
    """Maximum over the windows of adaptive_avg_pool2d; NaN wins."""
    return _adaptive(x, output, lambda v: np.asarray(v.max((2, 3))))


def reduced_shape(shape: Ints, axes: object, keepdims: bool) -> Ints:
    """Shape after reducing ``axes``."""
    drop = axes_of("axes", axes, len(shape))
    return tuple(1 if i in drop else d for i, d in enumerate(shape) if keepdims or i not in drop)


def _reduce_float(x: TensorType, *, axes: Ints, keepdims: bool) -> TensorType:
    dtype = want_float(x=x)
    shape = reduced_shape(x.shape, axes, keepdims)
    _not_empty(x, axes)
    return TensorType(shape, dtype)


def _reduce_sum_infer(x: TensorType, *, axes: Ints, keepdims: bool) -> TensorType:
    if x.dtype is DType.BOOL or x.quant is not None:
        raise IRError(f"operand x: expected plain numbers, got {show(x)}{' (quantized)' if x.quant else ''}")
    return TensorType(reduced_shape(x.shape, axes, keepdims), x.dtype)


def _reduce_extreme(x: TensorType, *, axes: Ints, keepdims: bool) -> TensorType:
    if x.dtype is DType.BOOL:
        raise IRError(f"operand x: expected numbers, got {show(x)}")
    shape = reduced_shape(x.shape, axes, keepdims)
    _not_empty(x, axes)
    drop = set(axes_of("axes", axes, x.rank))
    q = x.quant
    if q is not None and q.axis in drop:
        raise IRError(f"operand x: expected per-tensor quant, got one per index of reduced axis {q.axis}")
    return keep_quant(x, shape, [i for i in range(x.rank) if keepdims or i not in drop])


def _not_empty(x: TensorType, axes: Ints) -> None:
    if any(x.shape[a] == 0 for a in axes):
        raise IRError(f"operand x: axes {list(axes)} of {show(x)} hold nothing to reduce")


def _reduce_cases() -> Iterator[Case]:
    x = wave(2, 3, 5, 4, step=1.7)
    yield Case((x,), {"axes": (2, 3)}, "global")
    yield Case((x,), {"axes": (1,), "keepdims": True}, "keepdims")
    yield Case((x,), {"axes": (0, 1, 2, 3)}, "all")
    yield Case((x,), {"axes": (-1,)}, "negative")
    bad = x.copy()
    bad[0, 0, 0, 0], bad[1, 1, 1, 1] = np.nan, np.inf
    yield Case((bad,), {"axes": (2, 3)}, "nan_inf")


def _reduce_extreme_cases() -> Iterator[Case]:
    yield from _reduce_cases()
    yield Case((np.round(wave(2, 3, 4) * 127).astype(np.int8),), {"axes": (1,)}, "i8")


@op(infer=_reduce_float, cases=_reduce_cases)
def reduce_mean(x: Array, *, axes: Ints, keepdims: bool = False) -> Array:
    """Mean over ``axes``, summed in float64."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.mean(x, axes, np.float64, keepdims=keepdims)).astype(x.dtype)


@op(infer=_reduce_sum_infer, cases=_reduce_cases)
def reduce_sum(x: Array, *, axes: Ints, keepdims: bool = False) -> Array:
    """Sum over ``axes``, in float64 for floats; integers wrap."""
    with np.errstate(all="ignore"):
        wide = np.float64 if x.dtype.kind == "f" else x.dtype
        return np.asarray(np.sum(x, axes, wide, keepdims=keepdims)).astype(x.dtype)


@op(infer=_reduce_extreme, tags="same_scale", cases=_reduce_extreme_cases)
def reduce_max(x: Array, *, axes: Ints, keepdims: bool = False) -> Array:
    """Maximum over ``axes``; NaN wins."""
    return np.asarray(np.max(x, axes, keepdims=keepdims))


@op(infer=_reduce_extreme, tags="same_scale", cases=_reduce_extreme_cases)
def reduce_min(x: Array, *, axes: Ints, keepdims: bool = False) -> Array:
    """Minimum over ``axes``; NaN wins."""
    return np.asarray(np.min(x, axes, keepdims=keepdims))
