"""Windows over images: maximum, average and their adaptive forms."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.move import image_axis
from irkit.ir.graph import Operation
from irkit.ir.types import DType
from irkit.ops import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d

_KIND = {
    max_pool2d: "max",
    avg_pool2d: "avg",
    adaptive_max_pool2d: "adaptive_max",
    adaptive_avg_pool2d: "adaptive_avg",
}


@lowering(max_pool2d, avg_pool2d, adaptive_max_pool2d, adaptive_avg_pool2d)
def lower_pool(op: Operation) -> Step | None:
    """Pooling over f32, or a maximum over i8, along the channels in memory where these come last."""
    x, y = op.operand("x").type, op.result.type
    kind, axis = _KIND[op.opdef], image_axis(x, y)
    dtypes = (DType.F32, DType.I8) if kind == "max" else (DType.F32,)
    if axis is None or x.dtype not in dtypes or x.size == 0:
        return None
    attrs: dict[str, object] = {"op": kind, "axis": axis}
    a = op.attrs
    if kind in ("max", "avg"):
        attrs |= {"kernel": list(a["kernel"]), "strides": list(a["strides"]), "pads": list(a["pads"])}
    if kind == "max":
        attrs["dilation"] = list(a["dilation"])
    elif kind == "avg":
        attrs |= {"ceil": list(a["ceil"]), "include_pad": int(a["count_include_pad"])}
    return Step("pool", list(op.operands), [op.result], attrs)
