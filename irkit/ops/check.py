"""Checks that infer functions share. Each raises IRError naming the operand, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from irkit.errors import IRError
from irkit.ir.types import DType, Quant, TensorType

FLOATS = (DType.F32, DType.F64)


def show(t: TensorType | None) -> str:
    """``f32[1,2]``, as in the text form."""
    return "nothing" if t is None else f"{t.dtype.value}[{','.join(map(str, t.shape))}]"


def want_float(**operands: TensorType | None) -> DType:
    """All present operands are plain (not quantized) floats of one dtype, which is returned."""
    dtype: DType | None = None
    for name, t in operands.items():
        if t is None:
            continue
        if not t.dtype.is_float or t.quant is not None:
            extra = " (quantized)" if t.quant is not None else ""
            raise IRError(f"operand {name}: expected a float tensor, got {show(t)}{extra}")
        if dtype is not None and t.dtype is not dtype:
            raise IRError(f"operand {name}: expected {dtype.value} like the first operand, got {show(t)}")
        dtype = t.dtype
    assert dtype is not None
    return dtype


def want_rank(name: str, t: TensorType, *ranks: int) -> None:
    """The operand has one of these ranks."""
    if t.rank not in ranks:
        raise IRError(f"operand {name}: expected rank {' or '.join(map(str, ranks))}, got {show(t)}")


def want_shape(name: str, t: TensorType | None, shape: Sequence[int]) -> None:
    """The operand, when present, has exactly this shape."""
    if t is not None and t.shape != tuple(shape):
        raise IRError(f"operand {name}: expected shape {list(shape)}, got {show(t)}")


def want_ints(name: str, values: object, count: int, lo: int = 0) -> tuple[int, ...]:
    """The attribute is ``count`` ints, each at least ``lo``."""
    if (
        not isinstance(values, tuple)
        or len(values) != count
        or any(isinstance(v, bool) or not isinstance(v, int) or v < lo for v in values)
    ):
        raise IRError(f"attribute {name}: expected {count} ints >= {lo}, got {values!r}")
    return values


def want_choice(name: str, value: object, *choices: str) -> None:
    """The attribute is one of these words."""
    if value not in choices:
        raise IRError(f"attribute {name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def want_int8(name: str, t: TensorType, *, per_tensor: bool = True) -> Quant:
    """The operand is int8 with a quant (per tensor unless told otherwise), which is returned."""
    if t.dtype is not DType.I8 or t.quant is None:
        lack = "" if t.quant else " (no quant)"
        raise IRError(f"operand {name}: expected a quantized i8 tensor, got {show(t)}{lack}")
    if per_tensor and t.quant.axis is not None:
        raise IRError(f"operand {name}: expected per-tensor quant, got one per index of axis {t.quant.axis}")
    return t.quant


def want_quant(quant: object, *, optional: bool = False) -> Quant | None:
    """The attribute ``quant`` is a per-tensor Quant whose zero point is an int8."""
    if quant is None and optional:
        return None
    if not isinstance(quant, Quant) or quant.axis is not None:
        raise IRError(f"attribute quant: expected a per-tensor Quant, got {quant!r}")
    if not -128 <= quant.zero[0] <= 127:
        raise IRError(f"attribute quant: expected a zero point in [-128, 127], got {quant.zero[0]}")
    return quant


def want_bounds(lo: object, hi: object) -> None:
    """Attributes ``lo`` and ``hi`` are ints with -128 <= lo <= hi <= 127."""
    if not (isinstance(lo, int) and isinstance(hi, int) and -128 <= lo <= hi <= 127):
        raise IRError(f"attributes lo, hi: expected ints with -128 <= lo <= hi <= 127, got {lo!r}, {hi!r}")


def axis_of(name: str, axis: int, rank: int) -> int:
    """``axis`` counted from the front; IRError when out of range."""
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise IRError(f"attribute {name}: expected an axis of a rank-{rank} tensor, got {axis!r}")
    return axis % rank


def axes_of(name: str, axes: object, rank: int) -> tuple[int, ...]:
    """Distinct axes, counted from the front, ascending."""
    if not isinstance(axes, tuple) or not axes:
        raise IRError(f"attribute {name}: expected a non-empty tuple of axes, got {axes!r}")
    out = tuple(sorted(axis_of(name, a, rank) for a in axes))
    if len(set(out)) != len(out):
        raise IRError(f"attribute {name}: repeated axis in {axes!r}")
    return out


def broadcast(a: tuple[int, ...], b: tuple[int, ...], *names: str) -> tuple[int, ...]:
    """The NumPy broadcast of two shapes; IRError naming the operands when there is none."""
    rank = max(len(a), len(b))
    out = []
    for x, y in zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True):
        if x != y and 1 not in (x, y):
            raise IRError(f"operands {' and '.join(names)}: shapes {list(a)} and {list(b)} don't broadcast")
        out.append(y if x == 1 else x)
    return tuple(out)


def out_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, axis: str) -> int:
    """Output extent of a window sliding over one axis; IRError when the window does not fit once."""
    span = dilation * (kernel - 1) + 1
    room = size + before + after - span
    if room < 0:
        raise IRError(
            f"operand x: {axis} is {size} (+{before}+{after} padding), smaller than the window's extent of {span}"
        )
    return room // stride + 1


def keep_quant(t: TensorType, shape: Sequence[int], axis_map: Sequence[int] | None = None) -> TensorType:
    """``t`` with another shape; its quant stays. ``axis_map[new] = old`` tells where a per-axis quant goes."""
    q = t.quant
    if q is not None and q.axis is not None:
        if axis_map is None:
            raise IRError(f"operand x: expected per-tensor quant, got one per index of axis {q.axis}")
        q = replace(q, axis=list(axis_map).index(q.axis))
    return TensorType(tuple(shape), t.dtype, q)


def prod(values: Sequence[int]) -> int:
    """Product of ints."""
    return math.prod(values)
