"""Resizing of images by tables of source indices and weights, which the op's own helpers make."""

from __future__ import annotations

import numpy as np

from irkit.backend.kernel import Const, Step, StepInput, lowering
from irkit.backend.native.move import image_axis
from irkit.ir.graph import Operation
from irkit.ir.types import DType
from irkit.ops import resize2d
from irkit.ops.shape import bilinear_sources, nearest_sources


@lowering(resize2d)
def lower_resize(op: Operation) -> Step | None:
    """Nearest on any dtype, bilinear on f32."""
    v = op.operand("x")
    x, a = v.type, op.attrs
    axis = image_axis(x, op.result.type)
    bilinear = a["mode"] == "bilinear"
    if axis is None or x.size == 0 or (bilinear and x.dtype is not DType.F32):
        return None
    inputs: list[StepInput] = [v]
    for i, side in enumerate(("row", "col")):
        args = (x.shape[2 + i], a["size"][i], a["coords"], None if a["scales"] is None else a["scales"][i])
        if bilinear:
            low, high, weight = bilinear_sources(*args)
            inputs += [Const(low.astype(np.int32), f"{side}0"), Const(high.astype(np.int32), f"{side}1")]
            inputs.append(Const(weight, f"{side}_weight"))
        else:
            inputs.append(Const(nearest_sources(*args).astype(np.int32), side))
    return Step("resize", inputs, [op.result], {"mode": a["mode"], "axis": axis})
