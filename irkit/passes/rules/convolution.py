"""Rules about convolutions: one form for what means the same."""

from __future__ import annotations

from irkit.ir.graph import Operation
from irkit.ir.rewrite import Replacement, Rewriter, pattern
from irkit.ops import conv2d, expand, permute, reshape

_FILL = 16  # filters of one group that fill a vector without help


@pattern(conv2d)
def depth_multiplier(op: Operation, rw: Rewriter) -> Replacement:
    """Several filters for each input channel: as many copies of the channel, and one filter for each. Kernels for
    depthwise convolution run over channels, those for groups over the few filters of one group."""
    x, w = op.operand("x"), op.operand("w")
    n, channels, height, width = x.type.shape
    times = w.type.shape[0] // channels
    if not 1 < times < _FILL or channels == 1 or op.attrs["groups"] != channels:
        return None
    rows = rw.emit(permute, x, perm=(0, 2, 3, 1))
    wide = rw.emit(
        expand, rw.emit(reshape, rows, shape=(n, height, width, channels, 1)), shape=(n, height, width, channels, times)
    )
    flat = rw.emit(permute, rw.emit(reshape, wide, shape=(n, height, width, channels * times)), perm=(0, 3, 1, 2))
    return rw.emit(conv2d, flat, w, op.operands[2], **{**op.attrs, "groups": channels * times})


PATTERNS = (depth_multiplier,)
