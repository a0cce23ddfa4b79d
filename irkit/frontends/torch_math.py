"""Handlers of PyTorch arithmetic: element-wise functions, reductions, matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from irkit import ops
from irkit.frontends.builder import Builder, NotSupportedError, canonical_dims
from irkit.frontends.torch_registry import Absent, handles
from irkit.ir.graph import Value, const_array
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, DType

Dims = int | Sequence[int] | None
_COMPUTED = "indices of a maximum or minimum are not computed"


def _dtype(b: Builder) -> DType:
    """The dtype PyTorch's promotion gives the current operation."""
    if b.expected is None:
        raise NotSupportedError("unexpected kind of result")
    return b.expected.dtype


def operand(b: Builder, x: Any, dtype: DType) -> Value:
    """A tensor or Python number as a Value of that dtype."""
    return b.cast(x, dtype) if isinstance(x, Value) else b.const(np.asarray(x, dtype.numpy))


def binary(b: Builder, opdef: OpDef, x: Any, y: Any) -> Value:
    """An element-wise operation after PyTorch's dtype promotion."""
    dtype = _dtype(b)
    return b.emit(opdef, operand(b, x, dtype), operand(b, y, dtype))


# ---- one tensor
_UNARY = {
    "relu": ops.relu, "neg": ops.neg, "abs": ops.abs_, "exp": ops.exp, "log": ops.log, "sqrt": ops.sqrt,
    "rsqrt": ops.rsqrt, "reciprocal": ops.reciprocal, "sigmoid": ops.sigmoid, "tanh": ops.tanh, "erf": ops.erf,
    "silu": ops.silu, "hardsigmoid": ops.hardsigmoid, "hardswish": ops.hardswish, "mish": ops.mish, "sign": ops.sign,
    "sgn": ops.sign, "floor": ops.floor, "ceil": ops.ceil, "square": ops.square,
}  # fmt: skip


def _register_unary(name: str, opdef: OpDef) -> None:
    @handles(f"aten.{name}.default")
    def handler(b: Builder, x: Value) -> Value:
        # Integer tensors are promoted by exp, sqrt and the like, and kept by neg, abs, sign.
        return b.emit(opdef, b.cast(x, _dtype(b)))


for _name, _opdef in _UNARY.items():
    _register_unary(_name, _opdef)


@handles("aten.gelu.default")
def gelu(b: Builder, x: Value, *, approximate: str = "none") -> Value:
    return b.emit(ops.gelu, x, approximate=approximate)


@handles("aten.leaky_relu.default")
def leaky_relu(b: Builder, x: Value, negative_slope: float = 0.01) -> Value:
    return b.emit(ops.leaky_relu, x, slope=float(negative_slope))


