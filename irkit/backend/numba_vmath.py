"""The elementary functions of kernels/base/vmath.h, operation for operation, as source for Numba to compile.

An :class:`Emitter` is the host compiler's version of the vector types in kernels/base/vec_<isa>.h: each method appends
one line, which is one IEEE 754 operation, and returns the name of its result. The functions below it are those of
vmath.h over that type; sources and error bounds are given there. tests/kernels/test_numba.py compares the bits.

Imports numba: import this module only where a kernel is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types as _types
from numba.extending import intrinsic

types: Any = _types
_F32, _F64, _I32, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)


def _intrinsic(arity: int, signature: Callable[..., Any], build: Callable[[Any, Any], Any]) -> Any:
    """A Numba intrinsic of ``arity`` operands: ``signature`` types it, ``build(builder, values)`` makes the code."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return build(builder, args)

    def one(typingctx: Any, a: Any) -> Any:
        return signature(a), codegen

    def two(typingctx: Any, a: Any, b: Any) -> Any:
        return signature(a, b), codegen

    def three(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        return signature(a, b, c), codegen

    return intrinsic((one, two, three)[arity - 1])


def _same(a: Any, *rest: Any) -> Any:
    return a(a, *rest)


def _math(name: str) -> Callable[[Any, Any], Any]:
    def build(builder: Any, args: Any) -> Any:
        fn = builder.module.declare_intrinsic(f"llvm.{name}", [args[0].type])
        return builder.call(fn, args)

    return build


as_i = _intrinsic(1, lambda a: types.int32(types.float32), lambda b, v: b.bitcast(v[0], _I32))
as_f = _intrinsic(1, lambda a: types.float32(types.int32), lambda b, v: b.bitcast(v[0], _F32))
as_i64 = _intrinsic(1, lambda a: types.int64(types.float64), lambda b, v: b.bitcast(v[0], _I64))
as_f64 = _intrinsic(1, lambda a: types.float64(types.int64), lambda b, v: b.bitcast(v[0], _F64))
to_f = _intrinsic(1, lambda a: types.float32(types.int32), lambda b, v: b.sitofp(v[0], _F32))
addi = _intrinsic(2, _same, lambda b, v: b.add(v[0], v[1]))  # Numba's own + would widen to 64 bits
subi = _intrinsic(2, _same, lambda b, v: b.sub(v[0], v[1]))
andi = _intrinsic(2, _same, lambda b, v: b.and_(v[0], v[1]))
ori = _intrinsic(2, _same, lambda b, v: b.or_(v[0], v[1]))
xori = _intrinsic(2, _same, lambda b, v: b.xor(v[0], v[1]))
shl = _intrinsic(2, _same, lambda b, v: b.shl(v[0], v[1]))
sra = _intrinsic(2, _same, lambda b, v: b.ashr(v[0], v[1]))
add = _intrinsic(2, _same, lambda b, v: b.fadd(v[0], v[1]))
sub = _intrinsic(2, _same, lambda b, v: b.fsub(v[0], v[1]))
mul = _intrinsic(2, _same, lambda b, v: b.fmul(v[0], v[1]))
div = _intrinsic(2, _same, lambda b, v: b.fdiv(v[0], v[1]))  # no check for zero
lt = _intrinsic(2, lambda a, b: types.boolean(a, b), lambda b, v: b.fcmp_ordered("<", v[0], v[1]))
le = _intrinsic(2, lambda a, b: types.boolean(a, b), lambda b, v: b.fcmp_ordered("<=", v[0], v[1]))
nan = _intrinsic(1, lambda a: types.boolean(a), lambda b, v: b.fcmp_unordered("uno", v[0], v[0]))
sel = _intrinsic(3, lambda m, a, b: a(m, a, b), lambda b, v: b.select(v[0], v[1], v[2]))
sqrt = _intrinsic(1, _same, _math("sqrt"))
floor = _intrinsic(1, _same, _math("floor"))
ceil = _intrinsic(1, _same, _math("ceil"))
floats = _intrinsic(
    1,
    lambda a: types.CPointer(types.float32)(a),
    lambda b, v: b.bitcast(v[0], _F32.as_pointer()),
)


def _log2_f64(a: Any) -> Any:
    b = as_i64(a)
    e = (b - 0x3FE6A09E667F3BCD) >> 52
    m = as_f64(b - (e << 52))
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 1.0 / 19.0
    for k in range(17, 0, -2):
        p = p * z + 1.0 / k
    return e + (2.0 * s * p) * 1.4426950408889634


def _exp2_f64(t: Any) -> Any:
    n = (t + 6755399441055744.0) - 6755399441055744.0
    r = (t - n) * 0.6931471805599453
    p = 1.0
    for k in range(12, 0, -1):
        p = 1.0 + p * r / k
    return p * as_f64((np.int64(n) + 1023) << 52)


def _pow1(x: Any, y: Any) -> Any:
    if y == 0.0 or x == 1.0:
        return np.float32(1.0)
    if x != x or y != y:
        return np.float32(x + y)
    a = abs(np.float64(x))
    yd = np.float64(y)
    ay = abs(yd)
    whole = ay >= 8388608.0 or np.float64(np.int64(ay)) == ay
    odd = ay < 16777216.0 and whole and (np.int64(ay) & 1) == 1
    if a == 0.0 or a > 3.5e38:
        r = np.inf if (a == 0.0) == (y < 0.0) else 0.0
    elif x < 0.0 and not whole:
        r = np.nan
    elif a == 1.0:
        r = 1.0
    else:
        r = exp2_f64(min(max(yd * log2_f64(a), -1000.0), 1000.0))
    return np.float32(-r if np.signbit(x) and odd else r)


_jit = numba.njit(error_model="numpy")
log2_f64 = _jit(_log2_f64)
exp2_f64 = _jit(_exp2_f64)
pow1 = _jit(_pow1)

# What generated source may name.
NAMES: dict[str, Any] = {
    "as_i": as_i, "as_f": as_f, "to_f": to_f, "addi": addi, "subi": subi, "andi": andi, "ori": ori, "xori": xori,
    "shl": shl, "sra": sra, "add": add, "sub": sub, "mul": mul, "div": div, "lt": lt, "le": le, "nan": nan, "sel": sel,
    "sqrt": sqrt, "floor": floor, "ceil": ceil, "floats": floats, "pow1": pow1,
}  # fmt: skip


class Emitter:
    """Straight-line source in ``lines`` and the constants it names in ``constants``; values are names of variables."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self._known: dict[tuple[str, int], str] = {}
        self._count = 0

    def __getattr__(self, name: str) -> Callable[..., str]:
        if name not in NAMES:
            raise AttributeError(name)

        def call(*args: str) -> str:
            self._count += 1
            result = f"t{self._count}"
            self.lines.append(f"{result} = {name}({', '.join(args)})")
            return result

        return call

    def _constant(self, value: Any, bits: int) -> str:
        key = (type(value).__name__, bits)
        if key not in self._known:
            name = f"c{len(self.constants)}"
            self._known[key] = name
            self.constants[name] = value
        return self._known[key]

    def set(self, value: float) -> str:
        """A float32 constant."""
        v = np.float32(value)
        return self._constant(v, int(v.view(np.int32)))

    def seti(self, value: int) -> str:
        """An int32 constant."""
        return self._constant(np.int32(value), value)

    def min(self, a: str, b: str) -> str:
        """a < b ? a : b."""
        return self.sel(self.lt(a, b), a, b)

    def max(self, a: str, b: str) -> str:
        """a > b ? a : b."""
        return self.sel(self.lt(b, a), a, b)


def _poly(v: Emitter, x: str, *c: float) -> str:
    p = v.set(c[-1])
    for k in reversed(c[:-1]):
        p = v.add(v.mul(p, x), v.set(k))
    return p


def _abs(v: Emitter, x: str) -> str:
    return v.as_f(v.andi(v.as_i(x), v.seti(0x7FFFFFFF)))


def _minus_abs(v: Emitter, x: str) -> str:
    return v.as_f(v.ori(v.as_i(x), v.seti(-(2**31))))


def _neg(v: Emitter, x: str) -> str:
    return v.as_f(v.xori(v.as_i(x), v.seti(-(2**31))))


def _copysign(v: Emitter, x: str, s: str) -> str:
    return v.as_f(v.ori(v.andi(v.as_i(x), v.seti(0x7FFFFFFF)), v.andi(v.as_i(s), v.seti(-(2**31)))))


def _relu(v: Emitter, x: str) -> str:
    return v.max(v.set(0), x)


def _maximum(v: Emitter, a: str, b: str) -> str:
    return v.sel(v.nan(a), a, v.max(a, b))


def _minimum(v: Emitter, a: str, b: str) -> str:
    return v.sel(v.nan(a), a, v.min(a, b))


def _clip(v: Emitter, x: str, lo: str, hi: str) -> str:
    return v.min(hi, v.max(lo, x))


def _exp_parts(v: Emitter, x: str) -> tuple[str, str, str]:
    magic = v.set(12582912.0)
    t = v.add(v.mul(x, v.set(1.44269504088896341)), magic)
    n = v.sub(t, magic)
    i = v.subi(v.as_i(t), v.as_i(magic))
    r = v.sub(v.sub(x, v.mul(n, v.set(0.693359375))), v.mul(n, v.set(-2.12194440e-4)))
    p = _poly(
        v, r, 5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4
    )
    p = v.add(v.mul(p, v.mul(r, r)), r)
    h = v.sra(i, v.seti(1))
    s1 = v.as_f(v.shl(v.addi(h, v.seti(127)), v.seti(23)))
    s2 = v.as_f(v.shl(v.addi(v.subi(i, h), v.seti(127)), v.seti(23)))
    return p, s1, s2


def _exp(v: Emitter, x: str) -> str:
    p, s1, s2 = _exp_parts(v, _clip(v, x, v.set(-104), v.set(89)))
    return v.mul(v.mul(v.add(p, v.set(1)), s1), s2)


def _expm1_neg(v: Emitter, x: str) -> str:
    p, s1, s2 = _exp_parts(v, _clip(v, x, v.set(-18), v.set(0)))
    s = v.mul(s1, s2)
    return v.sel(v.lt(x, v.set(0)), v.add(v.mul(p, s), v.sub(s, v.set(1))), x)


def _log(v: Emitter, x: str) -> str:
    zero, inf = v.set(0), v.set(np.inf)
    tiny = v.lt(x, v.set(1.17549435e-38))
    y = v.sel(tiny, v.mul(x, v.set(8388608)), x)
    bits = v.subi(v.as_i(y), v.seti(0x3F3504F3))
    e = v.to_f(v.sra(bits, v.seti(23)))
    e = v.sub(e, v.sel(tiny, v.set(23), zero))
    m = v.as_f(v.addi(v.andi(bits, v.seti(0x007FFFFF)), v.seti(0x3F3504F3)))
    m = v.sub(m, v.set(1))
    z = v.mul(m, m)
    p = _poly(
        v, m, 3.3333331174e-1, -2.4999993993e-1, 2.0000714765e-1, -1.6668057665e-1, 1.4249322787e-1, -1.2420140846e-1,
        1.1676998740e-1, -1.1514610310e-1, 7.0376836292e-2,
    )  # fmt: skip
    p = v.mul(v.mul(p, m), z)
    p = v.add(p, v.mul(e, v.set(-2.12194440e-4)))
    p = v.sub(p, v.mul(z, v.set(0.5)))
    r = v.add(v.add(m, p), v.mul(e, v.set(0.693359375)))
    r = v.sel(v.lt(x, inf), r, x)
    return v.sel(v.le(x, zero), v.sel(v.lt(x, zero), v.set(np.nan), v.set(-np.inf)), r)


def _log1p_unit(v: Emitter, u: str) -> str:
    w = v.add(v.set(1), u)
    lost = v.sub(u, v.sub(w, v.set(1)))
    return v.add(_log(v, w), v.div(lost, w))


def _tanh(v: Emitter, x: str) -> str:
    a, z = _abs(v, x), v.mul(x, x)
    small = _poly(v, z, -3.33332819422e-1, 1.33314422036e-1, -5.37397155531e-2, 2.06390887954e-2, -5.70498872745e-3)
    small = v.add(v.mul(v.mul(small, z), x), x)
    e = _exp(v, v.add(a, a))
    big = v.sub(v.set(1), v.div(v.set(2), v.add(e, v.set(1))))
    return v.sel(v.lt(a, v.set(0.625)), small, _copysign(v, big, x))


def _sigmoid(v: Emitter, x: str) -> str:
    e = _exp(v, _minus_abs(v, x))
    return v.div(v.sel(v.lt(x, v.set(0)), e, v.set(1)), v.add(e, v.set(1)))


def _erf(v: Emitter, x: str) -> str:
    a, z = _abs(v, x), v.mul(x, x)
    small = _poly(
        v, z, 1.2837917e-01, -3.7612635e-01, 1.1283715e-01, -2.6860509e-02, 5.2038589e-03, -8.1756391e-04, 8.5131032e-05
    )
    small = v.add(v.mul(small, x), x)
    c = v.min(v.set(4), a)
    q = _poly(
        v, c, 1.6648255e-04, 1.1277971e00, 6.3697636e-01, 1.0411343e-01, -2.2315085e-02, 3.0654566e-03, -1.9821606e-04
    )
    big = v.sub(v.set(1), _exp(v, _neg(v, q)))
    return v.sel(v.lt(a, v.set(0.9)), small, _copysign(v, big, x))


def _sign(v: Emitter, x: str) -> str:
    zero = v.set(0)
    return v.sel(v.lt(zero, x), v.set(1), v.sel(v.lt(x, zero), v.set(-1), zero))


def _mish(v: Emitter, x: str) -> str:
    e = _exp(v, v.min(v.set(20), x))
    n = v.mul(e, v.add(e, v.set(2)))
    return v.mul(x, v.div(n, v.add(n, v.set(2))))


def _gelu(v: Emitter, x: str) -> str:
    t = v.add(v.set(1), _erf(v, v.mul(x, v.set(0.70710678118654752))))
    return v.mul(v.mul(v.set(0.5), x), t)


def _gelu_tanh(v: Emitter, x: str) -> str:
    cube = v.mul(v.mul(x, x), x)
    inner = v.mul(v.set(0.79788456080286536), v.add(x, v.mul(v.set(0.044715), cube)))
    return v.mul(v.mul(v.set(0.5), x), v.add(v.set(1), _tanh(v, inner)))


_SIXTH = float(np.float32(1) / np.float32(6))

# Instructions of kernels/eltwise/ops.inc.
INSTRUCTIONS: dict[str, Callable[..., str]] = {
    "copy": lambda v, x: x,
    "relu": _relu,
    "neg": _neg,
    "abs": _abs,
    "exp": _exp,
    "log": _log,
    "sqrt": lambda v, x: v.sqrt(x),
    "rsqrt": lambda v, x: v.div(v.set(1), v.sqrt(x)),
    "reciprocal": lambda v, x: v.div(v.set(1), x),
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "erf": _erf,
    "silu": lambda v, x: v.mul(x, _sigmoid(v, x)),
    "hardsigmoid": lambda v, x: _clip(v, v.add(v.mul(x, v.set(_SIXTH)), v.set(0.5)), v.set(0), v.set(1)),
    "hardswish": lambda v, x: v.mul(
        x, v.mul(_clip(v, v.add(x, v.set(3)), v.set(0), v.set(6)), v.set(_SIXTH))
    ),
    "softplus": lambda v, x: v.add(_relu(v, x), _log1p_unit(v, _exp(v, _minus_abs(v, x)))),
    "mish": _mish,
    "sign": _sign,
    "floor": lambda v, x: v.floor(x),
    "ceil": lambda v, x: v.ceil(x),
    "square": lambda v, x: v.mul(x, x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "add": lambda v, x, y: v.add(x, y),
    "sub": lambda v, x, y: v.sub(x, y),
    "mul": lambda v, x, y: v.mul(x, y),
    "div": lambda v, x, y: v.div(x, y),
    "maximum": _maximum,
    "minimum": _minimum,
    "pow": lambda v, x, y: v.pow1(x, y),
    "leaky": lambda v, x, s: v.sel(v.lt(v.set(0), x), x, v.mul(s, x)),
    "elu": lambda v, x, a: v.sel(v.lt(v.set(0), x), x, v.mul(a, _expm1_neg(v, x))),
    "clip": _clip,
}  # fmt: skip
