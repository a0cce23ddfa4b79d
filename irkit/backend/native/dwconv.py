"""Depthwise conv2d on channels-last data: kernels/dwconv."""

from __future__ import annotations

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.anchor import NHWC, anchor_of, stored
from irkit.backend.native.conv import conv_attrs, conv_macs
from irkit.backend.table import join
from irkit.ir.graph import Operation
from irkit.ops import conv2d, fused


@lowering(conv2d, fused, priority=10)
def lower_dwconv(op: Operation) -> Step | None:
    """A conv2d with one filter of one channel for each input channel."""
    a = anchor_of(op, conv2d)
    if a is None or a.x.type.order != NHWC or a.out.type.order != NHWC:
        return None
    channels = a.x.type.shape[1]
    if channels == 1 or a.op.attrs["groups"] != channels or a.w.type.shape[0] != channels:
        return None
    inputs = [a.x, stored(a.w, a.weights, NHWC, "ohwi"), *a.epilogue]
    return Step("dwconv", inputs, [a.out], conv_attrs(a), macs=conv_macs(a), note=join("depthwise", a.note))
