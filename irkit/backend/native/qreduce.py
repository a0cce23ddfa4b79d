"""int8 mean over any axes."""

from __future__ import annotations

import math

import numpy as np

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.move import axis_strides
from irkit.backend.native.qeltwise import quant_of
from irkit.backend.native.qpool import MAX_TERMS
from irkit.ir.graph import Operation
from irkit.ops import qmean
from irkit.ops.quantized import multiplier


@lowering(qmean)
def lower_qmean(op: Operation) -> Step | None:
    """Input strides of the kept axes in the result's memory order, and of the summed ones in the input's."""
    v, y, a = op.operand("x"), op.result, op.attrs
    x, q, to = v.type, quant_of(v), a["quant"]
    drop = {d % x.rank for d in a["axes"]}
    count = math.prod(x.shape[d] for d in drop)
    m = float(multiplier(q.scale[0], over=np.float64(to.scale[0]) * count))
    if x.size == 0 or count > MAX_TERMS or not -128 <= q.zero[0] <= 127 or not math.isfinite(m):
        return None
    own = axis_strides(x)
    kept = list(range(x.rank)) if a["keepdims"] else [d for d in range(x.rank) if d not in drop]
    summed = [d for d in x.order if d in drop]
    attrs = {
        "m": m,
        "zx": q.zero[0],
        "zy": to.zero[0],
        "strides": [0 if kept[d] in drop else own[kept[d]] for d in y.type.order],
        "sum_dims": [x.shape[d] for d in summed],
        "sum_strides": [own[d] for d in summed],
    }
    return Step("qreduce", [v], [y], attrs)
