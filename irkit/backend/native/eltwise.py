"""Elementwise operations, alone or fused, as programs of kernels/eltwise; casts; batch norm left to itself."""

from __future__ import annotations

import numpy as np

from irkit.backend.kernel import Const, Step, StepInput, lowering
from irkit.backend.storage import is_dense
from irkit.ir.graph import Operation, Value, const_array
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, DType, TensorType
from irkit.ops import (
    abs_,
    add,
    batch_norm,
    cast,
    ceil,
    clip,
    div,
    elu,
    erf,
    exp,
    floor,
    fused,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log,
    maximum,
    minimum,
    mish,
    mul,
    neg,
    pow_,
    prelu,
    reciprocal,
    relu,
    rsqrt,
    sigmoid,
    sign,
    silu,
    softplus,
    sqrt,
    square,
    sub,
    tanh,
)
from irkit.ops.fusion import is_elementwise_body

MAX_INPUTS = 16
MAX_INSTRS = 48
MAX_IMMS = 96
MAX_RANK = 8

# Codes of kernels/eltwise/ops.inc by their name there.
CODES = {
    "copy": 0,
    "relu": 1,
    "neg": 2,
    "abs": 3,
    "exp": 4,
    "log": 5,
    "sqrt": 6,
    "rsqrt": 7,
    "reciprocal": 8,
    "sigmoid": 9,
    "tanh": 10,
    "erf": 11,
    "silu": 12,
    "hardsigmoid": 13,
    "hardswish": 14,
    "softplus": 15,
    "mish": 16,
    "sign": 17,
    "floor": 18,
    "ceil": 19,
    "square": 20,
    "gelu": 21,
    "gelu_tanh": 22,
    "add": 32,
    "sub": 33,
    "mul": 34,
    "div": 35,
    "maximum": 36,
    "minimum": 37,
    "pow": 38,
    "leaky": 39,
    "elu": 40,
    "clip": 48,
}
_UNARY: tuple[OpDef, ...] = (
    relu, neg, abs_, exp, log, sqrt, rsqrt, reciprocal, sigmoid, tanh, erf, silu, hardsigmoid, hardswish, softplus,
    mish, sign, floor, ceil, square,
)  # fmt: skip
_BINARY: tuple[OpDef, ...] = (add, sub, mul, div, maximum, minimum, pow_)
_PARAMETRIC: tuple[OpDef, ...] = (clip, leaky_relu, elu, gelu, prelu)
_ALL = frozenset((*_UNARY, *_BINARY, *_PARAMETRIC))


def strides_in(operand: TensorType, result: TensorType, shape: tuple[int, ...] | None = None) -> list[int]:
    """Element strides of ``operand`` along the axes of ``result`` in its memory order, 0 where it is broadcast.

    ``shape`` is the logical shape that broadcasts, when it is the operand's with axes of 1 inserted after the last one.
    """
    step = 1
    own = [0] * operand.rank
    for axis in reversed(operand.order):
        own[axis] = step
        step *= operand.shape[axis]
    dims = operand.shape if shape is None else shape
    own += [0] * (len(dims) - operand.rank)
    lead = result.rank - len(dims)
    logical = [0] * lead + [s if d != 1 else 0 for s, d in zip(own, dims, strict=True)]
    return [logical[axis] for axis in result.order]


class Program:
    """An elementwise program under construction: instructions over inputs, earlier results and immediates."""

    def __init__(self, result: TensorType) -> None:
        self.result = result
        self.inputs: list[StepInput] = []
        self._strides: list[list[int]] = []
        self._code: list[
            tuple[str, list[int]]
        ] = []  # operands: results as their index, inputs as ~index, immediates below
        self._imm: list[np.float32] = []

    _IMM = -(1 << 20)

    def input(self, value: StepInput, type: TensorType, shape: tuple[int, ...] | None = None) -> int:
        """An operand; the same value read by the same strides is one input."""
        strides = strides_in(type, self.result, shape)
        for i, (v, s) in enumerate(zip(self.inputs, self._strides, strict=True)):
            if v is value and s == strides:
                return ~i
        self.inputs.append(value)
        self._strides.append(strides)
        return ~(len(self.inputs) - 1)

    def imm(self, value: float) -> int:
        """An immediate, rounded to float32."""
        self._imm.append(np.float32(value))
        return self._IMM - (len(self._imm) - 1)

    def emit(self, name: str, *operands: int) -> int:
        """An instruction; its result."""
        ops = list(operands)
        first = ops[:1] if name == "clip" else ops
        if all(o <= self._IMM for o in first):  # an instruction needs one operand with a place in memory
            value = self._imm[self._IMM - ops[0]]
            ops[0] = self.input(Const(np.full((1,), value, np.float32), "scalar"), TensorType((1,)))
        self._code.append((name, ops))
        return len(self._code) - 1

    def step(self, note: str) -> Step | None:
        """The finished step; None when the kernel has no room for it."""
        n = len(self.inputs)
        if n > MAX_INPUTS or len(self._code) > MAX_INSTRS or len(self._imm) > MAX_IMMS or self.result.rank > MAX_RANK:
            return None

        def place(o: int) -> int:
            if o <= self._IMM:
                return -1 - (self._IMM - o)
            return o + n if o >= 0 else ~o

        code: list[int] = []
        for name, ops in self._code:
            code += [CODES[name], *(place(o) for o in ops), *[0] * (3 - len(ops))]
        imm = [int(v.view(np.int32)) for v in self._imm]
        strides = [s for row in self._strides for s in row]
        attrs = {"code": code, "imm": imm, "strides": strides}
        in_place = tuple(i for i, row in enumerate(self._strides) if is_dense(row, self.result.storage_shape))
        return Step("eltwise", self.inputs, [], attrs, note=note, in_place=in_place)


