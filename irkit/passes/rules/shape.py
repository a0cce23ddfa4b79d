"""Rules about ops that move data: what moves nothing goes, what moves twice moves once."""

from __future__ import annotations

from irkit.ir.graph import Operation, Value, const_array
from irkit.ir.opdef import REGISTRY
from irkit.ir.rewrite import Replacement, Rewriter, pattern
from irkit.ops import (
    add,
    avg_pool2d,
    cast,
    clip,
    concat,
    conv2d,
    conv_transpose2d,
    div,
    expand,
    linear,
    max_pool2d,
    maximum,
    minimum,
    mul,
    pad,
    permute,
    pow_,
    relu,
    reshape,
    sigmoid,
    slice_,
    sub,
)
from irkit.ops.check import broadcast
from irkit.ops.shape import MAX_JOINED

BINARY = (add, sub, mul, div, maximum, minimum, pow_)
UNARY = tuple(d for d in REGISTRY.values() if {"elementwise", "unary"} <= d.tags and d is not cast)


@pattern(reshape, expand, slice_, pad, cast)
def no_change(op: Operation, rw: Rewriter) -> Replacement:
    """A result of the operand's type with nothing left out is the operand."""
    x = op.operands[0]
    return x if x is not None and x.type == op.result.type else None


@pattern(permute)
def permute_nothing(op: Operation, rw: Rewriter) -> Replacement:
    """Axes stay where they are."""
    return op.operand("x") if op.attrs["perm"] == tuple(range(len(op.attrs["perm"]))) else None


@pattern(concat)
def concat_one(op: Operation, rw: Rewriter) -> Replacement:
    """A concat of one; empty operands bring nothing."""
    xs = [v for v in op.operands if v is not None and v.type.size > 0]
    if len(xs) == 1:
        return xs[0]
    if xs and len(xs) < len(op.operands):
        return rw.emit(concat, *xs, **op.attrs)
    return None


@pattern(concat)
def concat_of_concat(op: Operation, rw: Rewriter) -> Replacement:
    """Nested concats along one axis copy once."""
    rank = op.result.type.rank
    xs: list[Value | None] = []
    for v in op.operands:
        p = v.producer if v is not None else None
        if (
            v is not None
            and p is not None
            and p.opdef is concat
            and v.has_one_use
            and (p.attrs["axis"] - op.attrs["axis"]) % rank == 0
        ):
            xs += p.operands
        else:
            xs.append(v)
    return rw.emit(concat, *xs, **op.attrs) if len(op.operands) < len(xs) <= MAX_JOINED else None


@pattern(concat)
def concat_of_many(op: Operation, rw: Rewriter) -> Replacement:
    """As many operands as a step takes: more (the outputs of a recurrent layer's steps) are joined in groups first."""
    xs = op.operands
    if len(xs) <= MAX_JOINED:
        return None
    groups = [xs[i : i + MAX_JOINED] for i in range(0, len(xs), MAX_JOINED)]
    return rw.emit(concat, *(g[0] if len(g) == 1 else rw.emit(concat, *g, **op.attrs) for g in groups), **op.attrs)


@pattern(reshape)
def reshape_of_reshape(op: Operation, rw: Rewriter) -> Replacement:
    """Only the last shape counts."""
    p = op.operand("x").producer
    if p is None or p.opdef is not reshape:
        return None
    q = p.operand("x").type.quant
    if q is not None and q.axis is not None:  # the shape between may be what makes the axis fit
        return None
    return rw.emit(reshape, p.operand("x"), **op.attrs)


@pattern(permute)
def permute_of_permute(op: Operation, rw: Rewriter) -> Replacement:
    """Two permutations are one; inverse ones vanish."""
    p = op.operand("x").producer
    if p is None or p.opdef is not permute:
        return None
    perm = tuple(p.attrs["perm"][a] for a in op.attrs["perm"])
    return rw.emit(permute, p.operand("x"), perm=perm)


@pattern(permute)
def permute_to_reshape(op: Operation, rw: Rewriter) -> Replacement:
    """When only axes of extent one change places, nothing moves."""
    x = op.operand("x")
    moved = [a for a in op.attrs["perm"] if x.type.shape[a] != 1]
    if moved != sorted(moved) or (x.type.quant is not None and x.type.quant.axis is not None):
        return None
    return rw.emit(reshape, x, shape=op.result.type.shape)


@pattern(permute)
def permute_before_pad(op: Operation, rw: Rewriter) -> Replacement:
    """pad -> permute: the permute goes first, so that the padding meets the convolution or pool that it is for."""
    x = op.operand("x")
    p = x.producer
    if p is None or p.opdef is not pad or not x.has_one_use:
        return None
    pads = tuple(p.attrs["pads"][a] for a in op.attrs["perm"])
    moved = rw.emit(permute, p.operand("x"), **op.attrs)
    return rw.emit(pad, moved, loc=p.loc, **{**p.attrs, "pads": pads})


@pattern(slice_)
def slice_of_slice(op: Operation, rw: Rewriter) -> Replacement:
    """Slices compose."""
    p = op.operand("x").producer
    if p is None or p.opdef is not slice_:
        return None
    starts, ends, steps = [], [], []
    for axis, inner in enumerate(zip(p.attrs["starts"], p.attrs["ends"], p.attrs["steps"], strict=True)):
        first, _, step = inner
        s, st = op.attrs["starts"][axis], op.attrs["steps"][axis]
        count = op.result.type.shape[axis]
        starts.append(first + s * step if count else 0)
        steps.append(step * st)
        ends.append(starts[-1] + (count - 1) * step * st + 1 if count else 0)
    return rw.emit(slice_, p.operand("x"), starts=tuple(starts), ends=tuple(ends), steps=tuple(steps))


