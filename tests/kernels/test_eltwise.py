"""Elementwise programs on every ISA level: against the references, bit-equal among levels and thread counts."""

from __future__ import annotations

import ctypes
import json
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irkit import _native
from irkit.backend.kernel import Step, lower
from irkit.backend.native import eltwise
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.opdef import Case, OpDef
from irkit.ir.types import Array, TensorType
from irkit.ops import add, batch_norm, cast, clip, const, fused, mul, prelu, relu, return_, sigmoid, sub
from irkit.ops.elementwise import EDGES
from tests.kernels.util import ISAS, graph_of, guarded, run_lowered, run_step, same_bits, ulps

# Results that are single IEEE operations, or choices among their operands.
EXACT = {"relu", "neg", "abs", "sqrt", "reciprocal", "sign", "floor", "ceil", "square", "clip", "leaky_relu", "prelu",
         "add", "sub", "mul", "div", "maximum", "minimum"}  # fmt: skip
# Ulps of the exact value, as kernels/base/vmath.h derives them (pow rounds a float64 result once).
ULPS = {"exp": 2.0, "log": 2.0, "rsqrt": 1.5, "sigmoid": 2.5, "tanh": 2.0, "erf": 2.0, "softplus": 2.5, "elu": 2.0,
        "pow": 0.51}  # fmt: skip
EPS = 2.0**-24
TINY = 2.0**-149


def bound(name: str, x: Array) -> Array:
    """Absolute error allowed where the result cancels or underflows, so that ulps of it would say nothing."""
    a = np.abs(x.astype(np.float64))
    if name == "hardsigmoid":  # x/6 + 1/2, three roundings of values below 1
        return np.full(a.shape, 3 * EPS)
    if name == "hardswish":  # (x + 3) rounds by eps * 6, then two products
        return a * 4 * EPS + TINY
    # x times a factor in [0, 1] that has a few eps absolute error (gelu: 1 + erf), or a few ulp (silu, mish)
    return {"gelu": a * 4 * EPS, "silu": a * TINY, "mish": a * 4 * TINY}[name] + TINY


def op_cases() -> list[Any]:
    rows = []
    for d in sorted(eltwise._ALL, key=lambda d: d.name):
        for c in d.cases():
            arrays = [x for x in c.operands if x is not None]
            if all(x.dtype == np.float32 and x.size for x in arrays):
                rows.append(pytest.param(d, c, id=f"{d.name}-{c.name}"))
    return rows


def lowered(g: Graph) -> Step:
    op = next(o for o in g if o.name not in ("const", "return"))
    step = lower(op)
    assert step is not None
    return step


def check_close(name: str, got: Array, exact: Array, x: Array) -> None:
    if name in EXACT:
        assert np.array_equal(got, exact.astype(np.float32), equal_nan=True)
    elif name in ULPS:
        assert ulps(got, exact).max() <= ULPS[name]
    else:
        ok = (ulps(got, exact) <= 5) | (np.abs(got - exact) <= bound(name, x))
        assert ok.all(), (x[~ok][:5], got[~ok][:5], exact[~ok][:5])


def exact_value(d: OpDef, operands: tuple[Any, ...], attrs: Any) -> Array:
    """The reference in float64, where it does not round to float32."""
    if d.name in EXACT:
        return np.asarray(d.fn(*operands, **attrs))
    return np.asarray(d.fn(*[x.astype(np.float64) for x in operands], **attrs))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("opdef", "case"), op_cases())
def test_op(opdef: OpDef, case: Case, isa: str) -> None:
    types = [TensorType(x.shape) for x in case.operands]
    g = graph_of(opdef, types, **case.attrs)
    step = lowered(g)
    arrays = dict(zip(g.inputs, map(np.asarray, case.operands), strict=True))
    (got,) = run_lowered(step, arrays, isa=isa)
    with np.errstate(all="ignore"):
        exact = exact_value(opdef, case.operands, case.attrs)
        check_close(opdef.name, got, exact, np.broadcast_to(case.operands[0], got.shape))
    (scalar,) = run_lowered(step, arrays, isa="scalar", threads=2)
    assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", [d for d in eltwise._UNARY], ids=lambda d: d.name)
