"""Handlers of the operations behind ``keras.ops``: arithmetic, reductions, products and data movement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from irkit import ops
from irkit.frontends.builder import NotSupportedError, canonical_dims, need_dtype, permutation
from irkit.frontends.keras_registry import Importer, operation
from irkit.ir.graph import Value, const_array
from irkit.ir.opdef import OpDef
from irkit.ir.types import DType

Axes = int | Sequence[int] | None

# ---- element-wise functions of one tensor
_UNARY = {
    "Relu": ops.relu, "Sigmoid": ops.sigmoid, "Tanh": ops.tanh, "Silu": ops.silu, "HardSigmoid": ops.hardsigmoid,
    "HardSilu": ops.hardswish, "Softplus": ops.softplus, "Abs": ops.abs_, "Absolute": ops.abs_, "Exp": ops.exp,
    "Log": ops.log, "Sqrt": ops.sqrt, "Rsqrt": ops.rsqrt, "Square": ops.square, "Negative": ops.neg,
    "Reciprocal": ops.reciprocal, "Sign": ops.sign, "Floor": ops.floor, "Ceil": ops.ceil, "Erf": ops.erf,
}  # fmt: skip


def _register_unary(name: str, opdef: OpDef) -> None:
    @operation(name)
    def handler(k: Importer, op: Any, x: Value) -> Value:
        return k.elementwise(opdef, x)


for _name, _opdef in _UNARY.items():
    _register_unary(_name, _opdef)


@operation("Relu6")
def relu6(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.clip, x, lo=0.0, hi=6.0)


@operation("ReLU")
def relu_with_settings(k: Importer, op: Any, x: Value) -> Value:
    """keras.activations.relu with a slope, a maximum or a threshold."""
    slope, threshold = float(op.negative_slope), float(op.threshold)
    if slope and not threshold and op.max_value is None:
        return k.elementwise(ops.leaky_relu, x, slope=slope)
    if threshold:  # 1 where x > threshold, else 0
        y = k.elementwise(ops.relu, k.elementwise(ops.sign, k.elementwise(ops.sub, x, k.value(threshold, x))))
        y = k.elementwise(ops.mul, x, y)
        if op.max_value is not None:
            y = k.elementwise(ops.clip, y, lo=0.0, hi=float(op.max_value))
    elif op.max_value is not None:
        y = k.elementwise(ops.clip, x, lo=0.0, hi=float(op.max_value))
    else:
        y = k.elementwise(ops.relu, x)
    if not slope:
        return y
    below = k.elementwise(ops.relu, k.elementwise(ops.sub, k.value(threshold, x), x))
    return k.elementwise(ops.sub, y, k.elementwise(ops.mul, below, k.value(slope, x)))


@operation("HardTanh")
def hard_tanh(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.clip, x, lo=-1.0, hi=1.0)


@operation("LeakyRelu")
def leaky_relu(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.leaky_relu, x, slope=float(op.negative_slope))


@operation("Elu")
def elu(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.elu, x, alpha=float(op.alpha))


@operation("Selu")
def selu(k: Importer, op: Any, x: Value) -> Value:
    y = k.elementwise(ops.elu, x, alpha=1.6732632423543772)
    return k.elementwise(ops.mul, y, k.value(1.0507009873554805, y))


@operation("Celu")
def celu(k: Importer, op: Any, x: Value) -> Value:
    scaled = k.elementwise(ops.div, x, k.value(float(op.alpha), x))
    return k.elementwise(ops.mul, k.elementwise(ops.elu, scaled, alpha=1.0), k.value(float(op.alpha), x))


@operation("Gelu")
def gelu(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.gelu, x, approximate="tanh" if op.approximate else "none")


@operation("Softsign")
def softsign(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.div, x, k.elementwise(ops.add, k.elementwise(ops.abs_, x), k.value(1.0, x)))


@operation("LogSigmoid")
def log_sigmoid(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.neg, k.elementwise(ops.softplus, k.elementwise(ops.neg, x)))


@operation("TanhShrink")
def tanh_shrink(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.sub, x, k.elementwise(ops.tanh, x))


@operation("SoftShrink")
def soft_shrink(k: Importer, op: Any, x: Value) -> Value:
    t = float(op.threshold)
    return k.elementwise(ops.sub, x, k.elementwise(ops.clip, x, lo=-t, hi=t))


@operation("Glu")
def glu(k: Importer, op: Any, x: Value) -> Value:
    half = x.type.shape[op.axis] // 2
    a, gate = k.b.split(x, (half, half), op.axis)
    return k.elementwise(ops.mul, a, k.elementwise(ops.sigmoid, gate))


@operation("Clip")
def clip(k: Importer, op: Any, x: Value) -> Value:
    if x.type.dtype.is_float:
        lo = -math.inf if op.x_min is None else float(op.x_min)
        hi = math.inf if op.x_max is None else float(op.x_max)
        return k.elementwise(ops.clip, x, lo=lo, hi=hi)
    x = x if op.x_min is None else k.elementwise(ops.maximum, x, k.value(op.x_min, x))
    return x if op.x_max is None else k.elementwise(ops.minimum, x, k.value(op.x_max, x))


@operation("Softmax")
def softmax(k: Importer, op: Any, x: Value) -> Value:
    if not isinstance(op.axis, int):
        raise NotSupportedError(f"softmax over axis {op.axis}")
    return k.b.emit(ops.softmax, x, axis=op.axis % x.type.rank)


@operation("LogSoftmax")
def log_softmax(k: Importer, op: Any, x: Value) -> Value:
    return k.b.emit(ops.log_softmax, x, axis=op.axis % x.type.rank)


# ---- element-wise functions of two tensors
_BINARY = {
    "Add": ops.add, "Subtract": ops.sub, "Multiply": ops.mul, "Divide": ops.div, "TrueDivide": ops.div,
    "Maximum": ops.maximum, "Minimum": ops.minimum, "Power": ops.pow_,
}  # fmt: skip


def pair(k: Importer, x: Any, y: Any, *, divide: bool = False) -> tuple[Value, Value]:
    """Both operands in Keras' common dtype: Python numbers are weak, int64 with float32 is float32."""
    import keras

    kinds = [str(v.type.dtype.numpy) if isinstance(v, Value) else _kind(v) for v in (x, y)]
    common = keras.backend.result_type(*kinds, *([float] if divide else []))
    dtype = need_dtype(common, "the result")
    pick = [
        k.b.const(np.asarray(v, dtype.numpy)) if isinstance(v, (bool, int, float)) else k.b.cast(k.value(v), dtype)
        for v in (x, y)
    ]
    return pick[0], pick[1]


