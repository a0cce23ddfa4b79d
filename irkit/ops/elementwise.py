"""Pointwise ops. Transcendental functions are computed in float64 and rounded once to the operand's dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, DType, TensorType
from irkit.ops.check import broadcast, show, want_choice, want_float

F64 = npt.NDArray[np.float64]
_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf64(x: F64) -> F64:
    """The error function of every element, in float64."""
    return np.asarray(_erf(x), np.float64)


def erfc64(x: F64) -> F64:
    """1 - erf of every element, accurate where erf is near 1, in float64."""
    return np.asarray(_erfc(x), np.float64)


def wide(x: Array, fn: Callable[[F64], Any]) -> Array:
    """``fn`` in float64, rounded once to x's dtype; infinities and NaN come out without warnings."""
    with np.errstate(all="ignore"):
        return np.asarray(fn(x.astype(np.float64))).astype(x.dtype)


def sigmoid64(x: F64) -> F64:
    """1 / (1 + exp(-x)) in float64."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _float(x: TensorType, **_: Any) -> TensorType:
    return TensorType(x.shape, want_float(x=x))


def _number(x: TensorType, **_: Any) -> TensorType:
    if x.dtype is DType.BOOL or x.quant is not None:
        extra = " (quantized)" if x.quant is not None else ""
        raise IRError(f"operand x: expected a plain number tensor, got {show(x)}{extra}")
    return TensorType(x.shape, x.dtype)


EDGES = np.array(
    [0.0, -0.0, 1e-40, -1e-40, 1e-30, 88.0, -88.0, 104.0, -104.0, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32
)


def _ramp() -> Array:
    return np.asarray(np.linspace(-7, 7, 210), np.float32).reshape(2, 3, 5, 7)


def _cases() -> Iterator[Case]:
    yield Case((_ramp(),), {}, "ramp")
    yield Case((EDGES,), {}, "edges")
    yield Case((np.array([[-1.5, 0.25, 3.0]], np.float64),), {}, "f64")
    yield Case((np.float32(0.75),), {}, "scalar")
    yield Case((np.zeros((0, 3), np.float32),), {}, "empty")


def _number_cases() -> Iterator[Case]:
    yield from _cases()
    yield Case((np.array([-3, 0, 5], np.int32),), {}, "i32")


@op(infer=_number, tags="elementwise unary", cases=_number_cases)
def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.asarray(np.maximum(x, x.dtype.type(0)))


@op(infer=_number, tags="elementwise unary", cases=_number_cases)
def neg(x: Array) -> Array:
    """-x."""
    return np.negative(x)


@op(infer=_number, tags="elementwise unary", cases=_number_cases, name="abs")
def abs_(x: Array) -> Array:
    """|x|."""
    return np.abs(x)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def exp(x: Array) -> Array:
    """e to the power x."""
    return wide(x, np.exp)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def log(x: Array) -> Array:
    """Natural logarithm; NaN below zero, -inf at zero."""
    return wide(x, np.log)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def sqrt(x: Array) -> Array:
    """Square root, correctly rounded; NaN below zero."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def rsqrt(x: Array) -> Array:
    """1 / sqrt(x)."""
    return wide(x, lambda v: 1.0 / np.sqrt(v))


@op(infer=_float, tags="elementwise unary", cases=_cases)
def reciprocal(x: Array) -> Array:
    """1 / x."""
    with np.errstate(all="ignore"):
        return np.asarray(x.dtype.type(1) / x)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return wide(x, sigmoid64)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return wide(x, np.tanh)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def erf(x: Array) -> Array:
    """Error function."""
    return wide(x, erf64)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def silu(x: Array) -> Array:
    """x * sigmoid(x) (Elfwing et al., 2018)."""
    return wide(x, lambda v: v / (1.0 + np.exp(-v)))


@op(infer=_float, tags="elementwise unary", cases=_cases)
def hardsigmoid(x: Array) -> Array:
    """clip(x / 6 + 1/2, 0, 1), as in PyTorch and Keras 3."""
    return wide(x, lambda v: np.clip(v / 6.0 + 0.5, 0.0, 1.0))


@op(infer=_float, tags="elementwise unary", cases=_cases)
def hardswish(x: Array) -> Array:
    """x * clip(x / 6 + 1/2, 0, 1) (MobileNetV3, Howard et al., 2019)."""
    return wide(x, lambda v: v * np.clip(v + 3.0, 0.0, 6.0) / 6.0)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return wide(x, lambda v: np.logaddexp(0.0, v))


@op(infer=_float, tags="elementwise unary", cases=_cases)
def mish(x: Array) -> Array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    return wide(x, lambda v: v * np.tanh(np.logaddexp(0.0, v)))


