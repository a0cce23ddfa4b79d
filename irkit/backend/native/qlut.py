"""Functions of one int8 tensor by table."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.ir.graph import Operation, const_array
from irkit.ops import qlut


@lowering(qlut)
def lower_qlut(op: Operation) -> Step | None:
    """One table, or one a channel."""
    x, table, y = op.operand("x"), op.operand("table"), op.result
    if const_array(table) is None or x.type.memory_axes != y.type.memory_axes or x.type.size == 0:
        return None
    per_channel = table.type.rank == 2
    if per_channel and (x.type.rank < 2 or x.type.order != y.type.order or table.type.encoding.order is not None):
        return None
    return Step("qlut", [x, table], [y], {"axis": x.type.order.index(1)} if per_channel else {}, in_place=(0,))
