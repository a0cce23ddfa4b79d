"""conv2d on channels-last data: kernels/conv."""

from __future__ import annotations

from typing import Any

from irkit.backend.kernel import Step, lowering
from irkit.backend.native.anchor import NHWC, Anchor, anchor_of, stored
from irkit.backend.table import join
from irkit.ir.graph import Operation
from irkit.ops import conv2d, fused
from irkit.ops.winograd import winograd_products

RESIDUAL = 3  # input of steps conv and linear


def conv_attrs(a: Anchor) -> dict[str, Any]:
    """Attributes of a convolution step."""
    names = ("strides", "pads", "dilation")
    return {**{k: list(a.op.attrs[k]) for k in names}, "groups": a.op.attrs["groups"], **a.act}


def conv_macs(a: Anchor) -> int:
    """Multiply-accumulates of the dense convolution."""
    _, ci, kh, kw = a.w.type.shape
    return a.out.type.size * ci * kh * kw


@lowering(conv2d, fused)
def lower_conv(op: Operation) -> Step | None:
    """Any float conv2d whose input and output are stored channels-last."""
    a = anchor_of(op, conv2d)
    if a is None or a.x.type.order != NHWC or a.out.type.order != NHWC:
        return None
    groups = a.op.attrs["groups"]
    attrs, tile, method = conv_attrs(a), a.w.type.encoding.winograd, ""
    if tile is not None:
        attrs["winograd"] = tile
        saved = 1 - winograd_products(a.out.type.shape, tile) / (9 * a.out.type.size)
        method = f"Winograd F({tile}x{tile}, 3x3): {saved:.0%} fewer multiplications"
    note = join(method, a.note, f"{groups} groups" if groups > 1 else "")
    inputs = [a.x, stored(a.w, a.weights, NHWC, "ohwi"), *a.epilogue]
    return Step("conv", inputs, [a.out], attrs, macs=conv_macs(a), note=note, in_place=(RESIDUAL,))
