"""Elementwise int8 kernels equal their references bit for bit, on every ISA and thread count."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, QArray, Quant
from irkit.ops import dequantize, qadd, qmul, quantize, requantize
from tests.kernels.run_op import NHWC, cases, make_op, reference, run_op, run_step
from tests.kernels.util import ISAS

SIZES = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 100, 1023, 1024, 1025, 5000)
rng = np.random.default_rng(2)


def int8(*shape: int, scale: float = 0.05, zero: int = 0) -> QArray:
    return QArray(rng.integers(-128, 128, shape).astype(np.int8), Quant.per_tensor(scale, zero))


def check(
    opdef: OpDef, operands: list[Array | QArray], attrs: dict[str, object], isa: str, threads: int = 2, **how: object
) -> None:
    want = reference(opdef, operands, attrs)
    got = run_op(opdef, operands, attrs, isa=isa, threads=threads, **how)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", [quantize, dequantize, requantize, qadd, qmul], ids=lambda d: d.name)
def test_cases(opdef: OpDef, isa: str) -> None:
    seen = 0
    for case in cases(opdef):
        if opdef is dequantize and case.name == "i32":
            continue  # biases: folded, never met at run time
        check(opdef, list(case.operands), dict(case.attrs), isa)
        seen += 1
    assert seen


@pytest.mark.parametrize("isa", ISAS)
def test_quantize_rounds_ties_to_even_and_saturates(isa: str) -> None:
    steps = np.arange(-300, 300, dtype=np.float32)
    special = np.float32([np.nan, -np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -0.0, 127.49999, 127.5, -128.5])
    x = np.concatenate([steps, steps + np.float32(0.5), np.nextafter(steps + np.float32(0.5), np.float32(0)), special])
    for scale, zero in itertools.product((1.0, 0.25, 0.1, 3e-5, 1e30, 1e-40), (-128, -1, 0, 77, 127)):
        with np.errstate(over="ignore"):
            scaled = x * np.float32(scale)
        check(quantize, [scaled], {"quant": Quant.per_tensor(scale, zero)}, isa)


@pytest.mark.parametrize("isa", ISAS)
def test_planes_become_pixels_on_the_way(isa: str) -> None:
    special = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.5, -0.5, 1.5])
    for n, c, h, w in itertools.product((1, 2), (1, 2, 3, 4, 7), (1, 5), (*range(1, 40), 63, 64, 65, 127, 129, 410)):
        x = rng.normal(0, 60, (n, c, h, w)).astype(np.float32)
        x.flat[: min(8, x.size)] = special[: x.size]
        y = {"quant": Quant.per_tensor(0.5, int(rng.integers(-128, 128)))}
        check(quantize, [x], y, isa, threads=1 + w % 2, result_order=NHWC)


@pytest.mark.parametrize("isa", ISAS)
def test_all_sizes(isa: str) -> None:
    for n in SIZES:
        y = {"quant": Quant.per_tensor(0.07, 5)}
        check(quantize, [rng.normal(0, 5, n).astype(np.float32)], y, isa)
        check(dequantize, [int8(n, zero=-9)], {}, isa)
        check(requantize, [int8(n, zero=-9)], {**y, "lo": -100, "hi": 90}, isa)
        check(qadd, [int8(n, zero=-128), int8(n, scale=0.02, zero=127)], {**y, "lo": -5}, isa)
        check(qmul, [int8(n, zero=-128), int8(n, scale=0.02, zero=127)], y, isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", [qadd, qmul], ids=lambda d: d.name)
def test_every_pair_of_values(opdef: OpDef, isa: str) -> None:
    every = np.arange(-128, 128).astype(np.int8)
    for sa, sb, sy, za, zb, zy in (
        (0.1, 0.2, 0.15, 3, -7, 1),
        (0.5, 0.25, 0.5, -128, 127, 0),
        (1e-3, 2.0, 3e-4, 0, 0, -128),
    ):
        a = QArray(np.repeat(every, 256).reshape(256, 256), Quant.per_tensor(sa, za))
        b = QArray(every, Quant.per_tensor(sb, zb))
        check(opdef, [a, b], {"quant": Quant.per_tensor(sy, zy)}, isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", [qadd, qmul], ids=lambda d: d.name)
def test_broadcasts_in_both_orders(opdef: OpDef, isa: str) -> None:
    y = {"quant": Quant.per_tensor(0.09, -4)}
    shapes = ((2, 19, 5, 6), (1, 19, 1, 1), (2, 1, 5, 6), (1, 1, 1, 1), (2, 19, 1, 6), (1, 1, 5, 1))
    for sa, sb in itertools.product(shapes, shapes):
        a, b = int8(*sa, zero=3), int8(*sb, scale=0.03, zero=-50)
        rank4 = np.broadcast_shapes(sa, sb)
        assert len(rank4) == 4
        for order in (None, NHWC):
            check(opdef, [a, b], y, isa, orders={0: order, 1: order}, result_order=order)
        check(opdef, [a, b], y, isa, orders={0: NHWC, 1: None}, result_order=NHWC)


@pytest.mark.parametrize("isa", ISAS)
def test_dequantize_along_every_axis(isa: str) -> None:
    for shape in ((37,), (3, 5), (2, 21, 3, 4), (40, 1, 3, 3)):
        for axis in range(len(shape)):
            n = shape[axis]
            q = Quant(tuple(0.01 * (i + 1) for i in range(n)), tuple(int(z) for z in rng.integers(-128, 128, n)), axis)
            x = QArray(rng.integers(-128, 128, shape).astype(np.int8), q)
            check(dequantize, [x], {}, isa)
            if len(shape) == 4:
                check(dequantize, [x], {}, isa, orders={0: NHWC}, result_order=NHWC)


def test_images_that_do_not_fit_are_refused() -> None:
    op, given = make_op(quantize, [np.ones((1, 3, 4, 5), np.float32)], {"quant": Quant.per_tensor(0.1)})
    step = lower(op)
    assert step is not None
    step.attrs["planar"] = 1  # but the result is stored like the image
    with pytest.raises(ArtifactError, match="by planes"):
        run_step(step, given)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ma", float("inf"), "not finite"),
        ("zy", 128, "zy"),
        ("za", -129, "za"),
        ("lo", 90, "lo > hi"),
        ("sa", [1000, 1], "reads element"),
        ("sb", [2**47, 2**47], "reads element"),
        ("op", "div", "unknown op"),
    ],
)
def test_bad_steps_are_refused(key: str, value: object, message: str) -> None:
    op, given = make_op(qadd, [int8(4, 5), int8(4, 5)], {"quant": Quant.per_tensor(0.1), "hi": 50})
    step = lower(op)
    assert step is not None
    step.attrs[key] = value
    with pytest.raises(ArtifactError, match=message):
        run_step(step, given)
