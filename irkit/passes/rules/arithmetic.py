"""Rules about numbers: identities, clamps, and the activations that models write out as several operations."""

from __future__ import annotations

import math

import numpy as np

from irkit.ir.graph import Operation, Value, const_array
from irkit.ir.rewrite import Replacement, Rewriter, pattern
from irkit.ops import (
    add,
    clip,
    div,
    hardsigmoid,
    hardswish,
    linear,
    log,
    log_softmax,
    matmul,
    maximum,
    minimum,
    mish,
    mul,
    neg,
    pow_,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    square,
    sub,
    tanh,
)


def splat(v: Value | None) -> float | None:
    """The number that a constant consists of, in all its elements; None for others."""
    a = const_array(v)
    if a is None or a.size == 0 or a.dtype.kind not in "fiu":
        return None
    first = a.reshape(-1)[0]
    return float(first) if (a == first).all() else None


def other(op: Operation, pos: int) -> Value | None:
    """The operand of a binary operation opposite ``pos``, when it has the result's type."""
    v = op.operands[1 - pos]
    return v if v is not None and v.type.logical() == op.result.type.logical() else None


@pattern(add, sub, mul, div, pow_)
def neutral_element(op: Operation, rw: Rewriter) -> Replacement:
    """x + 0, x - 0, x * 1, x / 1, x ** 1."""
    neutral = 0.0 if op.opdef in (add, sub) else 1.0
    for pos in (1, 0) if op.opdef in (add, mul) else (1,):
        if splat(op.operands[pos]) == neutral:
            return other(op, pos)
    return None


@pattern(add, mul, maximum, minimum)
def constant_to_the_right(op: Operation, rw: Rewriter) -> Replacement:
    """Commutative operations have their constant on the right, so that equal ones look equal."""
    a, b = op.operands
    if const_array(a) is None or const_array(b) is not None:
        return None
    return rw.emit(op.opdef, b, a)


@pattern(sub)
def sub_constant(op: Operation, rw: Rewriter) -> Replacement:
    """x - c is x + (-c), bit for bit."""
    c = const_array(op.operands[1])
    if c is None or c.dtype.kind != "f" or const_array(op.operands[0]) is not None:
        return None
    return rw.emit(add, op.operands[0], rw.const(-c))


@pattern(div)
def div_by_power_of_two(op: Operation, rw: Rewriter) -> Replacement:
    """x / c is x * (1/c) when 1/c is exact: c is a power of two."""
    c = const_array(op.operands[1])
    if c is None or c.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        inverse = c.dtype.type(1) / c
    normal = np.isfinite(inverse).all() and (np.abs(inverse) >= np.finfo(c.dtype).tiny).all()
    if not normal or (np.abs(np.frexp(c)[0]) != 0.5).any():
        return None
    return rw.emit(mul, op.operands[0], rw.const(inverse))


@pattern(neg)
def neg_of_neg(op: Operation, rw: Rewriter) -> Replacement:
    """-(-x)."""
    p = op.operand("x").producer
    return p.operand("x") if p is not None and p.opdef is neg else None


def bounds(op: Operation | None) -> tuple[float, float] | None:
    """What a relu or clip clamps to."""
    if op is None:
        return None
    if op.opdef is relu:
        return 0.0, math.inf
    return (op.attrs["lo"], op.attrs["hi"]) if op.opdef is clip else None


@pattern(relu, clip)
def clamp_of_clamp(op: Operation, rw: Rewriter) -> Replacement:
    """Two clamps in a row are one."""
    p = op.operand("x").producer
    inner, outer = bounds(p), bounds(op)
    if p is None or inner is None or outer is None:
        return None
    lo, hi = (min(max(v, outer[0]), outer[1]) for v in inner)
    return rw.emit(clip, p.operand("x"), lo=float(lo), hi=float(hi))


@pattern(clip)
def clip_to_simpler(op: Operation, rw: Rewriter) -> Replacement:
    """A clip to [0, inf) is relu, one without bounds nothing."""
    lo, hi = op.attrs["lo"], op.attrs["hi"]
    if hi != math.inf:
        return None
    return op.operand("x") if lo == -math.inf else rw.emit(relu, op.operand("x")) if lo == 0 else None


