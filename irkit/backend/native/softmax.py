"""softmax and log_softmax along any axis, in any storage order."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.ir.graph import Operation
from irkit.ir.types import DType
from irkit.ops import log_softmax, softmax


@lowering(softmax, log_softmax)
def lower_softmax(op: Operation) -> Step | None:
    """f32; operand and result in the same storage order."""
    x = op.operand("x").type
    if x.dtype is not DType.F32 or x.order != op.result.type.order or x.size == 0 or x.rank == 0:
        return None
    axis = x.order.index(op.attrs["axis"] % x.rank)
    attrs = {"axis": axis, "log": int(op.opdef is log_softmax)}
    return Step("softmax", [op.operand("x")], [op.result], attrs)
