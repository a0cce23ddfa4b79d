"""Turns quantize(op(dequantize(x), ...)) into the int8 op: the same numbers, computed on integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from irkit.ir.graph import Graph, Operation, Value, const_array
from irkit.ir.opdef import REGISTRY
from irkit.ir.passes import Effect, Pass
from irkit.ir.rewrite import Pattern, Replacement, Rewriter, pattern, rewrite
from irkit.ir.types import DType, Quant
from irkit.ops import (
    add,
    avg_pool2d,
    clip,
    conv2d,
    dequantize,
    linear,
    max_pool2d,
    mul,
    pad,
    qadd,
    qavg_pool2d,
    qconv2d,
    qlinear,
    qlut,
    qmean,
    qmul,
    qsoftmax,
    quantize,
    reduce_mean,
    relu,
    requantize,
    resize2d,
    slice_,
    softmax,
)
from irkit.ops.fusion import residual_of
from irkit.ops.quantized import softmax_table
from irkit.quant.tables import build_table, clamp_bounds, table_operand
from irkit.quant.weights import fits_accumulator, quantize_bias

_ANCHORS = {conv2d: qconv2d, linear: qlinear}
_MOVES = tuple(d for d in REGISTRY.values() if "same_scale" in d.tags)


def stored(v: Value | None) -> Value | None:
    """The per-tensor int8 value behind ``dequantize``, or None."""
    if v is None or v.producer is None or v.producer.opdef is not dequantize:
        return None
    q = v.producer.operand("x")
    ok = q.type.dtype is DType.I8 and q.type.quant is not None and q.type.quant.axis is None
    return q if ok else None


def quant_of(v: Value) -> Quant:
    """The quantization of an int8 value."""
    assert v.type.quant is not None
    return v.type.quant


@dataclass(frozen=True)
class _Anchor:
    """An int8 convolution or linear layer found in float clothes."""

    op: Operation
    x: Value
    w: Value
    bias: Any  # int32 array or None

    def emit(self, rw: Rewriter, **more: Any) -> Value:
        """The int8 op, without residual unless given in ``more``."""
        residual = more.pop("residual", None)
        b = None
        if self.bias is not None:
            old = self.op.operand("bias")
            b = rw.const(self.bias, f"{old.name}_i32" if old.name else "", loc=self.op.loc)
        opdef = _ANCHORS[self.op.opdef]
        return rw.emit(opdef, self.x, self.w, b, residual, loc=self.op.loc, **self.op.attrs, **more)


def find_anchor(op: Operation | None) -> _Anchor | None:
    """``op`` as an int8 anchor: int8 input, constant symmetric weights per output channel, a bias that fits int32."""
    if op is None or op.opdef not in _ANCHORS:
        return None
    x, wf, bias = stored(op.operand("x")), op.operand("w").producer, op.get("bias")
    if x is None or wf is None or wf.opdef is not dequantize:
        return None
    w = wf.operand("x")
    array, q = const_array(w), w.type.quant
    if array is None or q is None or w.type.dtype is not DType.I8 or q.axis != 0 or any(q.zero):
        return None
    b = None
    if bias is not None:
        values = const_array(bias)
        b = None if values is None else quantize_bias(values, quant_of(x).scale[0], q)
        if b is None:
            return None
    if not fits_accumulator(array, b, quant_of(x).zero[0]):
        return None
    return _Anchor(op, x, w, b)


def peel(v: Value) -> tuple[Operation | None, Operation | None]:
    """(relu or clip, the operation before it) that ``v`` is made by; (None, maker) when there is no such step."""
    op = v.producer
    if op is None or op.opdef not in (relu, clip):
        return None, op
    inner = op.operand("x")
    return (op, inner.producer) if inner.has_one_use else (None, op)


# ---- what a quantize can absorb; in the order tried


@pattern(quantize)
def quantize_of_dequantize(q: Operation, rw: Rewriter) -> Replacement:
    """Two conversions in a row: nothing, or one requantization."""
    x = stored(q.operand("x"))
    if x is None:
        return None
    y = q.attrs["quant"]
    return x if quant_of(x) == y else rw.emit(requantize, x, quant=y)


@pattern(quantize)
def quantize_of_anchor(q: Operation, rw: Rewriter) -> Replacement:
    """anchor -> [add] -> [relu | clip] -> quantize."""
    v, y = q.operand("x"), q.attrs["quant"]
    if not v.has_one_use:
        return None
    act, op = peel(v)
    bounds = clamp_bounds(act, y)
    if op is None or bounds is None:
        return None
    residual: Value | None = None
    anchor = find_anchor(op)
    if anchor is None and op.opdef is add:
        for side in ("b", "a"):  # of two anchors the later one takes the other as its residual
            value = op.operand(side)
            other = residual_of(op, value)
            anchor = find_anchor(value.producer) if value.has_one_use and other is not None else None
            residual = stored(other)
            if anchor is not None and residual is not None:
                break
        if residual is None:
            return None
    if anchor is None:
        return None
    return anchor.emit(rw, residual=residual, quant=y, lo=bounds[0], hi=bounds[1])


@pattern(quantize)
def quantize_of_sum(q: Operation, rw: Rewriter) -> Replacement:
    """add or mul of two int8 values -> [relu | clip] -> quantize."""
    v, y = q.operand("x"), q.attrs["quant"]
    act, op = peel(v)
    bounds = clamp_bounds(act, y)
    if not v.has_one_use or op is None or op.opdef not in (add, mul) or bounds is None:
        return None
    a, b = stored(op.operand("a")), stored(op.operand("b"))
    if a is None or b is None:
        return None
    return rw.emit(qadd if op.opdef is add else qmul, a, b, loc=op.loc, quant=y, lo=bounds[0], hi=bounds[1])


def _exponentials(op: Operation, x: Value, rw: Rewriter) -> Value:
    """The table of a softmax of int8 ``x``."""
    name = op.result.name
    return rw.const(softmax_table(quant_of(x).scale[0]), f"{name}_table" if name else "", loc=op.loc)


@pattern(softmax)
def softmax_to_float(op: Operation, rw: Rewriter) -> Replacement:
    """softmax of an int8 value that float uses: integer sums, so that the bits are the same everywhere."""
    x = stored(op.operand("x"))
    return None if x is None else rw.emit(qsoftmax, x, _exponentials(op, x, rw), loc=op.loc, **op.attrs)


@pattern(quantize)
def quantize_of_average(q: Operation, rw: Rewriter) -> Replacement:
    """avg_pool2d, reduce_mean or softmax of an int8 value -> quantize."""
    v, y = q.operand("x"), q.attrs["quant"]
    op = v.producer
    if op is None or not v.has_one_use or op.opdef not in (avg_pool2d, reduce_mean, softmax):
        return None
    x = stored(op.operand("x"))
    if x is None:
        return None
    if op.opdef is softmax:
        return rw.emit(qsoftmax, x, _exponentials(op, x, rw), loc=op.loc, quant=y, **op.attrs)
    return rw.emit(qavg_pool2d if op.opdef is avg_pool2d else qmean, x, loc=op.loc, quant=y, **op.attrs)


@pattern(quantize)
def quantize_of_pointwise(q: Operation, rw: Rewriter) -> Replacement:
    """Any function of one int8 tensor's elements -> quantize: a table of its 256 answers."""
    v, y = q.operand("x"), q.attrs["quant"]
    op = v.producer
    if op is None or not v.has_one_use:
        return None
    x = stored(table_operand(op))
    if x is None:
        return None
    if op.opdef in (relu, clip):
        bounds = clamp_bounds(op, y)
        assert bounds is not None
        return rw.emit(requantize, x, loc=op.loc, quant=y, lo=bounds[0], hi=bounds[1])
    table = rw.const(build_table(op, quant_of(x), y), f"{v.name}_table" if v.name else "", loc=op.loc)
    return rw.emit(qlut, x, table, loc=op.loc, quant=y)


