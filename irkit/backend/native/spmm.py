"""1x1 conv2d and linear with CSR weights: kernels/spmm."""

from __future__ import annotations

from irkit.backend.kernel import Const, Step, lowering
from irkit.backend.native.anchor import NHWC, anchor_of
from irkit.backend.table import join
from irkit.ir.graph import Operation
from irkit.ops import conv2d, fused, linear
from irkit.sparse.cost import MIN_ROWS
from irkit.sparse.encodings import CSR_PARTS, encode_csr, pack_columns


@lowering(conv2d, linear, fused, priority=20)
def lower_spmm(op: Operation) -> Step | None:
    """Weights encoded as CSR in a linear, or in a 1x1 conv2d of stride 1 without padding or groups."""
    a = anchor_of(op, conv2d) or anchor_of(op, linear)
    if a is None or a.w.type.encoding.sparse != "csr":
        return None
    order = tuple(range(a.x.type.rank))
    if a.op.opdef is conv2d:
        order = NHWC
        at = a.op.attrs
        if a.w.type.shape[2:] != (1, 1) or at["strides"] != (1, 1) or any(at["pads"]) or at["groups"] != 1:
            return None
    if a.x.type.order != order or a.out.type.order != order:
        return None
    o = a.w.type.shape[0]
    rows = a.out.type.size // o
    if rows < MIN_ROWS or not a.weights.any():
        return None
    csr = encode_csr(a.weights.reshape(o, -1))
    name = a.w.name or "w"
    parts = (csr.values, pack_columns(csr), csr.rows)
    held = [Const(array, f"{name}.{part}") for array, part in zip(parts, CSR_PARTS, strict=True)]
    zeros = 1 - csr.values.size / a.weights.size
    note = join(f"csr, {100 * zeros:.0f}% zeros", a.note)
    macs = rows * a.weights.size
    return Step("spmm", [a.x, *held, *a.epilogue], [a.out], dict(a.act), macs=macs, note=note)
