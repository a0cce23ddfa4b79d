"""Ops that move data without changing numbers (and bilinear resizing, which lives with its nearest sibling)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, DType, Quant, TensorType
from irkit.ops.check import axis_of, keep_quant, show, want_choice, want_ints, want_rank
from irkit.ops.linear import wave

Ints = tuple[int, ...]

#: Operands of one concat that a step of a plan takes, which has 64 buffers (kernels/base/types.h).
MAX_JOINED = 62


def _i8(*shape: int) -> Array:
    return np.round(wave(*shape) * 127).astype(np.int8)


def _reshape_infer(x: TensorType, *, shape: Ints) -> TensorType:
    if not isinstance(shape, tuple):
        raise IRError(f"attribute shape: expected a tuple of ints, got {shape!r}")
    want_ints("shape", shape, len(shape))
    if math.prod(shape) != x.size:
        raise IRError(f"attribute shape: expected {x.size} elements like {show(x)}, got {list(shape)}")
    q = x.quant
    if q is not None and q.axis is not None:
        if x.shape[: q.axis + 1] != shape[: q.axis + 1]:
            raise IRError(f"attribute shape: expected axes 0..{q.axis} of {show(x)} unchanged (quantized along them)")
        return TensorType(shape, x.dtype, q)
    return keep_quant(x, shape)


def _reshape_cases() -> Iterator[Case]:
    yield Case((wave(2, 3, 4),), {"shape": (6, 4)}, "merge")
    yield Case((wave(2, 3, 4),), {"shape": (2, 1, 12)}, "split")
    yield Case((wave(1),), {"shape": ()}, "scalar")
    yield Case((_i8(2, 6),), {"shape": (3, 4)}, "i8")


@op(infer=_reshape_infer, tags="view same_scale", cases=_reshape_cases)
def reshape(x: Array, *, shape: Ints) -> Array:
    """The same elements in row-major order with another shape, given in full."""
    return x.reshape(shape)


def _permute_infer(x: TensorType, *, perm: Ints) -> TensorType:
    if not isinstance(perm, tuple) or sorted(perm) != list(range(x.rank)):
        raise IRError(f"attribute perm: expected a permutation of the {x.rank} axes of {show(x)}, got {perm!r}")
    return keep_quant(x, [x.shape[p] for p in perm], perm)


def _permute_cases() -> Iterator[Case]:
    yield Case((wave(2, 3, 4, 5),), {"perm": (0, 2, 3, 1)}, "nhwc")
    yield Case((wave(2, 3, 4),), {"perm": (2, 0, 1)}, "rotate")
    yield Case((_i8(2, 3),), {"perm": (1, 0)}, "i8")
    yield Case((np.array(1.5, np.float32),), {"perm": ()}, "scalar")


@op(infer=_permute_infer, tags="view same_scale", cases=_permute_cases)
def permute(x: Array, *, perm: Ints) -> Array:
    """Axes reordered: axis i of the result is axis perm[i] of x."""
    return np.asarray(np.transpose(x, perm), order="C")


def _concat_infer(*xs: TensorType, axis: int) -> TensorType:
    if not xs:
        raise IRError("operands xs: expected at least one tensor, got none")
    first = xs[0]
    ax = axis_of("axis", axis, first.rank)
    for i, x in enumerate(xs[1:], 1):
        same = x.rank == first.rank and x.shape[:ax] + x.shape[ax + 1 :] == first.shape[:ax] + first.shape[ax + 1 :]
        if x.dtype is not first.dtype or not same:
            raise IRError(f"operand xs[{i}]: expected {show(first)} but for axis {ax}, got {show(x)}")
        if x.quant != first.quant:
            raise IRError(f"operand xs[{i}]: expected quant {first.quant} like xs[0], got {x.quant}")
    keep = [i if i != ax else -1 for i in range(first.rank)]
    if first.quant is not None and first.quant.axis == ax:
        raise IRError("operand xs[0]: expected per-tensor quant or one along another axis")
    return keep_quant(first, (*first.shape[:ax], sum(x.shape[ax] for x in xs), *first.shape[ax + 1 :]), keep)


def _concat_cases() -> Iterator[Case]:
    yield Case((wave(2, 3, 4), wave(2, 1, 4), wave(2, 5, 4)), {"axis": 1}, "three")
    yield Case((wave(2, 3), wave(2, 4)), {"axis": -1}, "last")
    yield Case((wave(2, 3),), {"axis": 0}, "one")
    yield Case((_i8(1, 3, 2, 2), _i8(1, 2, 2, 2)), {"axis": 1}, "i8")


@op(infer=_concat_infer, tags="same_scale", cases=_concat_cases)
def concat(*xs: Array, axis: int) -> Array:
    """Tensors joined along ``axis``; quantized ones must share one quant."""
    return np.concatenate(xs, axis)


def _slice_infer(x: TensorType, *, starts: Ints, ends: Ints, steps: Ints) -> TensorType:
    want_ints("starts", starts, x.rank)
    want_ints("ends", ends, x.rank)
    want_ints("steps", steps, x.rank, 1)
    for ax, (s, e, d) in enumerate(zip(starts, ends, x.shape, strict=True)):
        if not s <= e <= d:
            raise IRError(f"attributes starts, ends: expected 0 <= start <= end <= {d} on axis {ax}, got {s}, {e}")
    if x.quant is not None and x.quant.axis is not None:
        ax = x.quant.axis
        pick = slice(starts[ax], ends[ax], steps[ax])
        q: Quant | None = replace(x.quant, scale=x.quant.scale[pick], zero=x.quant.zero[pick])
    else:
        q = x.quant
    shape = tuple(len(range(s, e, st)) for s, e, st in zip(starts, ends, steps, strict=True))
    return TensorType(shape, x.dtype, q)


def _slice_cases() -> Iterator[Case]:
    yield Case((wave(2, 5, 6),), {"starts": (0, 1, 2), "ends": (2, 4, 6), "steps": (1, 1, 1)}, "plain")
    yield Case((wave(2, 5, 6),), {"starts": (1, 0, 1), "ends": (2, 5, 6), "steps": (1, 2, 3)}, "steps")
    yield Case(
        (
            wave(
                4,
            ),
        ),
        {"starts": (2,), "ends": (2,), "steps": (1,)},
        "empty",
    )
    yield Case((_i8(3, 4),), {"starts": (0, 1), "ends": (3, 3), "steps": (2, 1)}, "i8")


@op(infer=_slice_infer, tags="same_scale", cases=_slice_cases, name="slice")
def slice_(x: Array, *, starts: Ints, ends: Ints, steps: Ints) -> Array:
    """x[starts[0]:ends[0]:steps[0], ...]: one entry per axis, all within the shape, steps positive."""
    at = tuple(slice(s, e, st) for s, e, st in zip(starts, ends, steps, strict=True))
    return np.asarray(x[at], order="C")  # np.ascontiguousarray would promote rank 0 to 1


def _pad_infer(x: TensorType, *, pads: tuple[Ints, ...], value: float, mode: str) -> TensorType:
    want_choice("mode", mode, "constant", "reflect", "edge")
    if not isinstance(pads, tuple) or len(pads) != x.rank:
        raise IRError(f"attribute pads: expected {x.rank} pairs, one per axis of {show(x)}, got {pads!r}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise IRError(f"attribute value: expected a number, got {value!r}")
    if not x.dtype.is_float and mode == "constant" and x.dtype is not DType.BOOL:
        info = np.iinfo(x.dtype.numpy)
        if not math.isfinite(value) or value != int(value) or not info.min <= value <= info.max:
            raise IRError(f"attribute value: expected an integer that fits {x.dtype.value}, got {value!r}")
    for ax, pair in enumerate(pads):
        b, e = want_ints(f"pads[{ax}]", pair, 2)
        d = x.shape[ax]
        if (mode == "reflect" and max(b, e) >= max(d, 1)) or (mode == "edge" and d == 0 and (b or e)):
            raise IRError(f"attribute pads: {mode} padding of {b} and {e} needs more than the {d} of axis {ax}")
    q = x.quant
    if q is not None and q.axis is not None and any(pads[q.axis]):
        raise IRError(f"attribute pads: axis {q.axis} is quantized per index and can't be padded")
    return keep_quant(x, [b + d + e for d, (b, e) in zip(x.shape, pads, strict=True)], tuple(range(x.rank)))


def _pad_cases() -> Iterator[Case]:
    yield Case((wave(1, 2, 4, 5),), {"pads": ((0, 0), (0, 0), (1, 2), (0, 3))}, "zeros")
    yield Case((wave(2, 3),), {"pads": ((1, 0), (2, 1)), "value": -1.5}, "value")
    yield Case((wave(2, 3),), {"pads": ((0, 0), (0, 1)), "value": -math.inf}, "minus_inf")
    yield Case((wave(1, 2, 4, 5),), {"pads": ((0, 0), (0, 0), (2, 3), (1, 4)), "mode": "reflect"}, "reflect")
    yield Case((wave(1, 2, 4, 5),), {"pads": ((0, 0), (0, 0), (2, 3), (6, 0)), "mode": "edge"}, "edge")
    yield Case((_i8(2, 3),), {"pads": ((0, 1), (1, 1)), "value": -7}, "i8")
    yield Case((np.array(1.5, np.float32),), {"pads": ()}, "scalar")


@op(infer=_pad_infer, tags="same_scale", cases=_pad_cases)
def pad(x: Array, *, pads: tuple[Ints, ...], value: float = 0.0, mode: str = "constant") -> Array:
    """x with (before, after) elements added on every axis.

    ``constant`` adds ``value`` (of quantized tensors: the stored integer), ``reflect`` mirrors without repeating the
    border, ``edge`` repeats the border.
    """
    if not pads:  # rank 0
        return x
    if mode == "constant":
        return np.pad(x, pads, constant_values=x.dtype.type(value))
    return np.pad(x, pads, mode="reflect" if mode == "reflect" else "edge")


def _expand_infer(x: TensorType, *, shape: Ints) -> TensorType:
    if not isinstance(shape, tuple):
        raise IRError(f"attribute shape: expected a tuple of ints, got {shape!r}")
    want_ints("shape", shape, len(shape))
    grow = len(shape) - x.rank
    if grow < 0 or any(d not in (1, s) for d, s in zip(x.shape, shape[grow:], strict=True)):
        raise IRError(f"attribute shape: {show(x)} does not broadcast to {list(shape)}")
    q = x.quant
    if q is not None and q.axis is not None and x.shape[q.axis] != shape[grow + q.axis]:
        raise IRError(f"attribute shape: axis {q.axis} is quantized per index and can't be repeated")
    return keep_quant(x, shape, [i - grow for i in range(len(shape))])


def _expand_cases() -> Iterator[Case]:
    yield Case((wave(2, 1, 3),), {"shape": (2, 4, 3)}, "middle")
    yield Case((wave(3),), {"shape": (2, 2, 3)}, "rank")
    yield Case((_i8(1, 2),), {"shape": (3, 2)}, "i8")
    yield Case((np.array(1.5, np.float32),), {"shape": ()}, "scalar")


@op(infer=_expand_infer, tags="same_scale", cases=_expand_cases)
def expand(x: Array, *, shape: Ints) -> Array:
    """x repeated along axes of extent 1 (and new leading axes) up to ``shape``."""
    return np.asarray(np.broadcast_to(x, shape), order="C")


def _resize_infer(
    x: TensorType, *, size: Ints, mode: str, coords: str, scales: tuple[float, float] | None
) -> TensorType:
    want_rank("x", x, 4)
    want_ints("size", size, 2, 1)
    want_choice("mode", mode, "nearest", "bilinear")
    if mode == "nearest":
        want_choice("coords", coords, "half_pixel", "asymmetric")
        if x.dtype is DType.BOOL:
            raise IRError(f"operand x: expected numbers, got {show(x)}")
    else:
        want_choice("coords", coords, "half_pixel", "align_corners", "asymmetric")
        if not x.dtype.is_float or x.quant is not None:
            raise IRError(f"operand x: expected a float tensor for bilinear resizing, got {show(x)}")
    if scales is not None and not (
        isinstance(scales, tuple) and len(scales) == 2 and all(math.isfinite(s) and s > 0 for s in scales)
    ):
        raise IRError(f"attribute scales: expected two positive numbers or None, got {scales!r}")
    if 0 in x.shape[2:]:
        raise IRError(f"operand x: expected at least one row and column, got {show(x)}")
    return keep_quant(x, (*x.shape[:2], *size), (0, 1, 2, 3))


def nearest_sources(size: int, out: int, coords: str, scale: float | None) -> Array:
    """Source index of every result index along one axis, with PyTorch's float32 arithmetic: int64 [out]."""
    ratio = np.float32(1.0 / scale) if scale is not None else np.float32(size) / np.float32(out)
    at = np.arange(out, dtype=np.float32) + np.float32(0.5 if coords == "half_pixel" else 0.0)
    return np.asarray(np.minimum(np.floor(at * ratio).astype(np.int64), size - 1))


