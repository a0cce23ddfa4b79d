"""int8 ops against a slow independent implementation: exact rational arithmetic, each float32 rounding spelled out."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from irkit.errors import IRError
from irkit.ir.graph import infer_types
from irkit.ir.opdef import REGISTRY, Case, OpDef
from irkit.ir.types import DType, QArray, Quant, TensorType
from irkit.ops.quantized import softmax_table
from tests.ops.samples import all_samples, attrs_of, inferred, reference


def f32(x: Fraction | int | float) -> Fraction:
    """x rounded to float32, ties to even, in exact arithmetic: 24 significant bits, denormals below 2^-126."""
    x = Fraction(x)
    if x == 0:
        return x
    mag = abs(x)
    e = mag.numerator.bit_length() - mag.denominator.bit_length()
    if mag < Fraction(2) ** e:
        e -= 1
    unit = Fraction(2) ** (max(e, -126) - 23)
    return unit * round(x / unit)  # Python rounds Fractions half to even


def f64(x: Fraction) -> Fraction:
    return Fraction(float(x))


def clamp(v: int, lo: int, hi: int) -> int:
    return min(max(v, lo), hi)


def scales(q: Quant) -> list[Fraction]:
    return [Fraction(s) for s in q.scale]


def real(x: QArray, at: tuple[int, ...]) -> int:
    i = 0 if x.quant.axis is None else at[x.quant.axis]
    return int(x.data[at]) - x.quant.zero[i]


def mult(*factors: Fraction, over: Fraction = Fraction(1)) -> Fraction:
    m = Fraction(1)
    for f in factors:
        m = f64(m * f)
    return f32(f64(m / over))


def store(p: Fraction, quant: Quant, lo: int = -128, hi: int = 127) -> int:
    return clamp(round(p) + quant.zero[0], lo, hi)


def anchor(acc: int, c: int, r: tuple[int, Fraction] | None, x: QArray, w: QArray, a: dict[str, Any]) -> Any:
    sx, sw = scales(x.quant)[0], scales(w.quant)[c]
    if a["quant"] is None:
        return float(f32(f32(acc) * mult(sx, sw)))
    sy = scales(a["quant"])[0]
    p = f32(f32(acc) * mult(sx, sw, over=sy))
    if r is not None:
        p = f32(p + f32(f32(r[0]) * mult(r[1], over=sy)))
    return store(p, a["quant"], a["lo"], a["hi"])


def indices(shape: tuple[int, ...]) -> Any:
    return itertools.product(*map(range, shape))


def slow(name: str, ops: tuple[Any, ...], a: dict[str, Any], out: tuple[int, ...]) -> np.ndarray[Any, Any]:
    y = np.zeros(out, np.float64)
    for at in indices(out):
        y[at] = ELEMENT[name](at, *ops, **{k: v for k, v in a.items()})
    return y


def e_quantize(at: Any, x: Any, *, quant: Quant) -> int:
    v = float(x[at])
    r = 1.0 / quant.scale[0]
    if math.isnan(v) or (r > 3.4028235e38 and v == 0):
        return quant.zero[0]
    if math.isinf(v) or r > 3.4028235e38:
        return 127 if v > 0 else -128
    return store(f32(Fraction(v) * f32(Fraction(r))), quant)


def e_dequantize(at: Any, x: QArray) -> float:
    i = 0 if x.quant.axis is None else at[x.quant.axis]
    return float(f32(f32(real(x, at)) * scales(x.quant)[i]))


def e_requantize(at: Any, x: QArray, *, quant: Quant, lo: int, hi: int) -> int:
    return store(f32(real(x, at) * mult(scales(x.quant)[0], over=scales(quant)[0])), quant, lo, hi)


def residual_at(r: QArray | None, at: Any) -> tuple[int, Fraction] | None:
    return None if r is None else (real(r, at), scales(r.quant)[0])


def e_qconv2d(at: Any, x: QArray, w: QArray, b: Any = None, r: Any = None, **a: Any) -> Any:
    n, o, oh, ow = at
    (sh, sw), (dh, dw), pads = a["strides"], a["dilation"], a["pads"]
    per = w.data.shape[0] // a["groups"]
    base = (o // per) * w.data.shape[1]
    acc = 0 if b is None else int(b[o])
    for i, kh, kw in indices(w.data.shape[1:]):
        row, col = oh * sh + kh * dh - pads[0], ow * sw + kw * dw - pads[1]
        if 0 <= row < x.data.shape[2] and 0 <= col < x.data.shape[3]:
            acc += real(x, (n, base + i, row, col)) * int(w.data[o, i, kh, kw])
    return anchor(acc, o, residual_at(r, at), x, w, a)


def e_qlinear(at: Any, x: QArray, w: QArray, b: Any = None, r: Any = None, **a: Any) -> Any:
    o = at[-1]
    acc = 0 if b is None else int(b[o])
    acc += sum(real(x, (*at[:-1], k)) * int(w.data[o, k]) for k in range(w.data.shape[1]))
    return anchor(acc, o, residual_at(r, at), x, w, a)


def pick(x: QArray, at: Any) -> int:
    tail = at[len(at) - x.data.ndim :]
    return real(x, tuple(0 if d == 1 else i for d, i in zip(x.data.shape, tail, strict=True)))


def e_qadd(at: Any, a: QArray, b: QArray, *, quant: Quant, lo: int, hi: int) -> int:
    sy = scales(quant)[0]
    p = f32(pick(a, at) * mult(scales(a.quant)[0], over=sy))
    r = f32(pick(b, at) * mult(scales(b.quant)[0], over=sy))
    return store(f32(p + r), quant, lo, hi)


def e_qmul(at: Any, a: QArray, b: QArray, *, quant: Quant, lo: int, hi: int) -> int:
    m = mult(scales(a.quant)[0], scales(b.quant)[0], over=scales(quant)[0])
    return store(f32(pick(a, at) * pick(b, at) * m), quant, lo, hi)


def e_qlut(at: Any, x: QArray, table: Any, *, quant: Quant) -> int:
    row = table if table.ndim == 1 else table[at[1]]
    return int(row[int(x.data[at]) + 128])


def average(total: int, count: int, x: QArray, quant: Quant) -> int:
    return store(f32(f32(total) * mult(scales(x.quant)[0], over=f64(scales(quant)[0] * count))), quant)


def e_qavg_pool2d(at: Any, x: QArray, **a: Any) -> int:
    (kh, kw), (sh, sw), pads = a["kernel"], a["strides"], a["pads"]
    n, c, oh, ow = at
    h, w = x.data.shape[2:]
    total = count = 0
    for i, j in indices((kh, kw)):
        row, col = oh * sh + i - pads[0], ow * sw + j - pads[1]
        if 0 <= row < h and 0 <= col < w:
            total += real(x, (n, c, row, col))
            count += 1
        elif a["count_include_pad"] and row < h + pads[2] and col < w + pads[3]:
            count += 1
    return average(total, count, x, a["quant"])


def e_qmean(at: Any, x: QArray, *, axes: Any, keepdims: bool, quant: Quant) -> int:
    axes = [i % x.data.ndim for i in axes]
    spans = []
    it = iter(at)
    for i, d in enumerate(x.data.shape):
        if i in axes:
            spans.append(range(d))
            if keepdims:
                next(it)
        else:
            spans.append([next(it)])
    cells = list(itertools.product(*spans))
    return average(sum(real(x, c) for c in cells), len(cells), x, quant)


def e_qsoftmax(at: Any, x: QArray, table: Any, *, axis: int, quant: Quant | None) -> Any:
    axis %= x.data.ndim
    line = [int(x.data[(*at[:axis], i, *at[axis + 1 :])]) for i in range(x.data.shape[axis])]
    e = [int(table[max(line) - v]) for v in line]
    y = f32(f32(e[at[axis]]) / f32(sum(e)))
    return float(y) if quant is None else store(f32(y * f32(f64(1 / scales(quant)[0]))), quant)


ELEMENT = {k[2:]: v for k, v in list(globals().items()) if k.startswith("e_")}
SAMPLES = [(n, o, c) for n, o, c in all_samples() if "int8" in o.tags]


def test_every_int8_op_has_an_oracle() -> None:
    assert {d.name for d in REGISTRY.values() if "int8" in d.tags} == set(ELEMENT)


@pytest.mark.parametrize(("opdef", "case"), [s[1:] for s in SAMPLES], ids=[s[0] for s in SAMPLES])
def test_reference_equals_exact_arithmetic(opdef: OpDef, case: Case) -> None:
    (got,) = reference(opdef, case)
    want = slow(opdef.name, case.operands, attrs_of(opdef, case), got.shape)
    np.testing.assert_array_equal(got.astype(np.float64), want)
    assert inferred(opdef, case)[0].quant == case.attrs.get("quant")


@pytest.mark.parametrize("scale", [2.0**-31, 2.0**31, 1e-3])
@pytest.mark.parametrize("zero", [-128, 127])
def test_extreme_scales(scale: float, zero: int) -> None:
    x = QArray(np.arange(-128, 128).astype(np.int8), Quant.per_tensor(scale, zero))
    for other in (2.0**-31, 0.7, 2.0**31):
        y = Quant.per_tensor(other, -zero - 1)
        for name in ("qadd", "qmul"):
            case = Case((x, x), {"quant": y})
            got = reference(REGISTRY[name], case)[0]
            np.testing.assert_array_equal(got, slow(name, case.operands, attrs_of(REGISTRY[name], case), got.shape))


def test_sums_near_the_end_of_int32() -> None:
    k = 66311  # 66311 * 255 * 127 = 2^31 - 1,913
    x = QArray(np.full((1, k), -128, np.int8), Quant.per_tensor(1.0, 127))
    w = QArray(np.full((1, k), 127, np.int8), Quant((1.0,), (0,), 0))
    bias = np.array([-1912], np.int32)
    got = reference(REGISTRY["qlinear"], Case((x, w, bias, None), {}))[0]
    assert got[0, 0] == np.float32(-k * 255 * 127 - 1912)


def test_conversions_round_ties_to_even() -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert REGISTRY["quantize"].fn(halves, quant=Quant.per_tensor(1.0)).tolist() == [-2, -2, 0, 0, 2, 2]


def test_softmax_table() -> None:
    t = softmax_table(0.25)
    assert t.dtype == np.int32 and t[0] == 2**23
    assert [int(v) for v in t[:40]] == [round(2**23 * math.exp(-0.25 * d)) for d in range(40)]


I8 = TensorType((1, 4, 5, 5), DType.I8, Quant.per_tensor(0.1))
W8 = TensorType((3, 4, 1, 1), DType.I8, Quant((0.1,) * 3, (0,) * 3, 0))
Y = Quant.per_tensor(0.2)


@pytest.mark.parametrize(
    ("name", "types", "attrs", "message"),
    [
        ("qconv2d", [TensorType((1, 4, 5, 5), DType.I8), W8], {"quant": Y}, "operand x: expected a quantized i8"),
        ("qconv2d", [TensorType((1, 4, 5, 5)), W8], {"quant": Y}, r"operand x: .*got f32\[1,4,5,5\]"),
        (
            "qconv2d",
            [I8, TensorType((3, 4, 1, 1), DType.I8, Quant.per_tensor(1.0))],
            {"quant": Y},
            "operand w: .*axis 0",
        ),
        ("qconv2d", [I8, W8, TensorType((3,))], {"quant": Y}, "operand bias: expected i32"),
        ("qconv2d", [I8, W8, TensorType((4,), DType.I32)], {"quant": Y}, r"operand bias: expected shape \[3\]"),
        ("qconv2d", [I8, W8, None, I8], {"quant": Y}, r"operand residual: expected shape \[1, 3, 5, 5\]"),
        ("qconv2d", [I8, W8, None, I8], {}, "operand residual: expected nothing when quant is None"),
        ("qconv2d", [I8, W8], {"quant": Y, "lo": 5, "hi": 4}, "lo <= hi"),
        ("qconv2d", [I8, W8], {"quant": Quant.per_tensor(1.0, 300)}, r"zero point in \[-128, 127\], got 300"),
        ("qlinear", [I8, W8], {"quant": Y}, "operand w"),
        ("quantize", [I8], {"quant": Y}, "operand x: expected a float"),
        ("quantize", [TensorType((2,))], {"quant": Quant((1.0, 2.0), (0, 0), 0)}, "per-tensor Quant"),
        ("dequantize", [TensorType((2,), DType.I8)], {}, "operand x: expected a quantized"),
        ("qlut", [I8, TensorType((5, 256), DType.I8)], {"quant": Y}, r"i8\[4,256\], got i8\[5,256\]"),
        ("qsoftmax", [I8, TensorType((256,))], {"axis": 1}, r"operand table: expected i32\[256\]"),
        ("qadd", [I8, TensorType((3,), DType.I8, Y)], {"quant": Y}, "don't broadcast"),
    ],
)
def test_wrong_operands_are_named(name: str, types: list[Any], attrs: dict[str, Any], message: str) -> None:
    opdef = REGISTRY[name]
    types = types + [None] * (len(opdef.operands) - len(types))
    full = {k: v for k, v in opdef.attrs.items() if k in attrs or v is not None} | attrs
    full = {k: full.get(k) for k in opdef.attrs}
    with pytest.raises(IRError, match=message) as e:
        infer_types(opdef, types, full, None, "layer")
    assert str(e.value).startswith(f"{name} @layer: ")
