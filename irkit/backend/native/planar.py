"""First float convolutions that read an image [n][c][h][w] as it is, instead of a channels-last copy of it."""

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
    """
    if arch != "x86_64":
        return list(steps)
    turned = {s.outputs[0]: s for s in steps if s.family == "move" and _turns(s)}
    gone: set[Value] = set()
    for s in steps:
        x = s.inputs[0] if s.inputs else None
        if not isinstance(x, Value) or x not in turned or not _takes_planar(s):
            continue
        s.inputs[0] = turned[x].inputs[0]
        (s.attrs["a"] if s.family == "chain" else s.attrs)["planar"] = 1
        s.note = join(s.note, "reads the planar image")
        s.saved += 2 * x.type.nbytes
        gone.add(x)
    return [s for s in steps if s.outputs[0] not in gone]


def _turns(s: Step) -> bool:
    """Makes a channels-last image, for one reader, of a row-major one."""
    y = s.outputs[0]
    op = y.producer
    if op is None or op.opdef is not relayout or y.type.rank != 4 or y.type.order != NHWC or not y.has_one_use:
        return False
    return is_row_major(op.operand("x").type)


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