def bilinear_sources(size: int, out: int, coords: str, scale: float | None) -> tuple[Array, Array, Array]:
    """Lower and upper source index (int64) and weight of the upper one (float32) along one axis, each [out]."""
    at = np.arange(out, dtype=np.float64)
    if coords == "align_corners":
        src = at * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        ratio = 1.0 / scale if scale is not None else size / out
        src = np.maximum((at + 0.5) * ratio - 0.5, 0.0) if coords == "half_pixel" else at * ratio
    low = np.minimum(np.floor(src).astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), np.clip(src - low, 0.0, 1.0).astype(np.float32)


def _resize_cases() -> Iterator[Case]:
    x = wave(1, 2, 4, 5, step=1.7)
    yield Case((x,), {"size": (8, 10), "mode": "nearest", "coords": "asymmetric"}, "nearest_2x")
    yield Case((x,), {"size": (7, 3), "mode": "nearest", "coords": "asymmetric"}, "nearest_odd")
    yield Case((x,), {"size": (7, 3), "mode": "nearest", "coords": "half_pixel"}, "nearest_exact")
    scaled = {"size": (9, 12), "mode": "nearest", "coords": "asymmetric", "scales": (2.3, 2.5)}
    yield Case((x,), scaled, "nearest_scales")
    yield Case((x,), {"size": (8, 10), "mode": "bilinear", "coords": "half_pixel"}, "bilinear_2x")
    yield Case((x,), {"size": (3, 9), "mode": "bilinear", "coords": "align_corners"}, "bilinear_corners")
    yield Case((x,), {"size": (1, 1), "mode": "bilinear", "coords": "align_corners"}, "bilinear_one")
    scaled = {"size": (6, 11), "mode": "bilinear", "coords": "half_pixel", "scales": (1.6, 2.3)}
    yield Case((x,), scaled, "bilinear_scales")
    yield Case((x,), {"size": (8, 10), "mode": "bilinear", "coords": "asymmetric"}, "bilinear_asymmetric")
    yield Case((_i8(1, 2, 3, 3),), {"size": (6, 6), "mode": "nearest", "coords": "asymmetric"}, "i8")


