"""Elementwise int8 arithmetic. All multipliers are computed here, in float64, and rounded to float32 once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from irkit.backend.kernel import Const, Step, StepInput, lowering
from irkit.backend.native.anchor import NHWC
from irkit.backend.native.move import broadcast_strides
from irkit.backend.storage import is_dense, is_row_major
from irkit.ir.graph import Operation, Value
from irkit.ir.types import DType, Quant
from irkit.ops import dequantize, qadd, qmul, quantize, requantize
from irkit.ops.quantized import multiplier


def quant_of(v: Value) -> Quant:
    """The quantization of a value that must have one."""
    q = v.type.quant
    assert q is not None, f"{v} is not quantized"
    return q


@lowering(quantize, dequantize, requantize)
def lower_unary(op: Operation) -> Step | None:
    """One tensor between real numbers and int8, or between two scales."""
    v, y = op.operand("x"), op.result
    turned = op.opdef is quantize and y.type.order == NHWC and is_row_major(v.type)
    same = v.type.memory_axes == y.type.memory_axes
    if not (same or turned) or v.type.size == 0:
        return None
    inputs: list[StepInput] = [v]
    if op.opdef is quantize:
        q = quant_of(y)
        with np.errstate(over="ignore"):  # may be infinite: zeros become NaN, and so the zero point
            m = float(multiplier(1.0, over=q.scale[0]))
        attrs: dict[str, Any] = {"op": "quantize", "m": m, "z": q.zero[0]}
        if same:
            return Step("qeltwise", inputs, [y], attrs)
        note, saved = "channels last on the way", 2 * y.type.nbytes
        return Step("qeltwise", inputs, [y], {**attrs, "planar": 1}, note=note, saved=saved)
    if v.type.dtype is not DType.I8:
        return None
    q = quant_of(v)
    if not all(-128 <= z <= 127 for z in q.zero):
        return None
    if op.opdef is requantize:
        m = float(multiplier(q.scale[0], over=op.attrs["quant"].scale[0]))
        attrs = {"op": "requantize", "m": m, "zx": q.zero[0], **_output(op)}
        return Step("qeltwise", inputs, [y], attrs, in_place=(0,)) if math.isfinite(m) else None
    if q.axis is None:
        return Step("qeltwise", inputs, [y], {"op": "dequantize", "m": q.scale[0], "z": q.zero[0]})
    inputs += [Const(q.scale_array(), "scale"), Const(q.zero_array(), "zero")]
    return Step("qeltwise", inputs, [y], {"op": "dequantize", "axis": y.type.order.index(q.axis)})


@lowering(qadd, qmul)
def lower_binary(op: Operation) -> Step | None:
    """Sum or product of two int8 tensors, broadcast by strides of 0."""
    a, b, y = op.operand("a"), op.operand("b"), op.result.type
    qa, qb, s = quant_of(a), quant_of(b), op.attrs["quant"].scale[0]
    if y.size == 0 or not all(-128 <= z <= 127 for z in (*qa.zero, *qb.zero)):
        return None
    attrs: dict[str, Any] = {"za": qa.zero[0], "zb": qb.zero[0], **_output(op)}
    if op.opdef is qadd:
        scales = {"ma": float(multiplier(qa.scale[0], over=s)), "mb": float(multiplier(qb.scale[0], over=s))}
        attrs |= {"op": "add", **scales}
    else:
        scales = {"ma": float(multiplier(qa.scale[0], qb.scale[0], over=s))}
        attrs |= {"op": "mul", **scales}
    if not all(map(math.isfinite, scales.values())):
        return None
    attrs |= {"sa": broadcast_strides(a.type, y), "sb": broadcast_strides(b.type, y)}
    in_place = tuple(k for k, key in enumerate(("sa", "sb")) if is_dense(attrs[key], y.storage_shape))
    return Step("qeltwise", [a, b], [op.result], attrs, in_place=in_place)


def _output(op: Operation) -> dict[str, int]:
    return {"zy": op.attrs["quant"].zero[0], "lo": op.attrs["lo"], "hi": op.attrs["hi"]}