def _kind(v: Any) -> Any:
    if isinstance(v, (bool, int, float)):
        return type(v)
    return str(v.dtype).removeprefix("torch.") if hasattr(v, "dtype") else "float32"


def _register_binary(name: str, opdef: OpDef) -> None:
    @operation(name)
    def handler(k: Importer, op: Any, x1: Any, x2: Any) -> Value:
        if opdef is ops.pow_ and isinstance(x2, (int, float)) and isinstance(x1, Value) and x1.type.dtype.is_float:
            simple = {2: ops.square, 0.5: ops.sqrt, -0.5: ops.rsqrt, -1: ops.reciprocal}
            if x2 in simple:
                return k.elementwise(simple[x2], x1)
        return k.elementwise(opdef, *pair(k, x1, x2, divide=opdef is ops.div))


for _name, _opdef in _BINARY.items():
    _register_binary(_name, _opdef)


@operation("Cast", "SaturateCast")
def cast(k: Importer, op: Any, x: Value) -> Value:
    return k.b.cast(x, need_dtype(op.dtype, "a cast"))


@operation("StopGradient", "Copy", "Array", "ConvertToTensor")
def identity(k: Importer, op: Any, x: Any) -> Value:
    value = k.value(x)
    dtype = getattr(op, "dtype", None)
    return value if dtype is None else k.b.cast(value, need_dtype(dtype, "a tensor"))