def _instructions(p: Program, op: Operation, args: list[int], slope: int | None) -> int:
    d = op.opdef
    if d is clip:
        return p.emit("clip", args[0], p.imm(op.attrs["lo"]), p.imm(op.attrs["hi"]))
    if d is leaky_relu:
        return p.emit("leaky", args[0], p.imm(op.attrs["slope"]))
    if d is elu:
        return p.emit("elu", args[0], p.imm(op.attrs["alpha"]))
    if d is gelu:
        return p.emit("gelu_tanh" if op.attrs["approximate"] == "tanh" else "gelu", args[0])
    if d is cast:  # of f32 to itself
        return p.emit("copy", args[0])
    if d is prelu:
        assert slope is not None
        return p.emit("leaky", args[0], slope)
    return p.emit(op.name, *args)


def _program(ops: list[Operation], outer: dict[Value, Value], result: TensorType) -> Program | None:
    """The program of a chain of operations; ``outer`` maps values that it reads to values of the graph around it."""
    p = Program(result)
    done: dict[Value, int] = {}

    def operand(v: Value, shape: tuple[int, ...] | None = None) -> int | None:
        if v in done:
            return done[v] if shape is None else None
        v = outer.get(v, v)
        held = const_array(v)
        if held is not None and held.size == 1:
            return p.imm(float(held.reshape(())))
        return p.input(v, v.type, shape)

    for op in ops:
        out = op.result.type
        if op.opdef not in {*_ALL, cast} or out.dtype is not DType.F32 or out.size == 0:
            return None
        read = [v for v in op.operands if v is not None]
        if any(v.type.dtype is not DType.F32 for v in read):
            return None
        slope = None
        if op.opdef is prelu:
            x, s = read
            read = [x]
            spread = None if s.type.shape == (1,) else (s.type.shape[0],) + (1,) * max(x.type.rank - 2, 0)
            slope = operand(s, spread)
            if slope is None:
                return None
        args = [a for a in map(operand, read) if a is not None]
        done[op.result] = _instructions(p, op, args, slope)
    return p


def _finish(p: Program | None, op: Operation, note: str) -> Step | None:
    step = None if p is None else p.step(note)
    if step is not None:
        step.outputs = [op.result]
    return step


@lowering(*_ALL)
def lower_single(op: Operation) -> Step | None:
    """One elementwise operation on f32."""
    return _finish(_program([op], {}, op.result.type), op, "")


@lowering(fused)
def lower_fused(op: Operation) -> Step | None:
    """A fused chain of elementwise operations on f32 with one result."""
    body = op.body
    if body is None or not is_elementwise_body(body) or len(op.results) != 1:
        return None
    ops = [o for o in body if o.name != "return"]
    if body.outputs != [ops[-1].result]:
        return None
    outer = {b: v for b, v in zip(body.inputs, op.operands, strict=True) if v is not None}
    return _finish(_program(ops, outer, op.result.type), op, "+".join(o.name for o in ops))


@lowering(cast)
def lower_cast(op: Operation) -> Step | None:
    """A conversion of the element type, in the same storage order."""
    x = op.operand("x")
    if x.type.order != op.result.type.order or x.type.size == 0:
        return None
    return Step("eltwise", [x], [op.result], {}, note=f"{x.type.dtype.value} to {op.result.type.dtype.value}")


def _factors(op: Operation) -> tuple[Array, Array] | None:
    given = {k: const_array(op.get(k)) for k in ("gamma", "beta", "mean", "var")}
    mean, var = given["mean"], given["var"]
    if mean is None or var is None or any(op.get(k) is not None and a is None for k, a in given.items()):
        return None
    scale = 1.0 / np.sqrt(var.astype(np.float64) + op.attrs["eps"])
    if given["gamma"] is not None:
        scale = scale * given["gamma"]
    shift = -mean * scale + (0.0 if given["beta"] is None else given["beta"])
    return scale.astype(np.float32), shift.astype(np.float32)


@lowering(batch_norm)
def lower_batch_norm(op: Operation) -> Step | None:
    """x * scale + shift, the factors computed in float64 and rounded once; statistics must be constants."""
    x = op.operand("x")
    factors = _factors(op)
    if factors is None or x.type.dtype is not DType.F32 or x.type.size == 0:
        return None
    p = Program(op.result.type)
    t = TensorType(factors[0].shape)
    spread = (t.shape[0],) + (1,) * (x.type.rank - 2)
    scale, shift = (
        p.input(Const(a, f"{op.loc or 'batch_norm'}.{name}"), t, spread)
        for a, name in zip(factors, ("scale", "shift"), strict=True)
    )
    product = p.emit("mul", p.input(x, x.type), scale)
    p.emit("add", product, shift)
    return _finish(p, op, "batch_norm as scale and shift")