@handles("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(b: Builder, x: Value, slope: Value) -> Value:
    return b.emit(ops.prelu, x, b.reshape(slope, (slope.type.size,)))


@handles("aten.elu.default")
def elu(b: Builder, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    """scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1))"""
    if input_scale != 1:  # x > 0 stays x: undo the scale of that half
        x = b.emit(ops.mul, x, b.like(input_scale, x))
        alpha, scale = alpha * input_scale, scale / input_scale
    y = b.emit(ops.elu, x, alpha=float(alpha))
    return y if scale == 1 else b.emit(ops.mul, y, b.like(scale, y))


@handles("aten.selu.default")
def selu(b: Builder, x: Value) -> Value:
    return elu(b, x, 1.6732632423543772, 1.0507009873554805)


@handles("aten.celu.default")
def celu(b: Builder, x: Value, alpha: float = 1.0) -> Value:
    return elu(b, x, alpha, 1.0, 1.0 / alpha)


@handles("aten.softplus.default")
def softplus(b: Builder, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    if threshold < 15:  # below, PyTorch's switch to the identity is visible in float32
        raise NotSupportedError(f"softplus with threshold {threshold}")
    if beta == 1:
        return b.emit(ops.softplus, x)
    return b.emit(ops.div, b.emit(ops.softplus, b.emit(ops.mul, x, b.like(beta, x))), b.like(beta, x))


@handles("aten.log_sigmoid.default")
def log_sigmoid(b: Builder, x: Value) -> Value:
    return b.emit(ops.neg, b.emit(ops.softplus, b.emit(ops.neg, x)))


@handles("aten.softsign.default")
def softsign(b: Builder, x: Value) -> Value:
    return b.emit(ops.div, x, b.emit(ops.add, b.emit(ops.abs_, x), b.like(1.0, x)))


@handles("aten.tanhshrink.default")
def tanhshrink(b: Builder, x: Value) -> Value:
    return b.emit(ops.sub, x, b.emit(ops.tanh, x))


@handles("aten.softshrink.default")
def softshrink(b: Builder, x: Value, lambd: float = 0.5) -> Value:
    return b.emit(ops.sub, x, b.emit(ops.clip, x, lo=-float(lambd), hi=float(lambd)))


@handles("aten.relu6.default")
def relu6(b: Builder, x: Value) -> Value:
    return b.emit(ops.clip, x, lo=0.0, hi=6.0)


@handles("aten.hardtanh.default")
def hardtanh(b: Builder, x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    return b.emit(ops.clip, x, lo=float(min_val), hi=float(max_val))


@handles("aten.clamp.default", "aten.clip.default")
def clamp(b: Builder, x: Value, min: float | None = None, max: float | None = None) -> Value:
    lo, hi = -math.inf if min is None else min, math.inf if max is None else max
    dtype = _dtype(b)
    if not dtype.is_float:
        x = b.cast(x, dtype)
        x = x if min is None else b.emit(ops.maximum, x, b.like(lo, x))
        return x if max is None else b.emit(ops.minimum, x, b.like(hi, x))
    return b.emit(ops.clip, b.cast(x, dtype), lo=float(lo if lo < hi else hi), hi=float(hi))


@handles("aten.clamp_min.default")
def clamp_min(b: Builder, x: Value, min: float) -> Value:
    return clamp(b, x, min, None)


@handles("aten.clamp_max.default")
def clamp_max(b: Builder, x: Value, max: float) -> Value:
    return clamp(b, x, None, max)


@handles("aten.clamp.Tensor")
def clamp_tensor(b: Builder, x: Value, min: Value | None = None, max: Value | None = None) -> Value:
    x = x if min is None else binary(b, ops.maximum, x, min)
    return x if max is None else binary(b, ops.minimum, x, max)


@handles("aten.clamp_min.Tensor")
def clamp_min_tensor(b: Builder, x: Value, min: Value) -> Value:
    return clamp_tensor(b, x, min)


@handles("aten.clamp_max.Tensor")
def clamp_max_tensor(b: Builder, x: Value, max: Value) -> Value:
    return clamp_tensor(b, x, None, max)


@handles("aten.glu.default")
def glu(b: Builder, x: Value, dim: int = -1) -> Value:
    half = x.type.shape[dim] // 2
    a, gate = b.split(x, (half, half), dim)
    return b.emit(ops.mul, a, b.emit(ops.sigmoid, gate))


@handles("aten.softmax.int", "aten._softmax.default", "aten.special_softmax.int")
def softmax(b: Builder, x: Value, dim: int, dtype: Any = None) -> Value:
    return b.emit(ops.softmax, b.cast(x, _dtype(b)), axis=dim % x.type.rank)


@handles("aten.log_softmax.int", "aten._log_softmax.default", "aten.special_log_softmax.int")
def log_softmax(b: Builder, x: Value, dim: int, dtype: Any = None) -> Value:
    return b.emit(ops.log_softmax, b.cast(x, _dtype(b)), axis=dim % x.type.rank)


# ---- two tensors
def _scaled(b: Builder, y: Any, alpha: float) -> Any:
    if alpha == 1:
        return y
    if not isinstance(y, Value):
        return y * alpha
    dtype = _dtype(b)
    return b.emit(ops.mul, operand(b, y, dtype), operand(b, alpha, dtype))


@handles("aten.add.Tensor", "aten.add.Scalar")
def add(b: Builder, x: Any, y: Any, alpha: float = 1) -> Value:
    return binary(b, ops.add, x, _scaled(b, y, alpha))


@handles("aten.sub.Tensor", "aten.sub.Scalar")
def sub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Value:
    return binary(b, ops.sub, x, _scaled(b, y, alpha))


@handles("aten.rsub.Scalar", "aten.rsub.Tensor")
def rsub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Value:
    return binary(b, ops.sub, y, _scaled(b, x, alpha))


@handles("aten.mul.Tensor", "aten.mul.Scalar")
def mul(b: Builder, x: Any, y: Any) -> Value:
    return binary(b, ops.mul, x, y)


@handles("aten.div.Tensor", "aten.div.Scalar")
def div(b: Builder, x: Any, y: Any) -> Value:
    return binary(b, ops.div, x, y)


@handles("aten.div.Tensor_mode", "aten.div.Scalar_mode", "aten.floor_divide.default")
def div_mode(b: Builder, x: Any, y: Any, *, rounding_mode: str | None = "floor") -> Value:
    if rounding_mode is None:
        return div(b, x, y)
    if rounding_mode != "floor" or not _dtype(b).is_float:
        raise NotSupportedError(f"rounding_mode={rounding_mode} on {_dtype(b).value}")
    return b.emit(ops.floor, binary(b, ops.div, x, y))


@handles("aten.maximum.default")
def maximum(b: Builder, x: Value, y: Value) -> Value:
    return binary(b, ops.maximum, x, y)


@handles("aten.minimum.default")
def minimum(b: Builder, x: Value, y: Value) -> Value:
    return binary(b, ops.minimum, x, y)


@handles("aten.pow.Tensor_Scalar")
def pow_scalar(b: Builder, x: Value, exponent: float) -> Value:
    x = b.cast(x, _dtype(b))
    simple = {2: ops.square, 0.5: ops.sqrt, -0.5: ops.rsqrt, -1: ops.reciprocal}
    if exponent == 1:
        return x
    if exponent in simple and (x.type.dtype.is_float or exponent == 2):
        return b.emit(simple[exponent], x)
    return binary(b, ops.pow_, x, exponent)


@handles("aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def pow_tensor(b: Builder, x: Any, y: Any) -> Value:
    return binary(b, ops.pow_, x, y)


# ---- dtypes
@handles("aten.to.dtype", "aten.type_as.default", "aten._to_copy.default", "aten.to.dtype_layout", "aten.to.other",
         "aten.to.device")  # fmt: skip
def to(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    return b.cast(x, _dtype(b))


# ---- reductions
def reduce(b: Builder, opdef: OpDef, x: Value, dim: Dims, keepdim: bool) -> Value:
    """A reduction; over no axis at all (a scalar) it is the identity."""
    if x.type.rank == 0:
        return x
    return b.emit(opdef, x, axes=canonical_dims(dim, x.type.rank), keepdims=keepdim)


@handles("aten.mean.dim", "aten.mean.default")
def mean(b: Builder, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return reduce(b, ops.reduce_mean, b.cast(x, _dtype(b)), dim, keepdim)


@handles("aten.sum.dim_IntList", "aten.sum.default")
def sum_(b: Builder, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return reduce(b, ops.reduce_sum, b.cast(x, _dtype(b)), dim, keepdim)


@handles("aten.amax.default", "aten.max.default")
def amax(b: Builder, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    return reduce(b, ops.reduce_max, x, dim, keepdim)


@handles("aten.amin.default", "aten.min.default")
def amin(b: Builder, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    return reduce(b, ops.reduce_min, x, dim, keepdim)


@handles("aten.max.dim")
def max_dim(b: Builder, x: Value, dim: int, keepdim: bool = False) -> list[Any]:
    return [amax(b, x, dim, keepdim), Absent(_COMPUTED)]


@handles("aten.min.dim")
def min_dim(b: Builder, x: Value, dim: int, keepdim: bool = False) -> list[Any]:
    return [amin(b, x, dim, keepdim), Absent(_COMPUTED)]


@handles("aten.var.correction")
def var(b: Builder, x: Value, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False) -> Value:
    axes = canonical_dims(dim, x.type.rank)
    count = math.prod(x.type.shape[a] for a in axes)
    centred = b.emit(ops.sub, x, reduce(b, ops.reduce_mean, x, axes, True))
    total = reduce(b, ops.reduce_sum, b.emit(ops.square, centred), axes, keepdim)
    divisor = count - (1 if correction is None else correction)
    if divisor <= 0:
        raise NotSupportedError(f"variance of {count} value(s) with correction {correction}")
    return b.emit(ops.div, total, b.like(divisor, total))


@handles("aten.std.correction")
def std(b: Builder, x: Value, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False) -> Value:
    return b.emit(ops.sqrt, var(b, x, dim, correction=correction, keepdim=keepdim))


@handles("aten.var_mean.correction")
def var_mean(b: Builder, x: Value, dim: Dims = None, *, correction: float | None = 1, keepdim: bool = False) -> Any:
    return [var(b, x, dim, correction=correction, keepdim=keepdim), reduce(b, ops.reduce_mean, x, dim, keepdim)]


@handles("aten.linalg_vector_norm.default")
def vector_norm(
    b: Builder, x: Value, ord: float = 2, dim: Dims = None, keepdim: bool = False, dtype: Any = None
) -> Value:
    x = b.cast(x, _dtype(b))
    if ord == 2:
        return b.emit(ops.sqrt, reduce(b, ops.reduce_sum, b.emit(ops.square, x), dim, keepdim))
    if ord == 1:
        return reduce(b, ops.reduce_sum, b.emit(ops.abs_, x), dim, keepdim)
    if ord == math.inf:
        return reduce(b, ops.reduce_max, b.emit(ops.abs_, x), dim, keepdim)
    raise NotSupportedError(f"vector norm of order {ord}")


@handles("aten.logsumexp.default")
def logsumexp(b: Builder, x: Value, dim: Dims, keepdim: bool = False) -> Value:
    top = reduce(b, ops.reduce_max, x, dim, True)
    total = reduce(b, ops.reduce_sum, b.emit(ops.exp, b.emit(ops.sub, x, top)), dim, True)
    y = b.emit(ops.add, top, b.emit(ops.log, total))
    return y if keepdim else b.reshape(y, b.expected.shape if b.expected else ())


# ---- matrix products
def _is_matrix_weight(y: Value) -> bool:
    return y.type.rank == 2 and const_array(y) is not None


@handles("aten.linear.default")
def linear(b: Builder, x: Value, w: Value, bias: Value | None = None) -> Value:
    if w.type.rank == 1:
        w = b.unsqueeze(w, 0)
        return b.squeeze(b.emit(ops.linear, x, w, bias), -1)
    if x.type.rank == 1:
        return b.squeeze(b.emit(ops.linear, b.unsqueeze(x, 0), w, bias), 0)
    return b.emit(ops.linear, x, w, bias)


@handles("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default", "aten.dot.default")
def matmul(b: Builder, x: Value, y: Value) -> Value:
    if x.type.rank >= 2 and _is_matrix_weight(y):
        return b.emit(ops.linear, x, b.permute(y, (1, 0)))
    left, right = x.type.rank == 1, y.type.rank == 1
    z = b.emit(ops.matmul, b.unsqueeze(x, 0) if left else x, b.unsqueeze(y, 1) if right else y)
    if right:
        z = b.squeeze(z, -1)
    return b.squeeze(z, -1 if right else -2) if left else z


@handles("aten.addmm.default", "aten.baddbmm.default")
def addmm(b: Builder, c: Value, x: Value, y: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    if beta == 1 and alpha == 1 and _is_matrix_weight(y) and c.type.shape == (y.type.shape[1],):
        return b.emit(ops.linear, x, b.permute(y, (1, 0)), c)
    return b.emit(ops.add, _scaled(b, c, beta), _scaled(b, matmul(b, x, y), alpha))


@handles("aten.scaled_dot_product_attention.default")
def attention(
    b: Builder, q: Value, k: Value, v: Value, attn_mask: Value | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(q k^T * scale + mask) v"""
    if enable_gqa or dropout_p:
        raise NotSupportedError("enable_gqa or dropout in scaled_dot_product_attention")
    kt = b.permute(k, (*range(k.type.rank - 2), k.type.rank - 1, k.type.rank - 2))
    factor = 1 / math.sqrt(q.type.shape[-1]) if scale is None else scale
    scores = b.emit(ops.matmul, b.emit(ops.mul, q, b.like(factor, q)), kt)
    if is_causal:
        rows, cols = scores.type.shape[-2:]
        scores = b.emit(ops.add, scores, b.const(_additive(np.tril(np.ones((rows, cols), np.bool_)))))
    elif attn_mask is not None:
        if attn_mask.type.dtype is DType.BOOL:
            array = const_array(attn_mask)
            if array is None:
                raise NotSupportedError("a boolean attention mask that is not constant")
            attn_mask = b.const(_additive(array), attn_mask.name)
        scores = b.emit(ops.add, scores, attn_mask)
    return b.emit(ops.matmul, b.emit(ops.softmax, scores, axis=scores.type.rank - 1), v)


def _additive(mask: Array) -> Array:
    return np.where(mask, np.float32(0), np.float32(-np.inf))


@handles("aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten.sym_constrain_range.default")
def assertion(b: Builder, *_: Any, **__: Any) -> None:
    """Checks made by torch.export; they have no result."""