# ---- reductions
def reduce(k: Importer, opdef: OpDef, x: Value, axes: Axes, keepdims: bool) -> Value:
    """A reduction; done before a permute that its operand went through, where the result's axes stay in order."""
    dims = canonical_dims(axes, x.type.rank)
    if not dims:
        return x
    before = permutation(x)
    if before is not None:
        source, perm = before
        rest = [p for i, p in enumerate(perm) if i not in dims]
        moved = tuple(sorted(perm[d] for d in dims))
        if keepdims:
            return k.b.permute(k.b.emit(opdef, source, axes=moved, keepdims=True), perm)
        if rest == sorted(rest):
            return k.b.emit(opdef, source, axes=moved, keepdims=False)
    return k.b.emit(opdef, x, axes=dims, keepdims=bool(keepdims))


@operation("Mean")
def mean(k: Importer, op: Any, x: Value) -> Value:
    x = x if x.type.dtype.is_float else k.b.cast(x, DType.F32)
    return reduce(k, ops.reduce_mean, x, op.axis, op.keepdims)


@operation("Sum")
def sum_(k: Importer, op: Any, x: Value) -> Value:
    return reduce(k, ops.reduce_sum, x, op.axis, op.keepdims)


@operation("Max", "Amax")
def max_(k: Importer, op: Any, x: Value) -> Value:
    if getattr(op, "initial", None) is not None:
        raise NotSupportedError("max with an initial value")
    return reduce(k, ops.reduce_max, x, op.axis, op.keepdims)


@operation("Min", "Amin")
def min_(k: Importer, op: Any, x: Value) -> Value:
    if getattr(op, "initial", None) is not None:
        raise NotSupportedError("min with an initial value")
    return reduce(k, ops.reduce_min, x, op.axis, op.keepdims)


def variance(k: Importer, x: Value, axes: Axes, keepdims: bool) -> Value:
    """Mean of the squared distance from the mean."""
    centred = k.elementwise(ops.sub, x, reduce(k, ops.reduce_mean, x, axes, True))
    return reduce(k, ops.reduce_mean, k.elementwise(ops.square, centred), axes, keepdims)


@operation("Var")
def var(k: Importer, op: Any, x: Value) -> Value:
    return variance(k, x, op.axis, op.keepdims)


@operation("Std")
def std(k: Importer, op: Any, x: Value) -> Value:
    return k.elementwise(ops.sqrt, variance(k, x, op.axis, op.keepdims))


@operation("Moments")
def moments(k: Importer, op: Any, x: Value) -> list[Value]:
    return [reduce(k, ops.reduce_mean, x, op.axes, op.keepdims), variance(k, x, op.axes, op.keepdims)]


@operation("Logsumexp")
def logsumexp(k: Importer, op: Any, x: Value) -> Value:
    top = reduce(k, ops.reduce_max, x, op.axis, True)
    total = reduce(k, ops.reduce_sum, k.elementwise(ops.exp, k.elementwise(ops.sub, x, top)), op.axis, True)
    y = k.elementwise(ops.add, top, k.elementwise(ops.log, total))
    dims = canonical_dims(op.axis, x.type.rank)
    return y if op.keepdims else k.b.reshape(y, [d for i, d in enumerate(x.type.shape) if i not in dims])


@operation("Normalize")
def normalize(k: Importer, op: Any, x: Value) -> Value:
    if op.order != 2:
        raise NotSupportedError(f"normalize of order {op.order}")
    norm = reduce(k, ops.reduce_sum, k.elementwise(ops.square, x), op.axis, True)
    limit = k.value(1.0 / (1e-7 if op.epsilon is None else op.epsilon), x)
    return k.elementwise(ops.mul, x, k.elementwise(ops.minimum, k.elementwise(ops.rsqrt, norm), limit))


