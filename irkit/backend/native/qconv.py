"""int8 convolution: qconv2d as a step of family qconv (depthwise ones are claimed by qdwconv, with higher priority)."""

from __future__ import annotations

from typing import Any

import numpy as np

from irkit.backend.kernel import Const, Step, StepInput, lowering
from irkit.ir.graph import Operation, Value, const_array
from irkit.ops import qconv2d
from irkit.ops.quantized import multiplier

NHWC = (0, 2, 3, 1)
RESIDUAL = 4  # input of these steps
LARGEST = 1e29  # kernels refuse multipliers beyond: no product may overflow float32


def qconv_step(family: str, op: Operation, weights: StepInput, macs: int) -> Step | None:
    """The step of a qconv2d or qlinear; None when the kernels can't take it (dynamic weights, absurd scales)."""
    x, w, y = op.operand("x"), op.operand("w"), op.result
    bias, residual = op.get("bias"), op.get("residual")
    if const_array(w) is None or (bias is not None and const_array(bias) is None):
        return None
    xq, wq, yq = x.type.quant, w.type.quant, y.type.quant
    assert xq is not None and wq is not None
    out_scale = yq.scale[0] if yq is not None else 1.0
    with np.errstate(over="ignore"):
        m = multiplier(xq.scale[0], wq.scale_array(), over=out_scale)
    attrs: dict[str, Any] = {"zx": xq.zero[0], "zy": 0, "zr": 0, "mr": 0.0, "lo": op.attrs["lo"], "hi": op.attrs["hi"]}
    if yq is not None:
        attrs["zy"] = yq.zero[0]
    if residual is not None:
        rq = residual.type.quant
        assert rq is not None
        attrs["zr"] = rq.zero[0]
        with np.errstate(over="ignore"):
            attrs["mr"] = float(multiplier(rq.scale[0], over=out_scale))
    if not (np.all(m < LARGEST) and attrs["mr"] < LARGEST):
        return None
    m = np.ascontiguousarray(np.broadcast_to(m, (w.type.shape[0],)))
    fused = ["residual"] if residual is not None else []
    if yq is not None and (attrs["lo"], attrs["hi"]) != (-128, 127):
        fused.append("clamp")
    note = ("fused " + ", ".join(fused)) if fused else ""
    inputs: list[StepInput] = [x, weights, bias, Const(m, f"{w.name or op.loc or family}.multiplier"), residual]
    in_place = () if family == "qdwconv" else (RESIDUAL,)
    return Step(family, inputs, [y], attrs, macs, note, saved=2 * y.type.nbytes * len(fused), in_place=in_place)


def weights_ohwi(w: Value) -> StepInput:
    """Convolution weights in the order the kernels read, as they are stored when that is the order already."""
    if w.type.order == NHWC:
        return w
    value = const_array(w)
    assert value is not None
    return Const(np.ascontiguousarray(np.transpose(value, NHWC)), f"{w.name}.ohwi")


def conv_attrs(op: Operation) -> dict[str, Any]:
    """Geometry of a convolution."""
    return {k: op.attrs[k] for k in ("strides", "pads", "dilation", "groups")}


def stored_nhwc(op: Operation) -> bool:
    """True when image, result and residual are stored channels last."""
    values = (op.operand("x"), op.get("residual"), op.result)
    return all(v is None or v.type.order == NHWC for v in values)


@lowering(qconv2d)
def lower_qconv(op: Operation) -> Step | None:
    """Any int8 convolution with constant weights on channels-last tensors."""
    w, y = op.operand("w"), op.result
    if not stored_nhwc(op) or const_array(w) is None:
        return None
    step = qconv_step("qconv", op, weights_ohwi(w), y.type.size * w.type.size // w.type.shape[0])
    if step is not None:
        step.attrs.update(conv_attrs(op))
    return step