@op(infer=_resize_infer, tags="same_scale channels_last", cases=_resize_cases)
def resize2d(
    x: Array,
    *,
    size: Ints,
    mode: str = "nearest",
    coords: str = "half_pixel",
    scales: tuple[float, float] | None = None,
) -> Array:
    """NCHW x resized to ``size`` = (OH, OW).

    Source coordinate of result index i, with r = 1/scales (or H/OH when None): ``asymmetric`` i*r, ``half_pixel``
    (i+0.5)*r - 0.5, ``align_corners`` i*(H-1)/(OH-1). ``nearest`` takes floor(i*r) or, for half_pixel,
    floor((i+0.5)*r); ``bilinear`` blends the four neighbours (rows first, then columns). Matches PyTorch's
    upsampling: nearest = asymmetric, nearest-exact = half_pixel.
    """
    sh, sw = scales if scales is not None else (None, None)
    if mode == "nearest":
        rows = nearest_sources(x.shape[2], size[0], coords, sh)
        cols = nearest_sources(x.shape[3], size[1], coords, sw)
        return np.asarray(np.ascontiguousarray(x[:, :, rows[:, None], cols]))
    r0, r1, rt = bilinear_sources(x.shape[2], size[0], coords, sh)
    c0, c1, ct = bilinear_sources(x.shape[3], size[1], coords, sw)
    rt, ct = rt.astype(x.dtype)[:, None], ct.astype(x.dtype)
    one = x.dtype.type(1)
    rows = x[:, :, r0] * (one - rt) + x[:, :, r1] * rt
    return np.asarray(rows[..., c0] * (one - ct) + rows[..., c1] * ct)
