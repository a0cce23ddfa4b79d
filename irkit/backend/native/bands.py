"""int8 steps that run band by band, so that what is between them is a few rows in a cache: kernels/chain/bands.cc."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from irkit.backend.kernel import Const, Step, StepInput
from irkit.backend.native.chain import is_pointwise, saved_by
from irkit.backend.table import join
from irkit.ir.graph import const_array
from irkit.ir.types import DType

MOST_STAGES = 8
MAX_WIDTH = 4096  # pixels of a row: wider ones make bands that no cache holds
#: Bytes of the second-level cache of a small CPU of that kind: 512 KiB of a Raspberry Pi; 2 MiB of a core that has AMX,
#: where small bands cost some percent. A larger tensor goes out to memory and comes back; joining smaller ones, too,
#: would make the arena smaller by no more than what the threads' bands then take beside it. The weights, read again for
#: every band, must not take as much.
CACHE = {"arm64": 512 << 10, "x86_64": 2 << 20}


def merge_bands(steps: Sequence[Step], arch: str) -> list[Step]:
    """Joins int8 steps where what is between them is larger than a cache, and read by nothing else.

    A first convolution of any kind; then depthwise or 1x1 convolutions and pools. These read each row of their input
    once or a few times, and their weights are small.
    """
    out: list[Step] = []
    i = 0
    while i < len(steps):
        length = _length(steps[i:], CACHE[arch])
        out.append(_merged(steps[i : i + length]) if length > 1 else steps[i])
        i += length
    return out


def _length(steps: Sequence[Step], cache: int) -> int:
    """Steps from the first on that make one chain."""
    n, weights = 1, _weight_bytes(steps[0])
    if not (steps[0].family == "qdwconv" or (steps[0].family == "qconv" and steps[0].attrs["groups"] == 1)):
        return 1
    for before, step in pairwise(steps):
        weights += _weight_bytes(step)
        if n == MOST_STAGES or weights > cache or not _linked(before, step, cache):
            break
        n += 1
    return n


def _linked(before: Step, step: Step, cache: int) -> bool:
    v = before.outputs[0]
    if not v.has_one_use or step.inputs[0] is not v or v.type.dtype is not DType.I8 or v.type.nbytes <= cache:
        return False
    if len(v.type.shape) != 4 or max(v.type.shape[3], step.outputs[0].type.shape[3]) > MAX_WIDTH:
        return False
    if step.outputs[0].type.dtype is not DType.I8:
        return False
    if step.family in ("pool", "qpool"):
        return step.attrs["axis"] == 1 and not str(step.attrs.get("op", "")).startswith("adaptive")
    return step.family == "qdwconv" or (step.family == "qconv" and is_pointwise(step))


def _weight_bytes(s: Step) -> int:
    """Of all constants that the step reads."""
    return sum(_const_bytes(v) for v in s.inputs)


def _const_bytes(v: StepInput) -> int:
    if isinstance(v, Const):
        return v.array.nbytes
    return v.type.nbytes if v is not None and const_array(v) is not None else 0


def _merged(group: Sequence[Step]) -> Step:
    inputs = list(group[0].inputs)
    stages = []
    for s in group:
        _, c, h, w = s.outputs[0].type.shape
        stages.append({**s.attrs, "family": s.family, "inputs": len(s.inputs), "out": [h, w, c]})
    for s in group[1:]:
        inputs += s.inputs[1:]
    kinds = {"qconv": "conv2d", "qdwconv": "depthwise"}
    notes = dict.fromkeys(s.note[s.note.index("fused") :] for s in group if "fused" in s.note)
    names = " -> ".join(kinds.get(s.family, "pool") for s in group)
    return Step(
        "chain",
        inputs,
        list(group[-1].outputs),
        {"stages": stages},
        macs=sum(s.macs for s in group),
        note=join(f"{names}, band by band", *notes),
        loc=group[-1].loc,
        saved=saved_by(group),
        in_place=tuple(len(inputs) - len(group[-1].inputs) + k for k in group[-1].in_place if k > 0),
    )