# ---- moving data commutes with quantization


@pattern(*_MOVES)
def move_of_dequantize(op: Operation, rw: Rewriter) -> Replacement:
    """A move of float copies of int8 data: move the int8 data."""
    inner = [s for s in map(stored, op.operands) if s is not None]
    if not inner or len(inner) != len(op.operands) or any(quant_of(v) != quant_of(inner[0]) for v in inner):
        return None
    attrs = dict(op.attrs)
    if op.opdef is resize2d and attrs["mode"] != "nearest":
        return None
    if op.opdef is pad and attrs["mode"] == "constant":
        value = _pad_value(attrs["value"], quant_of(inner[0]))
        if value is None:
            return None
        attrs["value"] = value
    return rw.emit(dequantize, rw.emit(op.opdef, *inner, **attrs))


def _pad_value(value: float, q: Quant) -> float | None:
    """The stored integer of a pad value inside the range that ``q`` can hold; None outside."""
    steps = value / q.scale[0] + q.zero[0]
    if not -128.5 <= steps <= 127.5:
        return None
    return float(int(quantize.fn(np.asarray([value], np.float32), quant=q)[0]))


@pattern(quantize)
def quantize_of_move(q: Operation, rw: Rewriter) -> Replacement:
    """quantize(move(x)) of float x: quantize first, so that fewer bytes move."""
    v, y = q.operand("x"), q.attrs["quant"]
    op = v.producer
    if op is None or not v.has_one_use or op.opdef not in _MOVES or op.opdef is slice_:
        return None
    if op.opdef is not max_pool2d and len(op.operands) != 1:
        return None
    x = op.operands[0]
    attrs = dict(op.attrs)
    if x is None or stored(x) is not None or (op.opdef is resize2d and attrs["mode"] != "nearest"):
        return None
    if op.opdef is pad and attrs["mode"] == "constant":
        attrs["value"] = float(int(quantize.fn(np.asarray([attrs["value"]], np.float32), quant=y)[0]))
    return rw.emit(op.opdef, rw.emit(quantize, x, quant=y), loc=op.loc, **attrs)


# ---- what is left: int8 in, float out


@pattern(conv2d, linear)
def anchor_to_float(op: Operation, rw: Rewriter) -> Replacement:
    """An int8 anchor whose result only float uses want: its sums, scaled."""
    anchor = find_anchor(op)
    return None if anchor is None else anchor.emit(rw, quant=None)


ABSORB: list[Pattern] = [
    quantize_of_dequantize,
    quantize_of_anchor,
    quantize_of_sum,
    quantize_of_average,
    quantize_of_pointwise,
    move_of_dequantize,
    quantize_of_move,
]


@dataclass(frozen=True)
class Integerize(Pass):
    """int8 operations from dequantize .. op .. quantize.

    Anchors take a following residual add and relu or clip; pointwise functions become tables; moves work on the int8
    data; float islands keep explicit quantize and dequantize at their borders. Each int8 result is within one step of
    the float graph's: only the place of rounding changes.
    """

    effect: ClassVar[Effect] = Effect.ROUNDING
    rtol: ClassVar[float] = 0.05  # a few steps of an int8 output

    def run(self, graph: Graph) -> bool:
        """Rewrite to a fixpoint; True when anything changed."""
        changed = rewrite(graph, ABSORB)
        return rewrite(graph, [anchor_to_float, softmax_to_float]) or changed
