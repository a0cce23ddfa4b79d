"""Rules about pools and reductions: one form for what means the same."""

from __future__ import annotations

from irkit.ir.graph import Operation
from irkit.ir.rewrite import Replacement, Rewriter, pattern
from irkit.ops import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    max_pool2d,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_sum,
    reshape,
)

REDUCTIONS = (reduce_mean, reduce_sum, reduce_max, reduce_min)


@pattern(adaptive_avg_pool2d, adaptive_max_pool2d)
def adaptive_to_plain(op: Operation, rw: Rewriter) -> Replacement:
    """One output is a global reduction; windows of equal extent are a plain pool."""
    x, out = op.operand("x"), op.attrs["output"]
    mean = op.opdef is adaptive_avg_pool2d
    if tuple(out) == (1, 1):
        return rw.emit(reduce_mean if mean else reduce_max, x, axes=(2, 3), keepdims=True)
    size = x.type.shape[2:]
    if any(s % o for s, o in zip(size, out, strict=True)):
        return None
    kernel = tuple(s // o for s, o in zip(size, out, strict=True))
    return rw.emit(avg_pool2d if mean else max_pool2d, x, kernel=kernel, strides=kernel)


@pattern(avg_pool2d, max_pool2d)
def pool_over_everything(op: Operation, rw: Rewriter) -> Replacement:
    """A window as large as the picture is a global reduction; one of a single element is nothing."""
    x, a = op.operand("x"), op.attrs
    if any(a["pads"]) or any(a.get("ceil", ())) or a.get("dilation", (1, 1)) != (1, 1):
        return None
    if a["kernel"] == x.type.shape[2:]:
        return rw.emit(reduce_mean if op.opdef is avg_pool2d else reduce_max, x, axes=(2, 3), keepdims=True)
    return x if a["kernel"] == (1, 1) and a["strides"] == (1, 1) else None


@pattern(*REDUCTIONS)
def plain_axes(op: Operation, rw: Rewriter) -> Replacement:
    """Axes counted from the front, ascending."""
    axes = tuple(sorted(a % op.operand("x").type.rank for a in op.attrs["axes"]))
    return None if axes == op.attrs["axes"] else rw.emit(op.opdef, op.operand("x"), **{**op.attrs, "axes": axes})


@pattern(*REDUCTIONS)
def reduce_of_reduce(op: Operation, rw: Rewriter) -> Replacement:
    """Mean over rows of the mean over columns: one reduction over both."""
    x = op.operand("x")
    p = x.producer
    if p is None or p.opdef is not op.opdef or not x.has_one_use or p.attrs["keepdims"] != op.attrs["keepdims"]:
        return None
    rank = p.operand("x").type.rank
    first = {a % rank for a in p.attrs["axes"]}
    left = list(range(rank)) if op.attrs["keepdims"] else [a for a in range(rank) if a not in first]
    axes = tuple(sorted(first | {left[a % len(left)] for a in op.attrs["axes"]}))
    return rw.emit(op.opdef, p.operand("x"), axes=axes, keepdims=op.attrs["keepdims"])


@pattern(reshape)
def reduce_without_dims(op: Operation, rw: Rewriter) -> Replacement:
    """A reshape that drops the axes which a reduction kept: the reduction does not keep them."""
    x = op.operand("x")
    p = x.producer
    if p is None or p.opdef not in REDUCTIONS or not x.has_one_use or not p.attrs["keepdims"]:
        return None
    source = p.operand("x").type
    axes = {a % source.rank for a in p.attrs["axes"]}
    if op.result.type.shape != tuple(d for i, d in enumerate(source.shape) if i not in axes):
        return None
    return rw.emit(p.opdef, p.operand("x"), loc=p.loc, axes=p.attrs["axes"], keepdims=False)


PATTERNS = (adaptive_to_plain, pool_over_everything, plain_axes, reduce_of_reduce, reduce_without_dims)