def _zero_border(op: Operation | None) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) of a constant pad of rank 4 that leaves batch and channels alone."""
    if op is None or op.opdef is not pad or op.attrs["mode"] != "constant" or op.result.type.rank != 4:
        return None
    n, c, (t, b), (left, r) = op.attrs["pads"]
    return None if any(n) or any(c) else (t, left, b, r)


@pattern(conv2d)
def pad_into_conv(op: Operation, rw: Rewriter) -> Replacement:
    """Zero padding before a convolution is the convolution's own."""
    p = op.operand("x").producer
    border = _zero_border(p)
    if p is None or border is None or p.attrs["value"] != 0:
        return None
    pads = tuple(a + b for a, b in zip(op.attrs["pads"], border, strict=True))
    return rw.emit(conv2d, p.operand("x"), *op.operands[1:], **{**op.attrs, "pads": pads})


def _not_negative(v: Value) -> bool:
    p = v.producer
    return p is not None and (p.opdef in (relu, sigmoid) or (p.opdef is clip and p.attrs["lo"] >= 0))


@pattern(max_pool2d)
def pad_into_max_pool(op: Operation, rw: Rewriter) -> Replacement:
    """Padding with -inf, or with zeros around what is not negative, is the pool's own: it never wins."""
    p = op.operand("x").producer
    border = _zero_border(p)
    if p is None or border is None or any(op.attrs["pads"]):
        return None
    x = p.operand("x")
    lowest = p.attrs["value"] == float("-inf")
    if not lowest and not (p.attrs["value"] == 0 and _not_negative(x)):
        return None
    for i, size in enumerate(x.type.shape[2:]):  # every window must keep something real
        k, s, d = op.attrs["kernel"][i], op.attrs["strides"][i], op.attrs["dilation"][i]
        reach = range(op.result.type.shape[2 + i])
        if not all(any(0 <= o * s - border[i] + j * d < size for j in range(k)) for o in reach):
            return None
    return rw.emit(max_pool2d, x, **{**op.attrs, "pads": border})


@pattern(avg_pool2d)
def pad_into_avg_pool(op: Operation, rw: Rewriter) -> Replacement:
    """Zero padding before an average that has none of its own counts as included padding."""
    p = op.operand("x").producer
    border = _zero_border(p)
    if p is None or border is None or p.attrs["value"] != 0 or any(op.attrs["pads"]):
        return None
    return rw.emit(avg_pool2d, p.operand("x"), **{**op.attrs, "pads": border, "count_include_pad": True})


@pattern(*BINARY)
def expand_into_binary(op: Operation, rw: Rewriter) -> Replacement:
    """Binary operations broadcast by themselves."""
    for pos in (0, 1):
        v, other = op.operands[pos], op.operands[1 - pos]
        if v is None or other is None or not v.is_op(expand) or v.producer is None:
            continue
        x = v.producer.operand("x")
        if broadcast(x.type.shape, other.type.shape) == op.result.type.shape:
            return rw.emit(op.opdef, *((x, other) if pos == 0 else (other, x)))
    return None


@pattern(*BINARY)
def full_rank_constant(op: Operation, rw: Rewriter) -> Replacement:
    """A constant operand of more than one element gets the result's rank, so that it can take any storage order."""
    rank = op.result.type.rank
    for pos in (0, 1):
        v = op.operands[pos]
        a = const_array(v)
        if v is None or a is None or a.size == 1 or a.ndim == rank:
            continue
        c = rw.const(a.reshape((1,) * (rank - a.ndim) + a.shape), v.name, loc=v.producer.loc if v.producer else "")
        operands = list(op.operands)
        operands[pos] = c
        return rw.emit(op.opdef, *operands)
    return None


@pattern(*UNARY)
def unary_before_reshape(op: Operation, rw: Rewriter) -> Replacement:
    """A unary function of reshaped results of an operation with weights goes first: the two can then be fused."""
    x = op.operands[0]
    if x is None or not x.is_op(reshape) or not x.has_one_use or x.producer is None:
        return None
    source = x.producer.operand("x")
    if not source.has_one_use or not source.is_op(conv2d, conv_transpose2d, linear):
        return None
    return rw.emit(reshape, rw.emit(op.opdef, source, **op.attrs), loc=x.producer.loc, shape=op.result.type.shape)


@pattern(add, sub, mul, div)
def binary_of_reshapes(op: Operation, rw: Rewriter) -> Replacement:
    """Two reshapes of one shape to another: the operation goes first, one reshape is left."""
    a, b = op.operands[0], op.operands[1]
    if a is None or b is None or a is b or not (a.is_op(reshape) and b.is_op(reshape)):
        return None
    if not (a.has_one_use and b.has_one_use and a.type.shape == b.type.shape):
        return None
    assert a.producer is not None and b.producer is not None
    x, y = a.producer.operand("x"), b.producer.operand("x")
    if x.type.shape != y.type.shape:
        return None
    return rw.emit(reshape, rw.emit(op.opdef, x, y), shape=op.result.type.shape)


PATTERNS = (
    no_change,
    permute_nothing,
    concat_one,
    concat_of_concat,
    concat_of_many,
    reshape_of_reshape,
    permute_of_permute,
    permute_before_pad,
    permute_to_reshape,
    slice_of_slice,
    pad_into_conv,
    pad_into_max_pool,
    pad_into_avg_pool,
    expand_into_binary,
    full_rank_constant,
    unary_before_reshape,
    binary_of_reshapes,
)
