"""int8 average pooling."""

from __future__ import annotations

import math

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.move import image_axis
from irkit.backend.native.qeltwise import quant_of
from irkit.ir.graph import Operation
from irkit.ops import qavg_pool2d
from irkit.ops.quantized import multiplier

MAX_TERMS = 2**23  # of a sum of int8 differences that stays exact in int32


@lowering(qavg_pool2d)
def lower_qavg_pool(op: Operation) -> Step | None:
    """The multiplier of each window depends on its count; the kernel forms it from both scales in float64."""
    v, y, a = op.operand("x"), op.result, op.attrs
    axis, q, to = image_axis(v.type, y.type), quant_of(v), a["quant"]
    fits = v.type.size > 0 and math.prod(a["kernel"]) <= MAX_TERMS and -128 <= q.zero[0] <= 127
    if axis is None or not fits or not math.isfinite(float(multiplier(q.scale[0], over=to.scale[0]))):
        return None
    attrs = {
        "axis": axis,
        "kernel": list(a["kernel"]),
        "strides": list(a["strides"]),
        "pads": list(a["pads"]),
        "ceil": list(a["ceil"]),
        "include_pad": int(a["count_include_pad"]),
        "sx": q.scale[0],
        "sy": to.scale[0],
        "zx": q.zero[0],
        "zy": to.zero[0],
    }
    return Step("qpool", [v], [y], attrs)