# ---- products
@operation("Matmul", "Dot")
def matmul(k: Importer, op: Any, x1: Any, x2: Any) -> Value:
    a, c = pair(k, x1, x2)
    if type(op).__name__ == "Dot" and (a.type.rank != 2 or c.type.rank != 2):
        raise NotSupportedError("dot of tensors that are not matrices")
    if c.type.rank == 2 and a.type.rank >= 2 and const_array(c) is not None:
        return k.b.emit(ops.linear, a, k.b.permute(c, (1, 0)))
    left, right = a.type.rank == 1, c.type.rank == 1
    y = k.b.emit(ops.matmul, k.b.unsqueeze(a, 0) if left else a, k.b.unsqueeze(c, 1) if right else c)
    y = k.b.squeeze(y, -1) if right else y
    return k.b.squeeze(y, -1 if right else -2) if left else y


@operation("Einsum")
def einsum(k: Importer, op: Any, *operands: Any) -> Value:
    """A product of two tensors without repeated letters in one of them: permute, multiply as matrices, permute."""
    b = k.b
    left, _, out = op.subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(operands) != 2 or not out or any("." in t or len(set(t)) != len(t) for t in (*terms, out)):
        raise NotSupportedError(f"einsum {op.subscripts}")
    x, y = pair(k, *operands)
    p, q = terms
    size = dict(zip(p + q, x.type.shape + y.type.shape, strict=True))
    batch = [c for c in p if c in q and c in out]
    summed = [c for c in p if c in q and c not in out]
    rows, cols = [c for c in p if c not in q], [c for c in q if c not in p]
    if any(c not in out for c in rows + cols):
        raise NotSupportedError(f"einsum {op.subscripts}: a sum over one operand alone")
    total = {n: math.prod(size[c] for c in g) for n, g in (("m", rows), ("n", cols), ("k", summed))}
    lead = [size[c] for c in batch]
    a = b.permute(x, [p.index(c) for c in (*batch, *rows, *summed)])
    result = (*batch, *rows, *cols)
    if not batch and const_array(y) is not None:
        w = b.reshape(b.permute(y, [q.index(c) for c in (*cols, *summed)]), (total["n"], total["k"]))
        z = b.emit(ops.linear, b.reshape(a, (*[size[c] for c in rows], total["k"])), w)
    else:
        a = b.reshape(a, (*lead, total["m"], total["k"]))
        c = b.reshape(b.permute(y, [q.index(c) for c in (*batch, *summed, *cols)]), (*lead, total["k"], total["n"]))
        z = b.emit(ops.matmul, a, c)
    z = b.reshape(z, [size[c] for c in result])
    return b.permute(z, [result.index(c) for c in out])


@operation("DotProductAttention")
def attention(
    k: Importer, op: Any, query: Value, key: Value, value: Value, bias: Any = None, mask: Any = None,
    scale: float | None = None,
) -> Value:  # fmt: skip
    """softmax(q k^T * scale + bias) v over (batch, time, heads, dim)"""
    b = k.b
    if mask is not None or getattr(op, "is_causal", False) or getattr(op, "attn_logits_soft_cap", None):
        raise NotSupportedError("masked or capped attention")
    if query.type.shape[2] != key.type.shape[2]:
        raise NotSupportedError("grouped query attention")
    factor = 1 / math.sqrt(query.type.shape[-1]) if scale is None else scale
    q = b.emit(ops.mul, b.permute(query, (0, 2, 1, 3)), b.like(factor, query))
    scores = b.emit(ops.matmul, q, b.permute(key, (0, 2, 3, 1)))
    if bias is not None:
        scores = b.emit(ops.add, scores, k.value(bias))
    y = b.emit(ops.matmul, b.emit(ops.softmax, scores, axis=3), b.permute(value, (0, 2, 1, 3)))
    return b.permute(y, (0, 2, 1, 3))
