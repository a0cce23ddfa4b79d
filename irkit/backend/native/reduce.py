"""Reductions over any axes: f32, and integers where the result is an integer."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.ir.graph import Operation
from irkit.ir.types import DType, TensorType
from irkit.ops import reduce_max, reduce_mean, reduce_min, reduce_sum

_OPS = {reduce_mean: "mean", reduce_sum: "sum", reduce_max: "max", reduce_min: "min"}
_INTS = (DType.I8, DType.U8, DType.I32, DType.I64)


def kept_in_order(x: TensorType, y: TensorType, axes: set[int], keepdims: bool) -> bool:
    """True when ``y``, which is ``x`` without ``axes``, stores the kept axes (of size above one) in x's order."""
    renamed = [a if keepdims else a - sum(r < a for r in axes) for a in x.order if a not in axes and x.shape[a] != 1]
    return renamed == [a for a in y.order if y.shape[a] != 1]


@lowering(reduce_mean, reduce_sum, reduce_max, reduce_min)
def lower_reduce(op: Operation) -> Step | None:
    """The result must keep the operand's storage order among the axes that stay."""
    x, y = op.operand("x").type, op.result.type
    kind = _OPS[op.opdef]
    if x.size == 0 or not (x.dtype is DType.F32 or (x.dtype in _INTS and kind != "mean")):
        return None
    axes = {a % x.rank for a in op.attrs["axes"]}
    if not kept_in_order(x, y, axes, op.attrs["keepdims"]):
        return None
    places = sorted(x.order.index(a) for a in axes)
    return Step("reduce", [op.operand("x")], [op.result], {"op": kind, "axes": places})
