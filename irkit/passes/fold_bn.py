"""Folding of batch norms and per-channel scales and shifts into the linear operations around them.

The arithmetic on weights is done in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from irkit.ir.graph import Graph, Operation, Value, const_array
from irkit.ir.passes import Effect, Pass
from irkit.ir.rewrite import Pattern, Replacement, Rewriter, pattern, rewrite
from irkit.ir.types import Array
from irkit.ops import add, batch_norm, conv2d, conv_transpose2d, div, linear, mul, reshape, sub

F64 = npt.NDArray[np.float64]
_ANCHORS = (conv2d, conv_transpose2d, linear)


def bn_factors(bn: Operation) -> tuple[F64, F64] | None:
    """Scale and shift [C] that a batch norm with constant statistics multiplies by and adds; None when not constant."""
    arrays: list[Array | None] = []
    for name in ("gamma", "beta", "mean", "var"):
        v = bn.get(name)
        a = const_array(v)
        if v is not None and a is None:
            return None
        arrays.append(a)
    gamma, beta, mean, var = arrays
    if mean is None or var is None:
        return None
    with np.errstate(all="ignore"):  # a variance below zero, or zero without eps: judged by the result
        scale = 1.0 / np.sqrt(var.astype(np.float64) + bn.attrs["eps"])
        if gamma is not None:
            scale = scale * gamma
        shift = -mean * scale if beta is None else beta - mean * scale
    return (scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def channel_axis(anchor: Operation) -> int:
    """Axis of the result that the anchor's output channels lie on."""
    return anchor.result.type.rank - 1 if anchor.opdef is linear else 1


def foldable_anchor(v: Value | None) -> Operation | None:
    """The conv2d, conv_transpose2d or linear with constant parameters whose only user will be rewritten."""
    if v is None or not v.has_one_use or not v.is_op(*_ANCHORS):
        return None
    op = v.producer
    assert op is not None
    bias = op.get("bias")
    if const_array(op.operand("w")) is None or (bias is not None and const_array(bias) is None):
        return None
    return op