def test_all_magnitudes(opdef: OpDef, isa: str) -> None:
    """Random bit patterns: every exponent, denormals, infinities and NaN with any payload."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([bits, rng.uniform(-20, 20, 20003).astype(np.float32), EDGES])
    g = graph_of(opdef, [TensorType(x.shape)])
    step = lowered(g)
    (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa)
    with np.errstate(all="ignore"):
        check_close(opdef.name, got, exact_value(opdef, (x,), {}), x)
    (scalar,) = run_lowered(step, {g.inputs[0]: x}, isa="scalar")
    assert same_bits(got, scalar)


def test_codes_are_those_of_the_kernel() -> None:
    text = (Path(__file__).parents[2] / "kernels/eltwise/ops.inc").read_text()
    rows = re.findall(r"^IRK_ELT\((\d+), (\w+), \d, \d+\)", text, re.M)
    assert {name: int(code) for code, name in rows} == eltwise.CODES


SHAPES = [
    ((3, 5, 7, 9), (3, 5, 7, 9)),
    ((2, 4, 33, 17), (4, 1, 1)),  # per channel
    ((2, 40, 3, 5), (2, 40, 1, 1)),  # squeeze and excite
    ((2, 3, 8, 70), (1, 1, 8, 1)),
    ((2, 3, 8, 70), (2, 3, 8, 1)),  # per row
    ((1, 1, 1, 5000), (1,)),
    ((7, 1, 3, 1), (1, 6, 1, 4)),
    ((2, 1, 3, 1, 2, 1, 2, 3), (1, 2, 1, 2, 1, 2, 1, 3)),  # rank 8, nothing collapses
    ((), (3, 1)),
]
ORDERS = [None, (0, 2, 3, 1), (3, 1, 0, 2)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_broadcast_in_any_storage_order(a: tuple[int, ...], b: tuple[int, ...], isa: str) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(a, np.float32), rng.standard_normal(b, np.float32)
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    want = x - y
    orders = ORDERS if want.ndim == 4 else [None]
    for ox in orders if len(a) == 4 else [None]:
        for oy in orders if len(b) == 4 else [None]:
            for oz in orders:
                types = [TensorType(a).with_order(ox), TensorType(b).with_order(oy)]
                g = graph_of(sub, types, out=TensorType(want.shape).with_order(oz))
                step = lowered(g)
                (got,) = run_lowered(step, dict(zip(g.inputs, (x, y), strict=True)), isa=isa)
                assert np.array_equal(got, want), (ox, oy, oz)


def chain() -> tuple[Graph, Array, Array, Array]:
    """sigmoid(x * s + t) clipped, plus x: a channel vector, a scalar constant, a value used twice."""
    shape = (2, 19, 7, 5)
    t = TensorType(shape).with_order((0, 2, 3, 1))
    ct = TensorType((19, 1, 1))
    g = Graph()
    x, s = g.add_input(t, "x"), g.add_input(ct, "s")
    k = g.emit(const, value=np.array(0.25, np.float32)).result
    body = Graph("body")
    bx, bs = body.add_input(t.logical()), body.add_input(ct)
    bk = body.add_input(k.type)
    m = body.emit(mul, bx, bs).result
    a = body.emit(add, m, bk).result
    c = body.emit(clip, body.emit(sigmoid, a).result, lo=0.2, hi=0.7).result
    body.emit(return_, body.emit(add, c, bx).result)
    op = g.emit(fused, x, s, k, types=[t], body=body)
    g.emit(return_, op.result)
    rng = np.random.default_rng(3)
    xs = rng.standard_normal(shape, np.float32) * 3
    ss = rng.standard_normal((19, 1, 1), np.float32)
    return g, xs, ss, np.asarray(fused.fn(xs, ss, np.float32(0.25), body=body))


@pytest.mark.parametrize("isa", ISAS)
def test_fused_chain(isa: str) -> None:
    g, x, s, want = chain()
    step = lowered(g)
    assert len(step.inputs) == 2  # the scalar constant became an immediate
    arrays = dict(zip(g.inputs, (x, s), strict=True))
    (got,) = run_lowered(step, arrays, isa=isa)
    # sigmoid has 2.5 ulp of at most 1, its argument one rounding of each of two operations with slope 1/4
    arg = np.abs(x * s) + 0.25 + 1
    assert np.all(np.abs(got - want) <= (3 + arg + np.abs(want)) * 2 * EPS)
    (other,) = run_lowered(step, arrays, isa="scalar", threads=2)
    assert same_bits(got, other)


@pytest.mark.parametrize("isa", ISAS)
def test_long_chain_reuses_slots(isa: str) -> None:
    """Forty instructions whose operands live long and short: temporaries must not overwrite what is still read."""
    t = TensorType((5, 1000))
    g = Graph()
    x, y = g.add_input(t), g.add_input(TensorType((1000,)))
    body = Graph("body")
    values = [body.add_input(t), body.add_input(y.type)]
    rng = np.random.default_rng(5)
    for i in range(40):
        left = values[-1] if i % 3 else values[int(rng.integers(len(values)))]
        right = values[int(rng.integers(len(values)))]
        values.append(body.emit((add, sub, relu)[i % 3], *((left, right) if i % 3 < 2 else (left,))).result)
    total = body.emit(add, values[2], values[-1]).result
    body.emit(return_, total if total.type.shape == t.shape else body.emit(add, total, values[0]).result)
    op = g.emit(fused, x, y, body=body)
    step = lower(op)
    assert step is not None
    a, b = rng.standard_normal((5, 1000), np.float32), rng.standard_normal(1000, np.float32)
    (got,) = run_lowered(step, {x: a, y: b}, isa=isa)
    assert np.array_equal(got, fused.fn(a, b, body=body))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 3, 4, 7, 8, 15, 16, 17, 31, 63, 257, 8192, 8193, 20011])
def test_tails_stay_inside(isa: str, n: int) -> None:
    """Every length of tail, operands ending at an unreadable page, whatever their alignment."""
    rng = np.random.default_rng(n)
    x, y = (guarded(rng.standard_normal(n, np.float32)) for _ in range(2))
    attrs = {"code": [32, 0, 1, 0, 4, 2, 0, 0], "imm": [], "strides": [1, 1]}
    (got,) = run_step("eltwise", [x, y], [((n,), np.float32)], attrs, isa=isa, threads=2)
    (want,) = run_step("eltwise", [x, y], [((n,), np.float32)], attrs, isa="scalar")
    assert same_bits(got, want)
    assert ulps(got, np.exp((x + y).astype(np.float64))).max() <= 2


@pytest.mark.parametrize("isa", ISAS)
def test_channel_tail_stays_inside(isa: str) -> None:
    x, s = guarded(np.ones((6, 7, 13), np.float32)), guarded(np.arange(13, dtype=np.float32))
    attrs = {"code": [34, 0, 1, 0], "imm": [], "strides": [91, 13, 1, 0, 0, 1]}
    (got,) = run_step("eltwise", [x, s], [((6, 7, 13), np.float32)], attrs, isa=isa)
    assert np.array_equal(got, x * s)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("order", [None, (0, 2, 3, 1)])
def test_prelu_and_batch_norm_along_channels(isa: str, order: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 5, 3, 4), np.float32)
    slope = rng.standard_normal(5, np.float32)
    t = TensorType(x.shape).with_order(order)
    g = graph_of(prelu, [t, TensorType((5,))], out=t)
    step = lowered(g)
    (got,) = run_lowered(step, dict(zip(g.inputs, (x, slope), strict=True)), isa=isa)
    assert np.array_equal(got, prelu.fn(x, slope))

    stats = [rng.uniform(0.5, 2, 5).astype(np.float32) for _ in range(4)]
    g = Graph()
    v = g.add_input(t)
    op = g.emit(batch_norm, v, *(g.emit(const, value=s).result for s in stats), types=[t], eps=1e-3)
    step = lower(op)
    assert step is not None
    (got,) = run_lowered(step, {v: x}, isa=isa)
    want = batch_norm.fn(x, *stats, eps=1e-3)
    # two rounded factors of at most 2 / sqrt(0.5) and 2 + 2 * 2 / sqrt(0.5), a product and a sum
    assert np.all(np.abs(got - want) <= EPS * 3 * (np.abs(x) * 2.9 + 7.7))


@pytest.mark.parametrize("isa", ISAS)
def test_largest_program(isa: str) -> None:
    """Thirty-two clips: as many instructions as the fuse pass puts together, two immediates each."""
    t = TensorType((3, 70))
    body = Graph("body")
    v = body.add_input(t)
    for i in range(32):
        v = body.emit(clip, v, lo=-4.0 + i / 16, hi=4.0 - i / 16).result
    body.emit(return_, v)
    g = Graph()
    x = g.add_input(t)
    step = lower(g.emit(fused, x, body=body))
    assert step is not None
    a = np.random.default_rng(0).standard_normal(t.shape, np.float32) * 4
    (got,) = run_lowered(step, {x: a}, isa=isa)
    assert np.array_equal(got, np.clip(a, np.float32(-2.0625), np.float32(2.0625)))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2])
def test_in_place(isa: str, threads: int) -> None:
    """The output may lie exactly on an operand of its shape: y = x * s + 1 on x, then y = y - x of another buffer."""
    shape, n = [70, 33, 16], 70 * 33 * 16 * 4
    tensors = [
        {"dtype": "f32", "shape": shape, "loc": ["in", 0]},
        {"dtype": "f32", "shape": [16], "loc": ["in", 1]},
        {"dtype": "f32", "shape": shape, "loc": ["arena", 0]},
        {"dtype": "f32", "shape": shape, "loc": ["arena", 0]},
        {"dtype": "f32", "shape": shape, "loc": ["out", 0]},
    ]
    full, channel = [33 * 16, 16, 1], [0, 0, 1]
    programs = [
        ([0], [2], {"code": [1, 0, 0, 0], "imm": [], "strides": full}),
        (
            [2, 1],
            [3],
            {
                "code": [34, 0, 1, 0, 32, 2, -1, 0, 10, 3, 0, 0, 33, 4, 0, 0],
                "imm": [0x3F800000],
                "strides": full + channel,
            },
        ),
        ([3], [4], {"code": [2, 0, 0, 0], "imm": [], "strides": full}),
    ]
    plan = {
        "version": 1,
        "inputs": [{"name": "x", "tensor": 0}, {"name": "s", "tensor": 1}],
        "outputs": [{"name": "y", "tensor": 4}],
        "tensors": tensors,
        "arena": (n + 63) // 64 * 64,
        "steps": [
            {"family": "eltwise", "in": i, "out": o, "attrs": a, "name": str(k)} for k, (i, o, a) in enumerate(programs)
        ],
    }
    rng = np.random.default_rng(0)
    x, s = rng.standard_normal(shape, np.float32), rng.standard_normal(16, np.float32)
    (got,) = _native.load_plan(json.dumps(plan), {}, isa=isa, threads=threads).run([x, s])
    r = np.maximum(x, 0)
    want = r - np.tanh((r * s + np.float32(1)).astype(np.float64))
    assert np.allclose(got, want, rtol=0, atol=4e-7 * (1 + np.abs(r).max())) and not np.array_equal(got, want * 0)


class _FloatEnv(ctypes.Structure):
    """fenv_t of x86-64 glibc: the x87 environment, then MXCSR."""

    _fields_ = (("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="MXCSR is x86's")
def test_float_environment_is_left_alone() -> None:
    """Neither flushing of denormals nor the rounding mode changes, whatever the numbers are."""
    libm = ctypes.CDLL("libm.so.6")
    env = [_FloatEnv(), _FloatEnv()]
    x = np.tile(EDGES, 100)
    assert libm.fegetenv(ctypes.byref(env[0])) == 0
    for code in eltwise.CODES.values():
        attrs = {"code": [code, 0, 0, 0], "imm": [], "strides": [1]}
        if code != eltwise.CODES["clip"]:
            run_step("eltwise", [x], [(x.shape, np.float32)], attrs)
    assert libm.fegetenv(ctypes.byref(env[1])) == 0
    control = 0xFFC0  # flush, masks, rounding; the low bits are sticky exception flags
    assert env[0].mxcsr & control == env[1].mxcsr & control


TORCH = {
    "relu": "relu", "abs": "abs", "exp": "exp", "log": "log", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "reciprocal": "reciprocal", "sigmoid": "sigmoid", "tanh": "tanh", "erf": "erf", "sign": "sign", "floor": "floor",
    "ceil": "ceil", "neg": "neg", "softplus": "nn.functional.softplus", "hardswish": "nn.functional.hardswish",
    "square": "square", "hardsigmoid": "nn.functional.hardsigmoid", "elu": "nn.functional.elu",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TORCH))
def test_special_values_as_in_torch(name: str) -> None:
    """NaN, infinities, zeros, denormals and the largest numbers: the same kind of result as PyTorch's."""
    torch = pytest.importorskip("torch")
    fn = torch
    for part in TORCH[name].split("."):
        fn = getattr(fn, part)
    big = np.finfo(np.float32).max
    x = np.float32(
        [0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, big, -big, np.inf, -np.inf, np.nan, 1.0, -1.0, 88.7, -103.0]
    )
    if name == "hardswish":
        x = x[np.abs(x) != big]  # PyTorch multiplies by 6 before it divides by 6, and overflows
    want = fn(torch.from_numpy(x)).numpy()
    code = [eltwise.CODES[name], 0, -1 if name == "elu" else 0, 0]
    (got,) = run_step("eltwise", [x], [(x.shape, np.float32)], {"code": code, "imm": [0x3F800000], "strides": [1]})
    assert np.array_equal(np.isnan(got), np.isnan(want)) and np.array_equal(np.isinf(got), np.isinf(want))
    absolute = 2e-7 if name == "hardsigmoid" else 1e-44
    assert np.allclose(got, want, rtol=1e-6, atol=absolute, equal_nan=True)