@op(infer=_number, tags="elementwise unary", cases=_number_cases)
def sign(x: Array) -> Array:
    """-1, 0 or 1; 0 for NaN, as in PyTorch."""
    return np.asarray((x > 0).astype(x.dtype) - (x < 0).astype(x.dtype))


@op(infer=_float, tags="elementwise unary", cases=_cases)
def floor(x: Array) -> Array:
    """Largest integer <= x, as a float."""
    return np.floor(x)


@op(infer=_float, tags="elementwise unary", cases=_cases)
def ceil(x: Array) -> Array:
    """Smallest integer >= x, as a float."""
    return np.ceil(x)


@op(infer=_number, tags="elementwise unary", cases=_number_cases)
def square(x: Array) -> Array:
    """x * x."""
    with np.errstate(all="ignore"):
        return np.asarray(x * x)


def _clip_infer(x: TensorType, *, lo: float, hi: float) -> TensorType:
    if not isinstance(lo, (int, float)) or not isinstance(hi, (int, float)) or math.isnan(lo) or math.isnan(hi):
        raise IRError(f"attributes lo, hi: expected numbers (inf allowed), got {lo!r}, {hi!r}")
    if lo > hi:
        raise IRError(f"attributes lo, hi: expected lo <= hi, got {lo!r}, {hi!r}")
    return _number(x)


def _clip_cases() -> Iterator[Case]:
    yield Case((_ramp(),), {"lo": 0.0, "hi": 6.0}, "relu6")
    yield Case((_ramp(),), {"lo": -math.inf, "hi": 1.5}, "upper")
    yield Case((EDGES,), {"lo": -1.0, "hi": math.inf}, "edges")
    yield Case((np.array([-3, 0, 5], np.int32),), {"lo": -1.5, "hi": 3.0}, "i32")


@op(infer=_clip_infer, tags="elementwise unary", cases=_clip_cases)
def clip(x: Array, *, lo: float, hi: float) -> Array:
    """min(max(x, lo), hi); NaN stays NaN. ``clip(x, lo=0, hi=6)`` is ReLU6. Bounds of integers round inward."""
    if x.dtype.kind != "f":
        info = np.iinfo(x.dtype)
        low = info.min if lo <= info.min else math.ceil(lo)
        high = info.max if hi >= info.max else math.floor(hi)
        lo, hi = low, high
    return np.asarray(np.minimum(np.maximum(x, x.dtype.type(lo)), x.dtype.type(hi)))


def _slope_cases(name: str) -> Callable[[], Iterator[Case]]:
    def cases() -> Iterator[Case]:
        yield Case((_ramp(),), {name: 0.1}, "ramp")
        yield Case((EDGES,), {name: 1.5}, "edges")
        yield Case((_ramp(),), {name: 0.0}, "zero")

    return cases


def _param_infer(x: TensorType, **attrs: Any) -> TensorType:
    for name, value in attrs.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise IRError(f"attribute {name}: expected a finite number, got {value!r}")
    return _float(x)


@op(infer=_param_infer, tags="elementwise unary", cases=_slope_cases("slope"))
def leaky_relu(x: Array, *, slope: float) -> Array:
    """x above zero, slope * x below (one rounded product)."""
    with np.errstate(all="ignore"):
        return np.where(x > 0, x, x * x.dtype.type(slope))


@op(infer=_param_infer, tags="elementwise unary", cases=_slope_cases("alpha"))
def elu(x: Array, *, alpha: float) -> Array:
    """x above zero, alpha * (exp(x) - 1) below (Clevert et al., 2016)."""
    return wide(x, lambda v: np.where(v > 0, v, alpha * np.expm1(v)))


def _gelu_infer(x: TensorType, *, approximate: str) -> TensorType:
    want_choice("approximate", approximate, "none", "tanh")
    return _float(x)


def _gelu_cases() -> Iterator[Case]:
    for a in ("none", "tanh"):
        yield Case((_ramp(),), {"approximate": a}, a)
        yield Case((EDGES,), {"approximate": a}, f"edges_{a}")


@op(infer=_gelu_infer, tags="elementwise unary", cases=_gelu_cases)
def gelu(x: Array, *, approximate: str = "none") -> Array:
    """x * Phi(x), Phi the normal distribution (Hendrycks and Gimpel, 2016); ``"tanh"``: their tanh approximation."""
    if approximate == "tanh":
        k = math.sqrt(2 / math.pi)
        return wide(x, lambda v: v * sigmoid64(2 * k * (v + 0.044715 * v**3)))  # (1 + tanh u) / 2 = sigmoid(2u)
    return wide(x, lambda v: 0.5 * v * erfc64(v * -math.sqrt(0.5)))


