"""Which operations go to int8, and why the others don't; where a scale has to be found."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from irkit.errors import CalibrationError
from irkit.ir.graph import Graph, Operation, Value, const_array
from irkit.ir.types import DType, Quant
from irkit.ops import (
    add,
    avg_pool2d,
    clip,
    concat,
    const,
    conv2d,
    linear,
    mul,
    pad,
    reduce_mean,
    relu,
    resize2d,
    return_,
    softmax,
)
from irkit.ops.fusion import grow
from irkit.quant.tables import table_operand

ANCHORS = (conv2d, linear)
SOFTMAX_QUANT = Quant.per_tensor(1 / 256, -128)


@dataclass
class Point:
    """Values that share one quantization, found from what ``observe`` holds."""

    observe: Value
    members: list[Value] = field(default_factory=list)
    fixed: Quant | None = None
    also: list[float] = field(default_factory=list)  # numbers that the range must hold too (pad values)


@dataclass
class Decision:
    """The outcome: what runs in int8, what got in the way elsewhere, and the points."""

    int8: dict[Operation, None] = field(default_factory=dict)  # ordered set
    notes: list[tuple[str, str]] = field(default_factory=list)  # (layer, why it stays in float)
    points: dict[Value, Point] = field(default_factory=dict)
    rescale: list[tuple[Operation, int]] = field(default_factory=list)  # concat operands that keep their own scale


def layer_names(op: Operation) -> list[str]:
    """The names under which a user may know an operation: its location and those of its results."""
    return [n for n in (op.loc, *(r.name for r in op.results)) if n]


def matches(op: Operation, pattern: str) -> bool:
    """True when the pattern (fnmatch), or the module path it names, covers the operation."""
    return any(fnmatchcase(n, pattern) or n.startswith((pattern + ".", pattern + "/")) for n in layer_names(op))


def decide(graph: Graph, keep_float: Sequence[str] = ()) -> Decision:
    """Choose the int8 operations of a float graph.

    Convolutions and linear layers are quantized wherever they are; other operations where all their inputs already
    are, unless only float uses them. CalibrationError when a ``keep_float`` pattern matches no layer.
    """
    ops = [op for op in graph.ops if op.opdef not in (const, return_)]
    kept = _kept(ops, keep_float)
    d = Decision()
    reasons: dict[Operation, str] = {}
    for op in ops:
        if op in kept:
            reasons[op] = f"kept by keep_float pattern {kept[op]!r}"
            continue
        why = _why_not(op) or _float_input(op, d)
        if why:
            reasons[op] = why
        else:
            d.int8[op] = None
    for op in reversed(ops):
        if op in d.int8 and _cheap(op) and not any(u in d.int8 for u in op.result.users):
            del d.int8[op]
            reasons[op] = "only float needs its result"
    d.notes = [
        (op.loc or op.results[0].name or op.name, f"{op.name}: {reasons[op]}")
        for op in ops
        if op in reasons and not {"view", "same_scale", "int8"} & op.opdef.tags
    ]
    _place(ops, d)
    return d


def _kept(ops: Sequence[Operation], patterns: Sequence[str]) -> dict[Operation, str]:
    kept: dict[Operation, str] = {}
    for p in patterns:
        hit = [op for op in ops if matches(op, p)]
        if not hit:
            names = list(dict.fromkeys(n for op in ops for n in layer_names(op)[:1]))
            near = difflib.get_close_matches(p, names, 5, 0.4) or names[:5]
            raise CalibrationError(f"keep_float: pattern {p!r} matches no layer; there are {', '.join(near)}, ...")
        for op in hit:
            kept.setdefault(op, p)
    return kept


def data_operands(op: Operation) -> list[Value]:
    """The tensors that an int8 form of ``op`` takes in int8, but for constants."""
    if op.opdef in ANCHORS:
        return [op.operands[0]] if op.operands[0] is not None else []
    x = table_operand(op)
    if x is not None:
        return [x]
    return [v for v in op.operands if v is not None and const_array(v) is None]


def _why_not(op: Operation) -> str:
    """Why ``op`` has no int8 form; "" when it has one."""
    if any(r.type.dtype is not DType.F32 for r in op.results) or not op.results:
        return "its result is not f32"
    if any(v.type.dtype is not DType.F32 for v in data_operands(op)):
        return "its input is not f32"
    if op.opdef in ANCHORS:
        return _why_not_anchor(op)
    if table_operand(op) is not None or op.opdef in (avg_pool2d, reduce_mean, softmax):
        return ""
    if op.opdef in (add, mul):
        c = [const_array(v) for v in op.operands]
        ok = all(a is None or bool(np.isfinite(a).all()) for a in c)
        return "" if ok else "a constant operand is not finite"
    if "same_scale" not in op.opdef.tags:
        return "no int8 form"
    if op.opdef is resize2d and op.attrs["mode"] != "nearest":
        return "no int8 form for bilinear resizing"
    if op.opdef is pad and op.attrs["mode"] == "constant" and not math.isfinite(op.attrs["value"]):
        return f"it pads with {op.attrs['value']}"
    if any(const_array(v) is not None for v in op.operands):
        return "it takes a constant"
    return ""


def _why_not_anchor(op: Operation) -> str:
    w, bias = const_array(op.operand("w")), op.get("bias")
    if w is None:
        return "its weights are not constant"
    if bias is not None and const_array(bias) is None:
        return "its bias is not constant"
    flat = np.abs(w.reshape(w.shape[0], -1).astype(np.float64))
    if not np.isfinite(flat).all():
        return "its weights are not finite"
    top = flat.max(1, initial=0.0)
    if (flat.sum(1) / np.where(top > 0, top, 1.0)).max(initial=0.0) * 127 * 255 > 2**30:
        return "its int32 sums could overflow"
    return ""


def _float_input(op: Operation, d: Decision) -> str:
    if op.opdef in ANCHORS:
        return ""
    for v in data_operands(op):
        if v.producer is None:
            return "its input is float (an input of the model)"
        if v.producer not in d.int8:
            return f"its input is float (from {v.producer.name})"
    return ""


def _cheap(op: Operation) -> bool:
    """Operations that are better done in float when only float uses their result."""
    unary = table_operand(op) is not None
    return unary or op.opdef is reduce_mean or "view" in op.opdef.tags


def chains(ops: Sequence[Operation], d: Decision) -> list[list[Operation]]:
    """Operations that one int8 kernel does together, ends last: anchor, add, relu or clip; add or mul with these."""
    taken: set[Operation] = set()
    out = []
    for op in reversed([o for o in ops if o in d.int8 and o.opdef in ANCHORS]):
        chain = [op]
        for nxt in grow(op)[1:]:
            if nxt not in d.int8 or nxt in taken or (nxt.opdef is not add and nxt.opdef not in (relu, clip)):
                break
            chain.append(nxt)
        out.append(chain)
        taken.update(chain)
    for op in ops:
        if op in d.int8 and op.opdef in (add, mul) and op not in taken and table_operand(op) is None:
            chain = [op]
            user = op.result.users[0] if op.result.has_one_use else None
            if user in d.int8 and user.opdef in (relu, clip) and user not in taken:
                chain.append(user)
            out.append(chain)
            taken.update(chain)
    return out


def _place(ops: Sequence[Operation], d: Decision) -> None:
    inside: set[Value] = set()
    for chain in chains(ops, d):
        inside.update(o.result for o in chain[:-1])
        if len(chain) == 1 and chain[0].opdef in ANCHORS and not any(u in d.int8 for u in chain[0].result.users):
            inside.add(chain[0].result)  # its float32 result is what everyone wants
    for op in d.int8:
        for v in data_operands(op):
            if v not in d.points and v not in inside:
                d.points[v] = Point(v, [v])
        if op.opdef is softmax and not any(u in d.int8 for u in op.result.users):
            continue  # its float32 result is what everyone wants
        if op.result not in inside:
            _place_result(op, d)


def _place_result(op: Operation, d: Decision) -> None:
    r = op.result
    if "same_scale" not in op.opdef.tags:
        d.points[r] = Point(r, [r], SOFTMAX_QUANT if op.opdef is softmax else None)
        return
    if op.opdef is concat:
        point = Point(r, [r])
        for i, v in enumerate(op.operands):
            assert v is not None
            old = d.points[v]
            if old is point:
                continue
            if old.fixed is None and all(m.has_one_use for m in old.members):
                for m in old.members:
                    d.points[m] = point
                point.members += old.members
                point.also += old.also
            else:
                d.rescale.append((op, i))
        d.points[r] = point
        return
    (x,) = data_operands(op)
    point = d.points[x]
    point.members.append(r)
    d.points[r] = point
    if op.opdef is pad and op.attrs["mode"] == "constant" and op.attrs["value"] != 0:
        point.also.append(float(op.attrs["value"]))
