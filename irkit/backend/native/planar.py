"""What reads an image [n][c][h][w] as it is, instead of a channels-last copy of it: first convolutions, quantize."""

from __future__ import annotations

from collections.abc import Sequence

from irkit.backend.kernel import Step
from irkit.backend.native.anchor import NHWC
from irkit.backend.storage import is_row_major
from irkit.backend.table import join
from irkit.ir.graph import Value
from irkit.ops import relayout

MAX_CHANNELS = 7  # these three are limits of kernels/conv/few.cc
MAX_STRIDE = 63
MAX_BYTES = 1 << 20  # of the image rows that one output row needs


def read_planar(steps: Sequence[Step], arch: str) -> list[Step]:
    """Gives what can take it the row-major image that a step of its own turns around.

    Convolutions of few channels, alone or first in a chain: the kernels of x86-64 copy the rows they need anyway.
    Quantize of three channels, whose int8 result would be turned around.
    """
    turned = {s.outputs[0]: s for s in steps if s.family == "move" and _turns(s)}
    turning = {s.inputs[0]: s for s in turned.values()}
    gone: set[Value] = set()
    for s in steps:
        y = s.outputs[0] if s.outputs else None
        after = turning.get(y) if y is not None and _is_quantize(s) and y.has_one_use else None
        if after is not None:
            s.outputs = list(after.outputs)
            s.attrs["planar"] = 1
            s.note = join(s.note, "channels last on the way")
            s.saved += 2 * after.outputs[0].type.nbytes
            gone.add(after.outputs[0])
            continue
        x = s.inputs[0] if s.inputs else None
        if arch != "x86_64" or not isinstance(x, Value) or x not in turned or not _takes_planar(s):
            continue
        s.inputs[0] = turned[x].inputs[0]
        (s.attrs["a"] if s.family == "chain" else s.attrs)["planar"] = 1
        s.note = join(s.note, "reads the planar image")
        s.saved += 2 * x.type.nbytes
        gone.add(x)
    return [s for s in steps if s.family != "move" or s.outputs[0] not in gone]


def _turns(s: Step) -> bool:
    """Makes a channels-last image, for one reader, of a row-major one."""
    y = s.outputs[0]
    op = y.producer
    if op is None or op.opdef is not relayout or y.type.rank != 4 or y.type.order != NHWC or not y.has_one_use:
        return False
    return is_row_major(op.operand("x").type)


def _is_quantize(s: Step) -> bool:
    """Quantizes an image of three channels, all with one scale."""
    x = s.inputs[0]
    if s.family != "qeltwise" or s.attrs["op"] != "quantize" or len(s.inputs) != 1 or not isinstance(x, Value):
        return False
    return x.type.rank == 4 and x.type.shape[1] == 3 and is_row_major(x.type)


def _takes_planar(s: Step) -> bool:
    """The first convolution of the step is one for kernels/conv/few.h."""
    at = s.attrs.get("a") if s.family == "chain" else s.attrs if s.family == "conv" else None
    x, w = s.inputs[0], s.inputs[1] if len(s.inputs) > 1 else None
    if (
        at is None
        or "winograd" in at
        or at["groups"] != 1
        or at["dilation"][1] != 1
        or not isinstance(x, Value)
        or w is None
    ):
        return False
    _, c, _, width = x.type.shape
    kh, kw = w.type.shape[2:] if isinstance(w, Value) else w.array.shape[1:3]
    rows = (kh - 1) * at["dilation"][0] + 1
    most = width + at["pads"][1] + at["pads"][3] + kw + 2 * at["strides"][1]
    small = c <= MAX_CHANNELS and at["strides"][1] <= MAX_STRIDE
    return kh * kw > 1 and small and rows * c * most * x.type.dtype.numpy.itemsize <= MAX_BYTES
