"""Convolutions over NCHW tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, TensorType
from irkit.ops.check import out_size, show, want_float, want_ints, want_rank, want_shape
from irkit.ops.linear import wave

Ints = tuple[int, ...]


def conv_shape(x: TensorType, w: TensorType, strides: Ints, pads: Ints, dilation: Ints, groups: int) -> Ints:
    """Result shape of conv2d and its quantized form, after checking operands and attributes."""
    want_rank("x", x, 4)
    want_rank("w", w, 4)
    want_ints("strides", strides, 2, 1)
    want_ints("pads", pads, 4)
    want_ints("dilation", dilation, 2, 1)
    want_ints("groups", (groups,), 1, 1)
    n, c, h, width = x.shape
    o, ci, kh, kw = w.shape
    if c % groups or o % groups:
        raise IRError(f"attribute groups: expected a divisor of {c} input and {o} output channels, got {groups}")
    if ci != c // groups:
        raise IRError(f"operand w: expected {c // groups} input channels (x has {c}, {groups} groups), got {show(w)}")
    if kh < 1 or kw < 1:
        raise IRError(f"operand w: expected a kernel of at least 1x1, got {show(w)}")
    return (
        n,
        o,
        out_size(h, kh, strides[0], pads[0], pads[2], dilation[0], "height"),
        out_size(width, kw, strides[1], pads[1], pads[3], dilation[1], "width"),
    )


def _conv_infer(
    x: TensorType, w: TensorType, bias: TensorType | None, *, strides: Ints, pads: Ints, dilation: Ints, groups: int
) -> TensorType:
    dtype = want_float(x=x, w=w, bias=bias)
    shape = conv_shape(x, w, strides, pads, dilation, groups)
    want_shape("bias", bias, (w.shape[0],))
    return TensorType(shape, dtype)


def windows(x: Array, kernel: tuple[int, int], strides: Ints, dilation: Ints) -> Array:
    """View [N, C, OH, OW, KH, KW] of the windows of an already padded NCHW array."""
    kh, kw = kernel
    span = ((kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1)
    v = sliding_window_view(x, span, (2, 3))
    return v[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]


def conv_sum(x: Array, w: Array, strides: Ints, dilation: Ints, groups: int) -> Array:
    """Sums of products of an already padded x with w, in their dtype: [N, O, OH, OW]."""
    n = x.shape[0]
    o, ci, kh, kw = w.shape
    v = windows(x, (kh, kw), strides, dilation)
    oh, ow = v.shape[2:4]
    if ci == 1:  # depthwise: one multiply-add of whole planes a tap, no copy of windows
        xs = np.repeat(v, o // groups, axis=1) if o != groups else v
        acc = np.zeros((n, o, oh, ow), x.dtype)
        for i in range(kh):
            for j in range(kw):
                acc += xs[..., i, j] * w[:, 0, i, j][:, None, None]
        return acc
    k = ci * kh * kw
    cols = v.reshape(n, groups, ci, oh, ow, kh, kw).transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, n * oh * ow, k)
    y = cols @ w.reshape(groups, o // groups, k).transpose(0, 2, 1)  # [g, P, O/g]
    y = y.reshape(groups, n, oh, ow, o // groups).transpose(1, 0, 4, 2, 3)
    return np.ascontiguousarray(y).reshape(n, o, oh, ow)


def pad_hw(x: Array, pads: Ints, value: float = 0) -> Array:
    """x with (top, left, bottom, right) rows and columns of ``value`` around it."""
    if not any(pads):
        return x
    t, left, b, r = pads
    return np.pad(x, ((0, 0), (0, 0), (t, b), (left, r)), constant_values=x.dtype.type(value))


def conv_samples() -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, object]]]:
    """Name, x shape, w shape, attributes: shared by the float and the quantized convolution."""
    yield "1x1", (1, 8, 5, 4), (6, 8, 1, 1), {}
    yield "3x3", (2, 3, 7, 6), (4, 3, 3, 3), {"pads": (1, 1, 1, 1)}
    yield "stride", (1, 3, 9, 8), (5, 3, 3, 3), {"strides": (2, 1), "pads": (1, 0, 0, 2)}
    yield "same_stem", (1, 3, 16, 16), (8, 3, 3, 3), {"strides": (2, 2), "pads": (0, 0, 1, 1)}
    yield "dilation", (1, 2, 11, 9), (3, 2, 3, 2), {"dilation": (2, 3), "pads": (2, 1, 2, 1)}
    yield "groups", (1, 6, 5, 5), (4, 3, 3, 3), {"groups": 2}
    yield "depthwise", (2, 6, 7, 7), (6, 1, 3, 3), {"groups": 6, "pads": (1, 1, 1, 1)}
    yield "depthwise_5x5_s2", (1, 4, 11, 10), (4, 1, 5, 5), {"groups": 4, "pads": (1, 2, 2, 1), "strides": (2, 2)}
    yield "multiplier", (1, 3, 5, 5), (6, 1, 3, 3), {"groups": 3, "pads": (1, 1, 1, 1)}
    yield "row", (1, 4, 1, 12), (5, 4, 1, 5), {"pads": (0, 2, 0, 2)}
    yield "whole", (1, 4, 5, 5), (3, 4, 5, 5), {}
    yield "stride_over_kernel", (1, 2, 8, 8), (3, 2, 1, 1), {"strides": (3, 2)}


def _conv_cases() -> Iterator[Case]:
    for i, (name, xs, ws, attrs) in enumerate(conv_samples()):
        bias = wave(ws[0], step=1.3) if i % 3 else None
        yield Case((wave(*xs), wave(*ws, step=0.71), bias), attrs, name)


@op(infer=_conv_infer, tags="anchor channels_last", cases=_conv_cases)
def conv2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    strides: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """Cross-correlation of NCHW x with w [O, I/groups, KH, KW], plus bias [O].

    ``pads`` are zeros at (top, left, bottom, right). Result: [N, O, OH, OW].
    """
    y = conv_sum(pad_hw(x, pads), w, strides, dilation, groups)
    return y if bias is None else np.asarray(y + bias[:, None, None])


def _deconv_infer(
    x: TensorType,
    w: TensorType,
    bias: TensorType | None,
    *,
    strides: Ints,
    pads: Ints,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> TensorType:
    dtype = want_float(x=x, w=w, bias=bias)
    want_rank("x", x, 4)
    want_rank("w", w, 4)
    want_ints("strides", strides, 2, 1)
    want_ints("pads", pads, 4)
    want_ints("output_padding", output_padding, 2)
    want_ints("dilation", dilation, 2, 1)
    want_ints("groups", (groups,), 1, 1)
    n, c, h, width = x.shape
    ci, og, kh, kw = w.shape
    if c % groups:
        raise IRError(f"attribute groups: expected a divisor of {c} input channels, got {groups}")
    if ci != c:
        raise IRError(f"operand w: expected {c} input channels like x, got {show(w)}")
    for i in (0, 1):
        if output_padding[i] >= max(strides[i], dilation[i]):
            raise IRError(f"attribute output_padding: expected less than stride or dilation, got {output_padding}")
    if h < 1 or width < 1:
        raise IRError(f"operand x: expected at least one row and column, got {show(x)}")
    oh = (h - 1) * strides[0] + (kh - 1) * dilation[0] + 1 + output_padding[0] - pads[0] - pads[2]
    ow = (width - 1) * strides[1] + (kw - 1) * dilation[1] + 1 + output_padding[1] - pads[1] - pads[3]
    if oh < 1 or ow < 1:
        raise IRError(f"attribute pads: crops everything of {show(x)}: result would be {oh}x{ow}")
    want_shape("bias", bias, (og * groups,))
    return TensorType((n, og * groups, oh, ow), dtype)


def _deconv_cases() -> Iterator[Case]:
    yield Case(
        (wave(1, 3, 4, 5), wave(3, 4, 3, 3, step=0.71), wave(4)), {"strides": (2, 2), "pads": (1, 1, 1, 1)}, "s2"
    )
    yield Case(
        (wave(2, 4, 3, 3), wave(4, 2, 4, 4, step=0.71), None),
        {"strides": (2, 2), "pads": (1, 1, 1, 1), "groups": 2},
        "groups",
    )
    yield Case(
        (wave(1, 2, 4, 3), wave(2, 3, 3, 2, step=0.71), wave(3)),
        {"strides": (3, 2), "pads": (1, 0, 1, 0), "output_padding": (1, 1)},
        "output_padding",
    )
    yield Case((wave(1, 2, 5, 5), wave(2, 1, 2, 2, step=0.71), None), {"dilation": (2, 1)}, "dilation")
    yield Case(
        (wave(1, 2, 4, 4), wave(2, 3, 3, 3, step=0.71), None), {"strides": (2, 2), "pads": (0, 0, 1, 1)}, "asymmetric"
    )
    yield Case((wave(1, 2, 3, 3), wave(2, 3, 2, 2, step=0.71), None), {"strides": (3, 3)}, "gaps")


@op(infer=_deconv_infer, tags="channels_last", cases=_deconv_cases)
def conv_transpose2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    strides: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    output_padding: Ints = (0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """Transpose of conv2d: every x[n, i] adds x * w[i] to a window of the result.

    w is [I, O/groups, KH, KW]; ``pads`` (top, left, bottom, right) crop the result; ``output_padding`` adds rows and
    columns at the bottom and right. Extent: (H-1)*stride + dilation*(KH-1) + 1 + output_padding - top - bottom.
    """
    n, c, h, width = x.shape
    _, og, kh, kw = w.shape
    (sh, sw), (dh, dw) = strides, dilation
    full = np.zeros((n, groups * og, (h - 1) * sh + (kh - 1) * dh + 1, (width - 1) * sw + (kw - 1) * dw + 1), x.dtype)
    xg = x.reshape(n, groups, c // groups, h * width).transpose(0, 1, 3, 2)
    wg = w.reshape(groups, c // groups, og * kh * kw)
    taps = (xg @ wg).reshape(n, groups, h, width, og, kh, kw).transpose(0, 1, 4, 2, 3, 5, 6)
    taps = taps.reshape(n, groups * og, h, width, kh, kw)
    for i in range(kh):
        for j in range(kw):
            full[:, :, i * dh : i * dh + (h - 1) * sh + 1 : sh, j * dw : j * dw + (width - 1) * sw + 1 : sw] += taps[
                ..., i, j
            ]
    t, left, b, r = pads
    grown = pad_hw(full, (0, 0, *output_padding))
    y = grown[:, :, t : grown.shape[2] - b, left : grown.shape[3] - r]
    return np.ascontiguousarray(y) if bias is None else np.asarray(y + bias[:, None, None])
