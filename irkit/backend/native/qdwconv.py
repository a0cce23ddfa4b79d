"""int8 depthwise convolution: qconv2d with one input and one output channel per group, as a step of family qdwconv."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.qconv import conv_attrs, qconv_step, stored_nhwc, weights_ohwi
from irkit.ir.graph import Operation, const_array
from irkit.ops import qconv2d


@lowering(qconv2d, priority=10)
def lower_qdwconv(op: Operation) -> Step | None:
    """Depthwise with channel multiplier 1 and at least two channels; others are left to qconv."""
    w, y, groups = op.operand("w"), op.result, op.attrs["groups"]
    channels = op.operand("x").type.shape[1]
    if groups == 1 or not groups == channels == w.type.shape[0]:
        return None
    if not stored_nhwc(op) or const_array(w) is None:
        return None
    step = qconv_step("qdwconv", op, weights_ohwi(w), y.type.size * w.type.shape[2] * w.type.shape[3])
    if step is not None:
        step.attrs.update(conv_attrs(op))
        step.note = ", ".join(n for n in ("depthwise", step.note) if n)
    return step