@pytest.mark.parametrize("source", ["f32", "f64", "i8", "u8", "i16", "i32", "i64", "bool"])
def test_cast(source: str) -> None:
    rng = np.random.default_rng(4)
    dtype = {"bool": "bool", "f32": "float32", "f64": "float64", "u8": "uint8"}.get(source, f"int{source[1:]}")
    if dtype.startswith("float"):
        x = np.concatenate(
            [rng.uniform(-300, 300, 5000), [1e30, -1e30, np.inf, -np.inf, np.nan, -0.0, 2.0**31, -(2.0**63)]]
        )
        x = x.astype(dtype)
    else:
        x = rng.integers(0, 256, 40000, dtype=np.uint8).view(dtype) if dtype != "bool" else rng.random(5000) > 0.5
    for to in ("f32", "f64", "i8", "u8", "i16", "i32", "i64", "bool"):
        g = graph_of(cast, [TensorType(x.shape, dtype=TensorType((1,)).dtype.of(x.dtype))], dtype=to)
        step = lowered(g)
        (got,) = run_lowered(step, {g.inputs[0]: x}, threads=2)
        want = cast.fn(x, dtype=to)
        assert got.dtype == want.dtype and np.array_equal(got, want, equal_nan=got.dtype.kind == "f"), to


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"code": [99, 0, 0, 0]}, "unknown code 99"),
        ({"code": [32, 0, 2, 0]}, "reads 2: not an earlier value"),
        ({"code": [32, 0, -2, 0], "imm": [0]}, "reads -2"),
        ({"code": [1, -1, 0, 0], "imm": [0]}, "only immediates"),
        ({"code": [32, -1, -1, 0], "imm": [0]}, "only immediates"),
        ({"code": [48, 0, 1, 0]}, "immediate limits"),
        ({"code": [1, 0, 0]}, "not 4 each"),
        ({"code": []}, "not 4 each"),
        ({"code": [1] * 400}, "at most 192 integers"),
        ({"strides": [4, 1, 5, 1]}, "strides of input 1 reach element 13 of 12"),
        ({"strides": [4, 1, 4, -1]}, "'strides' is not a list of 4 integers"),
        ({"strides": [4, 1]}, "'strides' is not a list of 4 integers"),
        ({"strides": [4, 1, 2**62, 2**62]}, "strides of input 1 reach"),
    ],
)
def test_bad_programs_are_rejected(attrs: dict[str, Any], message: str) -> None:
    x = np.zeros((3, 4), np.float32)
    full = {"code": [32, 0, 1, 0], "imm": [], "strides": [4, 1, 4, 1]} | attrs
    with pytest.raises(ArtifactError, match=re.escape(message)):
        run_step("eltwise", [x, x], [((3, 4), np.float32)], full)


def test_cast_of_another_size_is_rejected() -> None:
    with pytest.raises(ArtifactError, match="one input with the output's 12 elements"):
        run_step("eltwise", [np.zeros(11, np.float32)], [((12,), np.int8)], {})
