"""int8 softmax by table."""

from __future__ import annotations

import math

from irkit.backend.kernel import Step, lowering
from irkit.ir.graph import Operation, const_array
from irkit.ops import qsoftmax
from irkit.ops.quantized import multiplier


@lowering(qsoftmax)
def lower_qsoftmax(op: Operation) -> Step | None:
    """Rows along one axis; the table must be that of an exponential (positive first entry, none negative)."""
    x, table, y, to = op.operand("x"), op.operand("table"), op.result, op.attrs["quant"]
    t = const_array(table)
    if t is None or t[0] < 1 or (t < 0).any() or x.type.order != y.type.order or x.type.size == 0:
        return None
    attrs: dict[str, object] = {"axis": x.type.order.index(op.attrs["axis"] % x.type.rank)}
    if to is not None:
        m = float(multiplier(1.0, over=to.scale[0]))
        if not math.isfinite(m):
            return None
        attrs |= {"m": m, "zy": to.zero[0]}
    return Step("qsoftmax", [x, table], [y], attrs)
