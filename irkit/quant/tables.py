"""Operations that are a function of one tensor's elements (per channel at most): in int8, a 256-entry table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from irkit.errors import IRError
from irkit.ir.graph import Operation, Value, const_array
from irkit.ir.types import Array, Quant
from irkit.ops import add, batch_norm, cast, clip, div, maximum, minimum, mul, pow_, prelu, relu, sub

BINARY = (add, sub, mul, div, maximum, minimum, pow_)


def per_channel(c: Array, shape: tuple[int, ...]) -> bool:
    """True when ``c`` broadcasts against ``shape`` without growing it and varies along axis 1 at most."""
    if c.ndim > len(shape):
        return False
    full = (1,) * (len(shape) - c.ndim) + c.shape
    return all(d == 1 or (i == 1 and d == shape[1]) for i, d in enumerate(full))


def table_operand(op: Operation) -> Value | None:
    """The one tensor that ``op`` is a pointwise function of, other operands being constants; None when it is not."""
    x = op.operands[0] if op.operands else None
    if x is None or len(op.results) != 1:
        return None
    if {"elementwise", "unary"} <= op.opdef.tags:
        return None if op.opdef is cast else x
    if op.opdef is prelu or op.opdef is batch_norm:
        rest = [v for v in op.operands[1:] if v is not None]
        return x if all(const_array(v) is not None for v in rest) and x.type.rank >= 2 else None
    if op.opdef in BINARY:
        a, b = op.operand("a"), op.operand("b")
        for data, other in ((a, b), (b, a)):
            c = const_array(other)
            if c is not None and const_array(data) is None and per_channel(c, data.type.shape):
                return data
    return None


def reals(q: Quant) -> npt.NDArray[np.float64]:
    """The 256 numbers that an int8 tensor can hold, from -128 up, in float64."""
    return np.asarray((np.arange(-128, 128) - q.zero[0]) * float(q.scale[0]), np.float64)


def build_table(op: Operation, x: Quant, y: Quant) -> npt.NDArray[np.int8]:
    """The table of ``op`` between two quantizations: i8 [256], or [C, 256] where constants vary along axis 1.

    Everything in float64: y = clamp(rint(f(s_x * (q - z_x)) / s_y) + z_y), NaN becomes z_y.
    """
    data = table_operand(op)
    if data is None:
        raise IRError(f"{op.name}: not a pointwise function of one tensor")
    r = reals(x)
    with np.errstate(all="ignore"):
        if op.opdef is prelu or op.opdef is batch_norm:
            rest = [_wide(const_array(v)) for v in op.operands[1:]]
            channels = max(len(c) for c in rest if c is not None)
            f = op.opdef.fn(np.broadcast_to(r, (1, channels, 256)), *rest, **op.attrs)[0]
            f = f[0] if channels == 1 else f
        elif op.opdef in BINARY:
            args = [r if v is data else _column(const_array(v)) for v in op.operands]
            f = op.opdef.fn(*args)
        else:
            f = op.opdef.fn(r, **op.attrs)
        p = np.rint(np.asarray(f, np.float64) / float(y.scale[0])) + y.zero[0]
    p = np.where(np.isnan(p), y.zero[0], p)
    return np.asarray(np.clip(p, -128, 127).astype(np.int8))


def _wide(c: Array | None) -> Array | None:
    return None if c is None else c.astype(np.float64)


def _column(c: Array | None) -> Array:
    assert c is not None
    flat = c.astype(np.float64).reshape(-1)
    return flat.reshape(()) if flat.size == 1 else flat[:, None]


def clamp_bounds(act: Operation | None, y: Quant) -> tuple[int, int] | None:
    """lo, hi that do a relu or clip after a requantization to ``y`` (exactly: both are monotone); None for others."""
    if act is None:
        return -128, 127
    if act.opdef is relu:
        low, high = 0.0, float("inf")
    elif act.opdef is clip:
        low, high = float(act.attrs["lo"]), float(act.attrs["hi"])
    else:
        return None
    return _stored(low, y), _stored(high, y)


def _stored(v: float, y: Quant) -> int:
    """What ``quantize`` makes of a number."""
    from irkit.ops.quantized import quantize

    return int(quantize.fn(np.asarray([v], np.float32), quant=y)[0])
