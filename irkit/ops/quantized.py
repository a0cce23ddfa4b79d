"""int8 ops. Their references are the definition: every kernel on every CPU gives the same bits.

Common rule: sums are exact integers; then each conversion to float32, product, sum and division rounds once, and
``rint`` (ties to even) once. Multipliers are computed in float64 from the float32 scales and rounded once. No FMA.
References get a QArray for each quantized operand and return raw arrays.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, DType, QArray, Quant, TensorType
from irkit.ops.check import axis_of, broadcast, show, want_bounds, want_float, want_int8, want_quant, want_shape
from irkit.ops.conv import conv_samples, conv_shape, conv_sum, pad_hw
from irkit.ops.linear import wave
from irkit.ops.pool import (
    avg_pool_attrs,
    avg_pool_shape,
    pool_counts,
    pool_sums,
    reduced_shape,
)

Ints = tuple[int, ...]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


def multiplier(*factors: float | Array, over: float | Array = 1.0) -> F32:
    """Product of ``factors`` divided by ``over``: in float64, left to right, rounded once to float32."""
    m: Array = np.asarray(1.0)
    for f in factors:
        m = m * np.asarray(f, np.float64)
    return np.asarray(m / np.asarray(over, np.float64)).astype(np.float32)


def scale_of(q: QArray) -> float:
    """The scale of a per-tensor quantized value."""
    return q.quant.scale[0]


def centered(q: QArray) -> I32:
    """q - zero, exactly, as int32."""
    zero = q.quant.broadcast(q.quant.zero_array(), q.data.ndim)
    return np.asarray(q.data.astype(np.int32) - zero)


def saturate(p: F32, zero: int, lo: int = -128, hi: int = 127) -> npt.NDArray[np.int8]:
    """clamp(rint(p) + zero, lo, hi) as int8; clamps before the conversion, so that no float is out of range."""
    assert p.dtype == np.float32
    c = np.clip(p, np.float32(lo - zero), np.float32(hi - zero))
    return np.asarray(np.rint(c).astype(np.int32) + np.int32(zero)).astype(np.int8)


def unwrap(x: Array | QArray | None) -> Array | None:
    """Raw data of an operand."""
    return x.data if isinstance(x, QArray) else x


# ---- samples


def qwave(*shape: int, scale: float = 0.05, zero: int = 0, step: float = 0.37) -> QArray:
    """Deterministic int8 sample data over the whole range."""
    return QArray(np.round(wave(*shape, step=step, scale=127.4)).astype(np.int8), Quant.per_tensor(scale, zero))


def weights(*shape: int, step: float = 0.71, scale: float = 0.01) -> QArray:
    """Deterministic symmetric int8 weights, one scale per index of axis 0."""
    data = np.clip(np.round(wave(*shape, step=step, scale=127.4)), -127, 127).astype(np.int8)
    return QArray(data, Quant(tuple(scale * (1 + i % 5) for i in range(shape[0])), (0,) * shape[0], 0))


def biases(n: int) -> Array:
    """Deterministic int32 biases."""
    return np.round(wave(n, step=1.3, scale=4000)).astype(np.int32)


# ---- conversions


def _quantize_infer(x: TensorType, *, quant: Quant) -> TensorType:
    if want_float(x=x) is not DType.F32:
        raise IRError(f"operand x: expected f32, got {show(x)}")
    return TensorType(x.shape, DType.I8, want_quant(quant))


def _quantize_cases() -> Iterator[Case]:
    x = wave(2, 3, 4, 5, scale=20)
    yield Case((x,), {"quant": Quant.per_tensor(0.1, -3)}, "plain")
    yield Case((x,), {"quant": Quant.per_tensor(0.01, 127)}, "saturates")
    halves = (np.arange(-9, 10, dtype=np.float32) + np.float32(0.5)) * np.float32(0.25)
    yield Case((halves,), {"quant": Quant.per_tensor(0.25, 1)}, "ties")
    odd = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, -0.0], np.float32)
    yield Case((odd,), {"quant": Quant.per_tensor(0.5, -128)}, "edges")
    yield Case((odd,), {"quant": Quant.per_tensor(1e-40, 5)}, "denormal_scale")


@op(infer=_quantize_infer, tags="int8", cases=_quantize_cases)
def quantize(x: Array, *, quant: Quant) -> Array:
    """clamp(rint(x * f32(1/s)) + z, -128, 127); NaN becomes z."""
    with np.errstate(all="ignore"):
        p = np.asarray(x, np.float32) * multiplier(1.0, over=quant.scale[0])
    return saturate(np.where(np.isnan(p), np.float32(0), p).astype(np.float32), quant.zero[0])


def _dequantize_infer(x: TensorType) -> TensorType:
    if x.quant is None or x.dtype not in (DType.I8, DType.I32):
        raise IRError(f"operand x: expected a quantized i8 or i32 tensor, got {show(x)}")
    return TensorType(x.shape, DType.F32)


def _dequantize_cases() -> Iterator[Case]:
    yield Case((qwave(2, 3, 5, scale=0.1, zero=-7),), {}, "tensor")
    yield Case((weights(4, 3, 2, 2),), {}, "per_axis")
    yield Case((QArray(np.arange(6, dtype=np.int8).reshape(2, 3), Quant((0.5, 2, 3), (1, -128, 127), 1)),), {}, "axis1")
    yield Case(
        (QArray(np.array([2**24 + 1, -(2**30), 7], np.int32), Quant((0.5, 0.25, 1e-3), (0, 0, 0), 0)),), {}, "i32"
    )


@op(infer=_dequantize_infer, tags="int8", cases=_dequantize_cases)
def dequantize(x: QArray) -> Array:
    """f32(q - z) * s; scale and zero point per tensor or per index of one axis."""
    scale = x.quant.broadcast(x.quant.scale_array(), x.data.ndim)
    return np.asarray(centered(x).astype(np.float32) * scale)


def _requantize_infer(x: TensorType, *, quant: Quant, lo: int, hi: int) -> TensorType:
    want_int8("x", x)
    want_bounds(lo, hi)
    return TensorType(x.shape, DType.I8, want_quant(quant))


def _requantize_cases() -> Iterator[Case]:
    yield Case((qwave(2, 3, 50, scale=0.1, zero=-7),), {"quant": Quant.per_tensor(0.13, 20)}, "plain")
    yield Case((qwave(300, scale=0.1, zero=3),), {"quant": Quant.per_tensor(0.02, -128)}, "saturates")
    yield Case((qwave(300, scale=0.1),), {"quant": Quant.per_tensor(0.2, -5), "lo": -5, "hi": 40}, "relu")


@op(infer=_requantize_infer, tags="int8", cases=_requantize_cases)
def requantize(x: QArray, *, quant: Quant, lo: int = -128, hi: int = 127) -> Array:
    """clamp(rint(f32(q - z_x) * f32(s_x/s_y)) + z_y, lo, hi): the same numbers at another scale."""
    p = centered(x).astype(np.float32) * multiplier(scale_of(x), over=quant.scale[0])
    return saturate(p, quant.zero[0], lo, hi)


# ---- convolution and linear


def _epilogue(
    acc: Array, m_axis: int, x: QArray, w: QArray, residual: QArray | None, quant: Quant | None, lo: int, hi: int
) -> Array:
    """Exact integer sums to the result: one product (plus the residual's), one rounding."""
    shape = [1] * acc.ndim
    shape[m_axis] = -1
    sums = acc.astype(np.int32).astype(np.float32)
    w_scale = w.quant.scale_array().reshape(shape)
    if quant is None:
        return np.asarray(sums * multiplier(scale_of(x), w_scale))
    p = sums * multiplier(scale_of(x), w_scale, over=quant.scale[0])
    if residual is not None:
        p = p + centered(residual).astype(np.float32) * multiplier(scale_of(residual), over=quant.scale[0])
    return saturate(p, quant.zero[0], lo, hi)


def _exact_dtype(w: Array) -> type[np.float32] | type[np.float64]:
    """A float type in which every partial sum of products with |x - z| <= 255 is an exact integer."""
    bound = int(np.abs(w.astype(np.int64)).reshape(w.shape[0], -1).sum(1).max(initial=0)) * 255
    return np.float32 if bound < 2**24 else np.float64


def _want_weights(w: TensorType, bias: TensorType | None) -> None:
    q = want_int8("w", w, per_tensor=False)
    if q.axis != 0 or any(q.zero):
        raise IRError("operand w: expected symmetric quant (zero 0) with one scale per index of axis 0")
    want_shape("bias", bias, (w.shape[0],))
    if bias is not None and bias.dtype is not DType.I32:
        raise IRError(f"operand bias: expected i32, got {show(bias)}")


def _anchor_result(shape: Ints, residual: TensorType | None, quant: Quant | None, lo: int, hi: int) -> TensorType:
    q = want_quant(quant, optional=True)
    want_bounds(lo, hi)
    if residual is not None:
        if q is None:
            raise IRError("operand residual: expected nothing when quant is None (float result)")
        want_int8("residual", residual)
        want_shape("residual", residual, shape)
    return TensorType(shape, DType.F32 if q is None else DType.I8, q)


def _qconv_infer(
    x: TensorType,
    w: TensorType,
    bias: TensorType | None,
    residual: TensorType | None,
    *,
    strides: Ints,
    pads: Ints,
    dilation: Ints,
    groups: int,
    quant: Quant | None,
    lo: int,
    hi: int,
) -> TensorType:
    want_int8("x", x)
    _want_weights(w, bias)
    return _anchor_result(conv_shape(x, w, strides, pads, dilation, groups), residual, quant, lo, hi)


def _qconv_cases() -> Iterator[Case]:
    for i, (name, xs, ws, attrs) in enumerate(conv_samples()):
        x = qwave(*xs, scale=0.02, zero=(-3, 127, -128, 0)[i % 4])
        w, b = weights(*ws, scale=0.002), biases(ws[0]) if i % 3 else None
        yield Case((x, w, b, None), {**attrs, "quant": Quant.per_tensor(0.3, 4)}, name)
        if i % 4 == 0:
            yield Case((x, w, b, None), {**attrs, "quant": None}, f"{name}_f32")
    x, w = qwave(1, 8, 5, 4, zero=9), weights(6, 8, 1, 1)
    r = qwave(1, 6, 5, 4, scale=0.7, zero=-20, step=1.1)
    yield Case((x, w, biases(6), r), {"quant": Quant.per_tensor(1.5, -128), "lo": -128, "hi": 100}, "residual")
    yield Case((x, w, None, None), {"quant": Quant.per_tensor(0.5, -10), "lo": -10, "hi": 60}, "clamped")
    yield Case((x, w, None, None), {"quant": Quant.per_tensor(1e-6, 3)}, "saturates")
    big = QArray(np.full((1, 600, 2, 2), -128, np.int8), Quant.per_tensor(0.01, 127))
    full = QArray(np.full((2, 600, 1, 1), 127, np.int8), Quant((0.01, 0.02), (0, 0), 0))
    yield Case((big, full, None, None), {"quant": Quant.per_tensor(20.0, 0)}, "large_sums")


@op(infer=_qconv_infer, tags="int8 channels_last", cases=_qconv_cases)
def qconv2d(
    x: QArray,
    w: QArray,
    bias: Array | None = None,
    residual: QArray | None = None,
    *,
    strides: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
    quant: Quant | None = None,
    lo: int = -128,
    hi: int = 127,
) -> Array:
    """conv2d on int8: x per tensor, w symmetric per output channel, bias int32 at scale s_x * s_w[c].

    acc = sum((x - z_x) * w) + bias, exact in int32; m[c] = f32(s_x * s_w[c] / s_y).
    y = clamp(rint(f32(acc) * m[c] [+ f32(r - z_r) * f32(s_r/s_y)]) + z_y, lo, hi), r the optional int8 residual.
    Padding is the zero point. With ``quant`` None the result is f32(acc) * f32(s_x * s_w[c]).
    """
    depthwise = w.data.shape[1] == 1
    dtype = np.int32 if depthwise else _exact_dtype(w.data)
    acc = conv_sum(pad_hw(centered(x).astype(dtype), pads), w.data.astype(dtype), strides, dilation, groups)
    b = unwrap(bias)
    if b is not None:
        acc = acc.astype(np.int64) + b.astype(np.int64)[:, None, None]
    return _epilogue(acc, 1, x, w, residual, quant, lo, hi)


def _qlinear_infer(
    x: TensorType,
    w: TensorType,
    bias: TensorType | None,
    residual: TensorType | None,
    *,
    quant: Quant | None,
    lo: int,
    hi: int,
) -> TensorType:
    want_int8("x", x)
    _want_weights(w, bias)
    if w.rank != 2 or x.rank == 0 or x.shape[-1] != w.shape[1]:
        raise IRError(f"operand w: expected [O, {x.shape[-1] if x.rank else '?'}] for x {show(x)}, got {show(w)}")
    return _anchor_result((*x.shape[:-1], w.shape[0]), residual, quant, lo, hi)


def _qlinear_cases() -> Iterator[Case]:
    y = Quant.per_tensor(0.4, -6)
    x, w = qwave(3, 40, zero=5), weights(7, 40)
    yield Case((x, w, biases(7), None), {"quant": y}, "bias")
    yield Case((qwave(2, 3, 16, zero=-128), weights(5, 16), None, None), {"quant": y}, "rank3")
    yield Case((x, w, biases(7), None), {}, "f32")
    yield Case((x, w, biases(7), qwave(3, 7, scale=0.3, zero=1)), {"quant": y, "lo": -6}, "residual_relu")


@op(infer=_qlinear_infer, tags="int8", cases=_qlinear_cases)
def qlinear(
    x: QArray,
    w: QArray,
    bias: Array | None = None,
    residual: QArray | None = None,
    *,
    quant: Quant | None = None,
    lo: int = -128,
    hi: int = 127,
) -> Array:
    """linear on int8: w [O, K]; operands, rounding, residual and ``quant`` None as in qconv2d."""
    dtype = _exact_dtype(w.data)
    acc: Array = np.matmul(centered(x).astype(dtype), w.data.astype(dtype).T)
    b = unwrap(bias)
    if b is not None:
        acc = acc.astype(np.int64) + b.astype(np.int64)
    return _epilogue(acc, acc.ndim - 1, x, w, residual, quant, lo, hi)


# ---- pointwise


def _qbinary_infer(a: TensorType, b: TensorType, *, quant: Quant, lo: int, hi: int) -> TensorType:
    want_int8("a", a)
    want_int8("b", b)
    want_bounds(lo, hi)
    return TensorType(broadcast(a.shape, b.shape, "a", "b"), DType.I8, want_quant(quant))


def _qbinary_cases() -> Iterator[Case]:
    y = Quant.per_tensor(0.09, -4)
    a, b = qwave(2, 3, 4, 5, scale=0.05, zero=-7), qwave(2, 3, 4, 5, scale=0.031, zero=127, step=1.9)
    yield Case((a, b), {"quant": y}, "same")
    yield Case((a, qwave(1, 3, 1, 1, zero=-128, step=2.3)), {"quant": y}, "channel")
    yield Case((qwave(5, zero=1), a), {"quant": y, "lo": -4, "hi": 90}, "lower_rank_clamped")
    yield Case((a, b), {"quant": Quant.per_tensor(0.001, 127)}, "saturates")


@op(infer=_qbinary_infer, tags="int8", cases=_qbinary_cases)
def qadd(a: QArray, b: QArray, *, quant: Quant, lo: int = -128, hi: int = 127) -> Array:
    """clamp(rint(f32(a - z_a) * f32(s_a/s_y) + f32(b - z_b) * f32(s_b/s_y)) + z_y, lo, hi), broadcasting."""
    s = quant.scale[0]
    p = centered(a).astype(np.float32) * multiplier(scale_of(a), over=s)
    r = centered(b).astype(np.float32) * multiplier(scale_of(b), over=s)
    return saturate(p + r, quant.zero[0], lo, hi)


@op(infer=_qbinary_infer, tags="int8", cases=_qbinary_cases)
def qmul(a: QArray, b: QArray, *, quant: Quant, lo: int = -128, hi: int = 127) -> Array:
    """clamp(rint(f32((a - z_a) * (b - z_b)) * f32(s_a * s_b / s_y)) + z_y, lo, hi), broadcasting."""
    m = multiplier(scale_of(a), scale_of(b), over=quant.scale[0])
    return saturate((centered(a) * centered(b)).astype(np.float32) * m, quant.zero[0], lo, hi)


def _qlut_infer(x: TensorType, table: TensorType, *, quant: Quant) -> TensorType:
    if x.dtype is not DType.I8:
        raise IRError(f"operand x: expected i8, got {show(x)}")
    channels = x.shape[1] if x.rank > 1 else 1
    if table.dtype is not DType.I8 or table.shape not in ((256,), (channels, 256)):
        raise IRError(f"operand table: expected i8[256] or i8[{channels},256], got {show(table)}")
    return TensorType(x.shape, DType.I8, want_quant(quant))


def _qlut_cases() -> Iterator[Case]:
    y = Quant.per_tensor(0.02, -3)
    line = np.arange(255, -1, -1).astype(np.uint8).view(np.int8)
    yield Case((qwave(2, 3, 40), line), {"quant": y}, "one")
    table = np.round(wave(3, 256, step=0.01, scale=127)).astype(np.int8)
    yield Case((qwave(2, 3, 8, 9, zero=4), table), {"quant": y}, "channels")
    yield Case((QArray(np.arange(-128, 128).astype(np.int8), Quant.per_tensor(1.0)), line), {"quant": y}, "all")


@op(infer=_qlut_infer, tags="int8", cases=_qlut_cases)
def qlut(x: QArray, table: Array, *, quant: Quant) -> Array:
    """table[x + 128]: any function of one int8 tensor; the table is i8 [256], or [C, 256] along axis 1."""
    t = unwrap(table)
    assert t is not None
    index = x.data.astype(np.int64) + 128
    if t.ndim == 1:
        return np.asarray(t[index])
    channel = np.arange(t.shape[0]).reshape((-1,) + (1,) * (x.data.ndim - 2))
    return np.asarray(t[channel, index])


# ---- averages and softmax


def _qavg_infer(
    x: TensorType, *, kernel: Ints, strides: Ints, pads: Ints, ceil: Ints, count_include_pad: bool, quant: Quant
) -> TensorType:
    want_int8("x", x)
    shape = avg_pool_shape(x, kernel, strides, pads, ceil, count_include_pad)
    return TensorType(shape, DType.I8, want_quant(quant))


def _qavg_cases() -> Iterator[Case]:
    for i, (name, attrs) in enumerate(avg_pool_attrs()):
        x = qwave(2, 3, 7, 6, zero=(-128, 5, 127)[i % 3], step=1.7)
        yield Case((x,), {**attrs, "quant": Quant.per_tensor(0.04, -9)}, name)


@op(infer=_qavg_infer, tags="int8 channels_last", cases=_qavg_cases)
def qavg_pool2d(
    x: QArray,
    *,
    kernel: Ints,
    strides: Ints,
    pads: Ints = (0, 0, 0, 0),
    ceil: Ints = (0, 0),
    count_include_pad: bool = True,
    quant: Quant,
) -> Array:
    """avg_pool2d on int8: clamp(rint(f32(sum(q - z_x)) * f32(s_x / (s_y * count))) + z_y)."""
    count = pool_counts(x.data.shape, kernel, strides, pads, ceil, count_include_pad)
    sums = pool_sums(centered(x), kernel, strides, pads, ceil).astype(np.float32)
    m = multiplier(scale_of(x), over=np.float64(quant.scale[0]) * count)
    return saturate(sums * m, quant.zero[0])


def _qmean_infer(x: TensorType, *, axes: Ints, keepdims: bool, quant: Quant) -> TensorType:
    want_int8("x", x)
    shape = reduced_shape(x.shape, axes, keepdims)
    if any(x.shape[a] == 0 for a in axes):
        raise IRError(f"operand x: axes {list(axes)} of {show(x)} hold nothing to reduce")
    return TensorType(shape, DType.I8, want_quant(quant))


def _qmean_cases() -> Iterator[Case]:
    y = Quant.per_tensor(0.03, 11)
    yield Case((qwave(2, 5, 7, 7, zero=-128),), {"axes": (2, 3), "quant": y}, "global")
    yield Case((qwave(2, 5, 3, 4, zero=3),), {"axes": (1,), "keepdims": True, "quant": y}, "keepdims")
    yield Case((qwave(4, 9, zero=127),), {"axes": (-1,), "quant": y}, "last")


@op(infer=_qmean_infer, tags="int8", cases=_qmean_cases)
def qmean(x: QArray, *, axes: Ints, keepdims: bool = False, quant: Quant) -> Array:
    """reduce_mean on int8: clamp(rint(f32(sum(q - z_x)) * f32(s_x / (s_y * count))) + z_y)."""
    count = int(np.prod([x.data.shape[a] for a in axes]))
    sums = centered(x).astype(np.int64).sum(axes, keepdims=keepdims).astype(np.float32)
    m = multiplier(scale_of(x), over=np.float64(quant.scale[0]) * count)
    return saturate(np.asarray(sums * m), quant.zero[0])


def softmax_table(scale: float) -> I32:
    """The table of qsoftmax for an input scale: rint(2**23 * exp(-scale * d)), d = 0..255, in float64."""
    return np.rint(2.0**23 * np.exp(-np.float64(scale) * np.arange(256))).astype(np.int32)


def _qsoftmax_infer(x: TensorType, table: TensorType, *, axis: int, quant: Quant | None) -> TensorType:
    want_int8("x", x)
    axis_of("axis", axis, x.rank)
    if table.dtype is not DType.I32 or table.shape != (256,):
        raise IRError(f"operand table: expected i32[256], got {show(table)}")
    q = want_quant(quant, optional=True)
    return TensorType(x.shape, DType.F32 if q is None else DType.I8, q)


def _qsoftmax_cases() -> Iterator[Case]:
    y = Quant.per_tensor(1 / 256, -128)
    yield Case((qwave(3, 40, scale=0.1), softmax_table(0.1)), {"axis": -1, "quant": y}, "int8")
    yield Case((qwave(3, 40, scale=0.1, zero=9), softmax_table(0.1)), {"axis": 1}, "f32")
    yield Case((qwave(2, 6, 4, scale=0.02), softmax_table(0.02)), {"axis": 1, "quant": y}, "middle")
    yield Case((qwave(2, 1, scale=3.0), softmax_table(3.0)), {"axis": 1, "quant": y}, "one")


@op(infer=_qsoftmax_infer, tags="int8", cases=_qsoftmax_cases)
def qsoftmax(x: QArray, table: Array, *, axis: int, quant: Quant | None = None) -> Array:
    """softmax on int8 along ``axis``, without exp at run time.

    e = table[max - q], table = i32[256] from softmax_table; y = f32(e) / f32(sum(e)), the sum exact in int64.
    With ``quant``: clamp(rint(y * f32(1/s)) + z).
    """
    t = unwrap(table)
    assert t is not None
    q = x.data.astype(np.int64)
    e = t[q.max(axis, keepdims=True) - q].astype(np.int64)
    y = e.astype(np.float32) / e.sum(axis, keepdims=True).astype(np.float32)
    if quant is None:
        return np.asarray(y)
    return saturate(np.asarray(y * multiplier(1.0, over=quant.scale[0])), quant.zero[0])