def scale_outputs(anchor: Operation, w: Array, scale: F64) -> F64:
    """Weights whose output channels are multiplied by ``scale`` [O]."""
    if anchor.opdef is conv_transpose2d:  # w is [I, O/g, KH, KW]; the inputs of a group make its outputs
        g = anchor.attrs["groups"]
        i, og = w.shape[:2]
        parts = w.astype(np.float64).reshape(g, i // g, og, *w.shape[2:]) * scale.reshape(g, 1, og, 1, 1)
        return parts.reshape(w.shape)
    return w.astype(np.float64) * scale.reshape(-1, *(1,) * (w.ndim - 1))


def with_affine(anchor: Operation, rw: Rewriter, scale: F64 | None, shift: F64 | None) -> Value | None:
    """The anchor with ``y * scale + shift`` folded into its parameters; None when that would not be finite."""
    w, bias = anchor.operand("w"), anchor.get("bias")
    wa, ba = const_array(w), const_array(bias)
    assert wa is not None
    new_w: Array = wa
    b = np.zeros(anchor.result.type.shape[channel_axis(anchor)]) if ba is None else ba.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if scale is not None:
            new_w = scale_outputs(anchor, wa, scale).astype(wa.dtype)
            b = b * scale
        if shift is not None:
            b = b + shift
        new_b = b.astype(wa.dtype)
    if not (np.isfinite(new_w).all() and np.isfinite(new_b).all()):
        return None
    return emit_anchor(anchor, rw, new_w if scale is not None else None, new_b, anchor.operand("x"))


def emit_anchor(anchor: Operation, rw: Rewriter, w: Array | None, bias: Array, x: Value) -> Value:
    """A copy of the anchor with other parameters, which keep their names (``w`` None: the same weights)."""
    old_w, old_b = anchor.operand("w"), anchor.get("bias")
    weight_name = old_w.name
    base = weight_name.removesuffix(".weight") if weight_name.endswith(".weight") else ""
    bias_name = old_b.name if old_b is not None else f"{base}.bias" if base else ""
    wv = old_w if w is None else rw.const(w, weight_name, loc=anchor.loc)
    bv = rw.const(bias, bias_name, loc=anchor.loc)
    return rw.emit(anchor.opdef, x, wv, bv, loc=anchor.loc, **anchor.attrs)


@pattern(batch_norm)
def fold_bn_into_producer(bn: Operation, rw: Rewriter) -> Replacement:
    """conv/linear -> batch_norm."""
    anchor = foldable_anchor(bn.operands[0])
    if anchor is None or channel_axis(anchor) != 1:
        return None
    factors = bn_factors(bn)
    return None if factors is None else with_affine(anchor, rw, *factors)


@pattern(conv2d, conv_transpose2d, linear)
def fold_bn_into_user(anchor: Operation, rw: Rewriter) -> Replacement:
    """batch_norm -> conv/linear: zeros that the convolution pads with must stay zeros."""
    x, bias = anchor.operand("x"), anchor.get("bias")
    if not x.is_op(batch_norm) or not x.has_one_use or (anchor.opdef is linear and x.type.rank != 2):
        return None
    bn = x.producer
    assert bn is not None
    w, b = const_array(anchor.operand("w")), const_array(bias)
    factors = bn_factors(bn)
    if w is None or (bias is not None and b is None) or factors is None:
        return None
    scale, shift = factors
    shifts_borders = anchor.opdef is conv_transpose2d or (anchor.opdef is conv2d and any(anchor.attrs["pads"]))
    if shifts_borders and shift.any():
        return None
    wide = w.astype(np.float64)
    if anchor.opdef is conv2d:
        g = anchor.attrs["groups"]
        o, ci = w.shape[:2]
        channel = (np.arange(o) // (o // g))[:, None] * ci + np.arange(ci)  # input channel of each w[o, i]
        new_w = wide * scale[channel][..., None, None]
        extra = (wide * shift[channel][..., None, None]).sum((1, 2, 3))
    elif anchor.opdef is conv_transpose2d:
        new_w = wide * scale.reshape(-1, 1, 1, 1)
        extra = np.zeros(w.shape[1] * anchor.attrs["groups"])
    else:
        new_w = wide * scale
        extra = wide @ shift
    new_b = extra if b is None else b + extra
    with np.errstate(over="ignore"):
        rounded = new_w.astype(w.dtype), new_b.astype(w.dtype)
    if not all(np.isfinite(a).all() for a in rounded):
        return None
    return emit_anchor(anchor, rw, rounded[0], rounded[1], bn.operand("x"))


def per_channel(v: Value | None, result: Value, axis: int) -> F64 | None:
    """A constant that broadcasts to ``result`` and varies along ``axis`` only, as [C] in float64."""
    a = const_array(v)
    t = result.type
    if a is None or a.ndim > t.rank:
        return None
    full = a.reshape((1,) * (t.rank - a.ndim) + a.shape)
    if any(d != 1 for i, d in enumerate(full.shape) if i != axis):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (t.shape[axis],))


def _split(op: Operation) -> tuple[Operation, F64, bool] | None:
    """Anchor, per-channel constant, and whether the anchor is the left operand, of a binary operation."""
    for pos in (0, 1):
        v = op.operands[pos]
        anchor = foldable_anchor(v)
        if anchor is None or v is None or v.type.shape != op.result.type.shape:
            continue
        c = per_channel(op.operands[1 - pos], op.result, channel_axis(anchor))
        if c is not None and np.isfinite(c).all():
            return anchor, c, pos == 0
    return None


@pattern(mul, div)
def fold_scale(op: Operation, rw: Rewriter) -> Replacement:
    """conv/linear -> mul or div by per-channel constants."""
    found = _split(op)
    if found is None:
        return None
    anchor, c, left = found
    if op.opdef is div:
        if not left or not c.all():
            return None
        c = 1.0 / c
    return with_affine(anchor, rw, c, None)


@pattern(add, sub)
def fold_shift(op: Operation, rw: Rewriter) -> Replacement:
    """conv/linear -> add or sub of per-channel constants becomes its bias."""
    found = _split(op)
    if found is None:
        return None
    anchor, c, left = found
    if op.opdef is add:
        return with_affine(anchor, rw, None, c)
    minus = np.full_like(c, -1.0)
    return with_affine(anchor, rw, None, -c) if left else with_affine(anchor, rw, minus, c)


def keeps_channels(r: Operation) -> bool:
    """True for a reshape that leaves batch and channels alone (as around a one-dimensional convolution)."""
    if r.opdef is not reshape:
        return False
    x, y = r.operand("x").type.shape, r.result.type.shape
    return len(x) > 2 and len(y) > 1 and x[:2] == y[:2]


def _bn(rw: Rewriter, x: Value, bn: Operation) -> Value:
    return rw.emit(batch_norm, x, *bn.operands[1:], **bn.attrs)


@pattern(batch_norm)
def bn_before_reshape(bn: Operation, rw: Rewriter) -> Replacement:
    """conv -> reshape -> batch_norm: the batch norm goes first, so that it meets the convolution."""
    x = bn.operand("x")
    r = x.producer
    if r is None or not keeps_channels(r) or not x.has_one_use or foldable_anchor(r.operands[0]) is None:
        return None
    return rw.emit(reshape, _bn(rw, r.operand("x"), bn), loc=r.loc, shape=r.attrs["shape"])


@pattern(reshape)
def reshape_before_bn(r: Operation, rw: Rewriter) -> Replacement:
    """batch_norm -> reshape -> conv: the reshape goes first."""
    x, users = r.operand("x"), r.result.users
    if not x.is_op(batch_norm) or not x.has_one_use or not keeps_channels(r):
        return None
    if len(users) != 1 or users[0].opdef is not conv2d:
        return None
    bn = x.producer
    assert bn is not None
    source = bn.operand("x")
    if source.is_op(reshape):  # that one may still let the batch norm through, to its producer
        return None
    return rw.emit(
        batch_norm, rw.emit(reshape, source, shape=r.attrs["shape"]), *bn.operands[1:], loc=bn.loc, **bn.attrs
    )


@pattern(batch_norm)
def bn_to_affine(bn: Operation, rw: Rewriter) -> Replacement:
    """A batch norm that stays becomes a mul and an add, which fuse with what follows."""
    factors = bn_factors(bn)
    if factors is None:
        return None
    t = bn.result.type
    scale, shift = (f.astype(t.dtype.numpy).reshape(1, -1, *(1,) * (t.rank - 2)) for f in factors)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    base = bn.result.name
    y = rw.emit(mul, bn.operand("x"), rw.const(scale, f"{base}.scale" if base else ""))
    return rw.emit(add, y, rw.const(shift, f"{base}.shift" if base else ""))


_INTO: tuple[Pattern, ...] = (
    fold_bn_into_producer,
    bn_before_reshape,
    reshape_before_bn,
    fold_bn_into_user,
    fold_scale,
    fold_shift,
)


@dataclass(frozen=True)
class FoldBn(Pass):
    """Folds batch norms, and per-channel scales and shifts, into conv2d, conv_transpose2d and linear, on either side.

    A batch norm before a padded convolution stays unless its shift is zero: the padding must not be shifted. What
    remains of batch norms becomes mul and add.
    """

    effect: ClassVar[Effect] = Effect.ROUNDING

    def run(self, graph: Graph) -> bool:
        """See the class."""
        folded = rewrite(graph, _INTO)
        return rewrite(graph, [bn_to_affine]) or folded
