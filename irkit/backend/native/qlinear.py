"""int8 linear layers: qlinear as a step of family qlinear."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.qconv import qconv_step
from irkit.ir.graph import Operation
from irkit.ops import qlinear


@lowering(qlinear)
def lower_qlinear(op: Operation) -> Step | None:
    """Any int8 linear layer with constant weights."""
    w, values = op.operand("w"), (op.operand("x"), op.get("residual"), op.operand("w"), op.result)
    if any(v is not None and v.type.encoding.order is not None for v in values):
        return None
    return qconv_step("qlinear", op, w, op.result.type.size * w.type.shape[1])
