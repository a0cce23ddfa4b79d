"""1x1 conv2d and linear with CSR weights: kernels/spmm."""

from __future__ import annotations

import numpy as np

from irkit.backend.kernel import Const, Step, lowering
from irkit.backend.native.anchor import NHWC, anchor_of, join
from irkit.ir.graph import Operation
from irkit.ir.types import Array
from irkit.ops import conv2d, fused, linear

MIN_ROWS = 8  # with fewer rows (pixels) the kernel's vectors over rows are mostly empty and dense weights win


def csr(w: Array) -> tuple[Array, Array, Array]:
    """Values f32 [nnz], column indices i32 [nnz] and row starts i32 [O + 1] of a matrix [O, K]."""
    rows, columns = np.nonzero(w)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=w.shape[0]))])
    return w[rows, columns].astype(np.float32), columns.astype(np.int32), starts.astype(np.int32)


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
    values, columns, starts = csr(a.weights.reshape(o, -1))
    if rows < MIN_ROWS or values.size == 0:
        return None
    name = a.w.name or "w"
    held = [Const(values, f"{name}.values"), Const(columns, f"{name}.columns"), Const(starts, f"{name}.rows")]
    zeros = 1 - values.size / a.weights.size
    note = join(f"sparse, {100 * zeros:.0f}% zeros", a.note)
    macs = rows * a.weights.size
    return Step("spmm", [a.x, *held, *a.epilogue], [a.out], dict(a.act), macs=macs, note=note)
