"""conv_transpose2d on channels-last data: kernels/deconv."""

from __future__ import annotations

import numpy as np

from irkit.backend.kernel import Const, Step, lowering
from irkit.backend.native.anchor import NHWC, activation
from irkit.ir.graph import Operation, const_array
from irkit.ir.types import DType
from irkit.ops import conv_transpose2d


@lowering(conv_transpose2d)
def lower_deconv(op: Operation) -> Step | None:
    """Any float conv_transpose2d with constant weights whose input and output are stored channels-last."""
    x, w, bias = op.operands
    assert x is not None and w is not None
    weights, out, act = const_array(w), op.result, activation(None)
    if weights is None or act is None or (bias is not None and const_array(bias) is None):
        return None
    if x.type.dtype is not DType.F32 or x.type.order != NHWC or out.type.order != NHWC:
        return None
    groups = op.attrs["groups"]
    i, og, kh, kw = w.type.shape
    # [I, O/g, KH, KW] -> [O, KH, KW, I/g], each group's inputs with its own outputs
    packed = weights.reshape(groups, i // groups, og, kh, kw).transpose(0, 2, 3, 4, 1).reshape(-1, kh, kw, i // groups)
    held = Const(np.ascontiguousarray(packed), f"{w.name or 'w'}.ohwi")
    names = ("strides", "pads", "output_padding", "dilation")
    attrs = {**{k: list(op.attrs[k]) for k in names}, "groups": groups, **act}
    macs = x.type.size * og * kh * kw
    return Step("deconv", [x, held, bias, None, None], [out], attrs, macs=macs)
