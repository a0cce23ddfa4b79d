"""What the lowerings of float convolutions and linear layers share: an anchor with the epilogue fused into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from irkit.backend.kernel import Const, StepInput
from irkit.ir.graph import Operation, Value, const_array
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, DType
from irkit.ops import clip, fused, hardswish, leaky_relu, prelu, relu
from irkit.ops.fusion import match_body

NHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class Anchor:
    """A float conv2d or linear with constant weights, alone or in a ``fused`` op, and what follows it."""

    op: Operation  # the anchor itself; inside the body of a fused op
    x: Value
    w: Value
    weights: Array  # logical
    bias: Value | None
    residual: Value | None
    slope: Value | None
    out: Value
    act: dict[str, Any]  # attributes act, lo, hi, alpha of the step
    note: str  # what was fused

    @property
    def epilogue(self) -> list[StepInput]:
        """The step inputs bias, residual and slope."""
        return [self.bias, self.residual, self.slope]


def activation(op: Operation | None) -> dict[str, Any] | None:
    """Step attributes of an activation; None when the kernels can't do it."""
    inf = float("inf")
    attrs = {"act": "none", "lo": -inf, "hi": inf, "alpha": 0.0}
    if op is None:
        return attrs
    if op.opdef is relu:
        return {**attrs, "act": "clip", "lo": 0.0}
    if op.opdef is clip:
        lo, hi = (float(np.float32(op.attrs[k])) for k in ("lo", "hi"))
        return {**attrs, "act": "clip", "lo": lo, "hi": hi} if lo <= hi else None
    if op.opdef is leaky_relu:
        return {**attrs, "act": "leaky", "alpha": float(np.float32(op.attrs["slope"]))}
    if op.opdef is prelu:
        return {**attrs, "act": "prelu"}
    return {**attrs, "act": "hardswish"} if op.opdef is hardswish else None


def anchor_of(op: Operation, opdef: OpDef) -> Anchor | None:
    """Takes ``op`` apart if it is a float ``opdef`` (or a fused one) whose weights, bias and slope are constant."""
    residual = slope = None
    act: Operation | None = None
    inner = op
    if op.opdef is fused:
        assert op.body is not None
        m = match_body(op.body)
        if m is None or m.anchor.opdef is not opdef:
            return None
        inner, act = m.anchor, m.act
        x, w, bias, residual, slope = (
            None if i is None else op.operands[i] for i in (m.x, m.w, m.bias, m.residual, m.slope)
        )
    elif op.opdef is opdef:
        x, w, bias = op.operands
    else:
        return None
    assert x is not None and w is not None
    attrs, weights, out = activation(act), const_array(w), op.result
    values = [v for v in (x, w, bias, residual, slope, out) if v is not None]
    if attrs is None or weights is None or any(v.type.dtype is not DType.F32 for v in values):
        return None
    if any(v is not None and const_array(v) is None for v in (bias, slope)):
        return None
    if residual is not None and residual.type.order != out.type.order:
        return None
    fused_in = ([] if residual is None else ["residual"]) + ([] if act is None else [act.name])
    note = f"fused {', '.join(fused_in)}" if fused_in else ""
    return Anchor(inner, x, w, weights, bias, residual, slope, out, attrs, note)


def stored(value: Value, array: Array, order: tuple[int, ...], suffix: str) -> StepInput:
    """The constant ``value`` in storage order ``order``: itself if it is stored so, else a derived constant."""
    if value.type.order == order and value.type.encoding.sparse is None:
        return value
    return Const(np.ascontiguousarray(np.transpose(array, order)), f"{value.name or 'w'}.{suffix}")
