"""linear: kernels/linear."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.anchor import anchor_of, stored
from irkit.backend.native.conv import RESIDUAL
from irkit.ir.graph import Operation
from irkit.ops import fused, linear


@lowering(linear, fused)
def lower_linear(op: Operation) -> Step | None:
    """Any float linear with constant weights and row-major input and output."""
    a = anchor_of(op, linear)
    if a is None or a.x.type.order != tuple(range(a.x.type.rank)) or a.out.type.order != tuple(range(a.out.type.rank)):
        return None
    inputs = [a.x, stored(a.w, a.weights, (0, 1), "ok"), *a.epilogue]
    macs = a.out.type.size * a.w.type.shape[1]
    return Step("linear", inputs, [a.out], dict(a.act), macs=macs, note=a.note, in_place=(RESIDUAL,))