@pattern(maximum, minimum)
def bound_to_clip(op: Operation, rw: Rewriter) -> Replacement:
    """max(x, c) and min(x, c) with one number c are clips."""
    for pos in (0, 1):
        c, x = splat(op.operands[pos]), other(op, pos)
        if c is None or x is None or math.isnan(c) or const_array(x) is not None or not x.type.dtype.is_float:
            continue
        lo, hi = (c, math.inf) if op.opdef is maximum else (-math.inf, c)
        return rw.emit(clip, x, lo=lo, hi=hi)
    return None


@pattern(pow_)
def power_two(op: Operation, rw: Rewriter) -> Replacement:
    """x ** 2."""
    x = other(op, 1)
    return rw.emit(square, x) if splat(op.operands[1]) == 2 and x is not None else None


@pattern(mul)
def square_of_product(op: Operation, rw: Rewriter) -> Replacement:
    """x * x."""
    a, b = op.operands
    return rw.emit(square, a) if a is b else None


@pattern(mul)
def gated(op: Operation, rw: Rewriter) -> Replacement:
    """x * sigmoid(x) is silu, x * hardsigmoid(x) hardswish, x * tanh(softplus(x)) mish."""
    for gate, x in (op.operands, op.operands[::-1]):
        p = gate.producer if gate is not None else None
        if p is None or gate is None or not gate.has_one_use:
            continue
        for inner, whole in ((sigmoid, silu), (hardsigmoid, hardswish)):
            if p.opdef is inner and p.operand("x") is x:
                return rw.emit(whole, x)
        if p.opdef is tanh and p.operand("x").is_op(softplus) and p.operand("x").has_one_use:
            soft = p.operand("x").producer
            if soft is not None and soft.operand("x") is x:
                return rw.emit(mish, x)
    return None


def _relu6_of_plus_three(v: Value | None) -> Value | None:
    """x of clip(x + 3, 0, 6)."""
    p = v.producer if v is not None else None
    if p is None or p.opdef is not clip or (p.attrs["lo"], p.attrs["hi"]) != (0, 6):
        return None
    shifted = p.operand("x").producer
    if shifted is None or shifted.opdef is not add or splat(shifted.operands[1]) != 3:
        return None
    return other(shifted, 1)


def _divides_by_six(op: Operation) -> bool:
    c = splat(op.operands[1])
    if c is None:
        return False
    return c == 6 if op.opdef is div else abs(c - 1 / 6) < 1e-7


@pattern(div, mul)
def written_out_hard_functions(op: Operation, rw: Rewriter) -> Replacement:
    """clip(x + 3, 0, 6) / 6 is hardsigmoid, x * clip(x + 3, 0, 6) / 6 hardswish, as MobileNetV3 writes them."""
    if not _divides_by_six(op):
        return None
    v = other(op, 1)
    x = _relu6_of_plus_three(v)
    if x is not None:
        return rw.emit(hardsigmoid, x)
    p = v.producer if v is not None else None
    if p is None or v is None or p.opdef is not mul or not v.has_one_use:
        return None
    for gate, y in (p.operands, p.operands[::-1]):
        if y is not None and _relu6_of_plus_three(gate) is y:
            return rw.emit(hardswish, y)
    return None


@pattern(log)
def log_of_softmax(op: Operation, rw: Rewriter) -> Replacement:
    """log(softmax(x)), without its loss of small numbers."""
    p = op.operand("x").producer
    if p is None or p.opdef is not softmax or not p.result.has_one_use:
        return None
    return rw.emit(log_softmax, p.operand("x"), **p.attrs)


@pattern(matmul)
def matmul_by_weights(op: Operation, rw: Rewriter) -> Replacement:
    """x @ W with a constant matrix W is linear with W transposed."""
    x, w = op.operand("a"), op.operand("b")
    a = const_array(w)
    if a is None or a.ndim != 2 or const_array(x) is not None:
        return None
    weights = rw.const(np.ascontiguousarray(a.T), w.name, loc=w.producer.loc if w.producer is not None else "")
    return rw.emit(linear, x, weights)


PATTERNS = (
    neutral_element,
    constant_to_the_right,
    sub_constant,
    div_by_power_of_two,
    neg_of_neg,
    clamp_of_clamp,
    clip_to_simpler,
    bound_to_clip,
    power_two,
    square_of_product,
    gated,
    written_out_hard_functions,
    log_of_softmax,
    matmul_by_weights,
)