def _prelu_infer(x: TensorType, slope: TensorType) -> TensorType:
    dtype = want_float(x=x, slope=slope)
    channels = x.shape[1] if x.rank > 1 else 1
    if slope.rank != 1 or slope.shape[0] not in (1, channels):
        raise IRError(f"operand slope: expected shape [1] or [{channels}] (axis 1 of x), got {show(slope)}")
    return TensorType(x.shape, dtype)


def _prelu_cases() -> Iterator[Case]:
    yield Case((_ramp(), np.array([0.1, -0.2, 1.5], np.float32)), {}, "channels")
    yield Case((_ramp(), np.array([0.25], np.float32)), {}, "one")
    yield Case((_ramp().reshape(70, 3), np.array([0.1, 0.2, 0.3], np.float32)), {}, "rank2")
    yield Case((EDGES, np.array([0.25], np.float32)), {}, "edges")


def along_channels(v: Array, rank: int) -> Array:
    """Reshape [C] so that it broadcasts along axis 1 of a rank-``rank`` tensor."""
    return v.reshape((-1,) + (1,) * max(rank - 2, 0))


@op(infer=_prelu_infer, tags="elementwise", cases=_prelu_cases)
def prelu(x: Array, slope: Array) -> Array:
    """x above zero, slope * x below; slope is [1] or one per channel, axis 1 (He et al., 2015)."""
    with np.errstate(all="ignore"):
        return np.where(x > 0, x, x * along_channels(slope, x.ndim))


def _binary(a: TensorType, b: TensorType) -> TensorType:
    for name, t in (("a", a), ("b", b)):
        if t.dtype is DType.BOOL or t.quant is not None:
            extra = " (quantized)" if t.quant is not None else ""
            raise IRError(f"operand {name}: expected a plain number tensor, got {show(t)}{extra}")
    if a.dtype is not b.dtype:
        raise IRError(f"operand b: expected {a.dtype.value} like a, got {show(b)}")
    return TensorType(broadcast(a.shape, b.shape, "a", "b"), a.dtype)


def _binary_float(a: TensorType, b: TensorType) -> TensorType:
    want_float(a=a, b=b)
    return _binary(a, b)


def _float_pairs() -> Iterator[Case]:
    x = _ramp()
    y = np.cos(np.arange(210, dtype=np.float32)).reshape(x.shape) * np.float32(3)
    yield Case((x, y), {}, "same")
    yield Case((x, y[:1, :, :1, :1]), {}, "channel")
    yield Case((y[0, 0], x), {}, "lower_rank")
    yield Case((x[:, :1], y[:1, :, :, :1]), {}, "both_broadcast")
    yield Case((x, np.float32(1.5)), {}, "scalar")
    yield Case((np.repeat(EDGES, len(EDGES)), np.tile(EDGES, len(EDGES))), {}, "edges")
    yield Case((np.array([1.5, -2.0], np.float64), np.array([3.0, 0.5], np.float64)), {}, "f64")


def _pairs() -> Iterator[Case]:
    yield from _float_pairs()
    yield Case((np.array([[1], [-2]], np.int64), np.array([3, -4, 5], np.int64)), {}, "i64")


@op(infer=_binary, tags="elementwise", cases=_pairs)
def add(a: Array, b: Array) -> Array:
    """a + b."""
    with np.errstate(all="ignore"):
        return np.asarray(a + b)


@op(infer=_binary, tags="elementwise", cases=_pairs)
def sub(a: Array, b: Array) -> Array:
    """a - b."""
    with np.errstate(all="ignore"):
        return np.asarray(a - b)


@op(infer=_binary, tags="elementwise", cases=_pairs)
def mul(a: Array, b: Array) -> Array:
    """a * b."""
    with np.errstate(all="ignore"):
        return np.asarray(a * b)


@op(infer=_binary_float, tags="elementwise", cases=_float_pairs)
def div(a: Array, b: Array) -> Array:
    """a / b."""
    with np.errstate(all="ignore"):
        return np.asarray(a / b)


@op(infer=_binary, tags="elementwise", cases=_pairs)
def maximum(a: Array, b: Array) -> Array:
    """The larger of both; NaN when either is."""
    with np.errstate(invalid="ignore"):
        return np.maximum(a, b)


@op(infer=_binary, tags="elementwise", cases=_pairs)
def minimum(a: Array, b: Array) -> Array:
    """The smaller of both; NaN when either is."""
    with np.errstate(invalid="ignore"):
        return np.minimum(a, b)


@op(infer=_binary_float, tags="elementwise", cases=_float_pairs, name="pow")
def pow_(a: Array, b: Array) -> Array:
    """a to the power b."""
    with np.errstate(all="ignore"):
        return np.power(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)
