"""qconv: every ISA level against the reference of qconv2d, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irkit.errors import ArtifactError
from irkit.ir.types import QArray, Quant
from irkit.ops import qconv2d
from tests.kernels.quantized import check, check_guarded, layer, qtensor, qweights
from tests.kernels.util import ISAS, run_step

Y = Quant.per_tensor(0.4, -6)


def run(rng: np.random.Generator, xs: tuple[int, ...], ws: tuple[int, ...], **attrs: Any) -> None:
    threads = attrs.pop("threads", (1,))
    attrs.setdefault("quant", Y)
    zero = attrs.pop("zero", 5)
    x, w = qtensor(rng, xs, zero=zero), qweights(rng, ws)
    bias = rng.integers(-5000, 5000, ws[0]).astype(np.int32)
    check("qconv", qconv2d, x, w, bias, threads=threads, **attrs)


def test_there_is_a_row_for_every_level() -> None:
    from irkit import _native

    levels = {row[2] for row in _native.kernel_rows() if row[0] == "qconv"}
    assert levels >= {i for i in ISAS if i != "amx"}


@pytest.mark.parametrize("oc", range(1, 66))
def test_output_channels(oc: int) -> None:
    run(np.random.default_rng(oc), (1, 7, 3, 5), (oc, 7, 1, 1))


@pytest.mark.parametrize("pixels", range(1, 31))
def test_rows(pixels: int) -> None:
    rng = np.random.default_rng(pixels)
    run(rng, (1, 19, 1, pixels), (20, 19, 1, 1))
    run(rng, (1, 4, pixels, 2), (33, 4, 3, 3), pads=(1, 1, 1, 1))


@pytest.mark.parametrize("ic", [*range(1, 20), 31, 32, 33, 47, 63, 64, 65, 127, 128, 131])
def test_depth(ic: int) -> None:
    rng = np.random.default_rng(ic)
    run(rng, (1, ic, 4, 4), (9, ic, 1, 1))
    run(rng, (1, ic, 5, 4), (17, ic, 3, 2), pads=(1, 0, 0, 1))


SHAPES = [
    ((2, 3, 15, 14), (32, 3, 3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ((1, 3, 16, 16), (16, 3, 3, 3), {"strides": (2, 2), "pads": (0, 0, 1, 1)}),
    ((1, 3, 23, 20), (24, 3, 7, 7), {"strides": (2, 2), "pads": (3, 3, 3, 3)}),
    ((1, 1, 12, 10), (8, 1, 5, 4), {"strides": (2, 1), "pads": (2, 1, 1, 2)}),
    ((2, 16, 9, 7), (16, 16, 3, 3), {"dilation": (2, 2), "pads": (2, 2, 2, 2)}),
    ((1, 8, 9, 9), (12, 8, 3, 3), {"dilation": (1, 3), "pads": (3, 0, 1, 4)}),
    ((1, 8, 9, 9), (12, 8, 3, 1), {"dilation": (3, 1), "strides": (1, 2)}),
    ((1, 12, 6, 6), (18, 4, 3, 3), {"groups": 3, "pads": (1, 1, 1, 1)}),
    ((2, 6, 5, 5), (12, 1, 3, 3), {"groups": 6, "pads": (1, 1, 1, 1)}),
    ((1, 10, 6, 5), (4, 5, 1, 1), {"groups": 2}),
    ((1, 64, 6, 5), (130, 32, 1, 1), {"groups": 2, "strides": (2, 2)}),
    ((1, 5, 4, 4), (7, 5, 1, 1), {"strides": (3, 2), "pads": (1, 1, 1, 1)}),
    ((1, 4, 3, 3), (6, 4, 1, 1), {"pads": (1, 2, 3, 1)}),
    ((1, 4, 2, 2), (6, 4, 5, 5), {"pads": (4, 4, 4, 4)}),
    ((3, 20, 1, 9), (8, 20, 1, 4), {"strides": (1, 2), "pads": (0, 2, 0, 1)}),
]


@pytest.mark.parametrize("xs, ws, attrs", SHAPES)
@pytest.mark.parametrize("zero", [-128, 0, 127])
def test_geometry(xs: tuple[int, ...], ws: tuple[int, ...], attrs: dict[str, Any], zero: int) -> None:
    run(np.random.default_rng(1), xs, ws, zero=zero, threads=(1, 2), **attrs)


@pytest.mark.parametrize("seed", range(40))
def test_random_layers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    kh, kw = (int(k) for k in rng.integers(1, 5, 2))
    attrs: dict[str, Any] = {
        "strides": tuple(rng.integers(1, 4, 2).tolist()),
        "pads": tuple(rng.integers(0, 4, 4).tolist()),
        "dilation": tuple(rng.integers(1, 3, 2).tolist()),
        "groups": groups,
        "lo": int(rng.integers(-128, 0)),
        "hi": int(rng.integers(0, 128)),
    }
    h, w = (int(k) * 2 + int(e) for k, e in zip((kh, kw), rng.integers(1, 12, 2), strict=True))
    ic, oc = int(rng.integers(1, 40)), int(rng.integers(1, 50))
    zero = int(rng.integers(-128, 128))
    run(rng, (int(rng.integers(1, 3)), ic * groups, h, w), (oc * groups, ic, kh, kw), zero=zero, **attrs)


BLOCKS = [
    ((1, 64, 30, 29), (96, 64, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 96, 17, 18), (48, 96, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ((1, 128, 15, 9), (52, 128, 3, 3), {"pads": (0, 2, 1, 1), "strides": (1, 2)}),
    ((1, 128, 13, 13), (40, 128, 3, 3), {"pads": (1, 1, 1, 0), "strides": (3, 1)}),
    ((1, 64, 14, 14), (40, 64, 3, 3), {"pads": (3, 3, 3, 3), "dilation": (3, 3)}),
    ((1, 3, 70, 66), (64, 3, 7, 7), {"pads": (3, 3, 3, 3), "strides": (2, 2)}),
    ((2, 3, 64, 63), (48, 3, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ((1, 12, 40, 21), (24, 12, 5, 3), {"pads": (2, 1, 2, 1), "strides": (3, 1)}),
    ((1, 96, 12, 11), (64, 96, 1, 1), {"strides": (2, 2)}),
    ((1, 128, 12, 11), (128, 64, 3, 3), {"pads": (1, 1, 1, 1), "groups": 2}),
    ((1, 160, 21, 20), (80, 160, 1, 1), {}),
    ((1, 128, 14, 14), (96, 128, 1, 1), {}),
    ((1, 64, 3, 5), (200, 64, 1, 1), {}),  # weights so much larger than the input that threads share out columns
    ((1, 48, 3, 3), (130, 48, 3, 3), {"pads": (1, 1, 1, 1)}),
]


@pytest.mark.parametrize("xs, ws, attrs", BLOCKS)
def test_several_blocks(xs: tuple[int, ...], ws: tuple[int, ...], attrs: dict[str, Any]) -> None:
    """Enough rows for several blocks and many tiles in each, so that every tile follows another one."""
    rng = np.random.default_rng(5)
    x, w, bias = qtensor(rng, xs, zero=-7), qweights(rng, ws), rng.integers(-5000, 5000, ws[0]).astype(np.int32)
    shape = qconv2d.fn(x, w, bias, quant=Y, **attrs).shape
    r, r_low = qtensor(rng, shape, 0.3, -4), qtensor(rng, shape, 0.3, -128)
    low = Quant.per_tensor(0.4, -128)
    for residual, quant in ((None, Y), (r, Y), (None, None), (None, low), (r, low), (r_low, low)):
        check("qconv", qconv2d, x, w, bias, residual, threads=(1, 2, 3, 8), quant=quant, **attrs)


FEW_ROWS = [
    ((1, 512, 7, 7), (512, 512, 1, 1), {}),
    ((1, 1088, 5, 7), (256, 1088, 1, 1), {}),  # slices of 8 and 9 steps
    ((1, 1024, 6, 6), (576, 1024, 1, 1), {}),  # two groups of columns, each slice by slice
    ((1, 128, 8, 8), (256, 128, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 64, 15, 13), (512, 64, 3, 3), {"pads": (1, 0, 1, 2), "strides": (2, 2)}),
    ((2, 192, 6, 7), (320, 192, 3, 2), {"pads": (2, 1, 1, 0), "dilation": (2, 1), "strides": (1, 2)}),
]


@pytest.mark.parametrize("xs, ws, attrs", FEW_ROWS)
def test_few_rows_and_large_weights(xs: tuple[int, ...], ws: tuple[int, ...], attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(xs[1])
    x, w, bias = qtensor(rng, xs, zero=-7), qweights(rng, ws), rng.integers(-5000, 5000, ws[0]).astype(np.int32)
    shape = qconv2d.fn(x, w, bias, quant=Y, **attrs).shape
    assert 32 < shape[0] * shape[2] * shape[3] <= 64 and w.data.size >= 1 << 18
    r, r_low = qtensor(rng, shape, 0.3, -4), qtensor(rng, shape, 0.3, -128)
    low, wide = Quant.per_tensor(9.0, -128), Quant.per_tensor(1e-8, 127)
    best = (ISAS[-1],)
    for residual, quant in ((None, Y), (None, low), (r, low), (r_low, low), (r, wide), (None, wide), (None, None)):
        check("qconv", qconv2d, x, w, bias, residual, isas=best, threads=(1, 2, 3), quant=quant, **attrs)
    check("qconv", qconv2d, x, w, None, isas=best, quant=Y, lo=-50, hi=90, **attrs)
    op = layer(qconv2d, x, w, bias, r, quant=Y, **attrs)
    want = qconv2d.fn(x, w, bias, r, quant=Y, **attrs)
    check_guarded("qconv", op, {op.operand("x"): x.data, op.operand("residual"): r.data}, want, ISAS[-1])


@pytest.mark.parametrize("ic", [16, 32, 48, 80, 96, 160])
@pytest.mark.parametrize("oc", [8, 16, 24, 29])
def test_rows_read_in_place(ic: int, oc: int) -> None:
    """Whole vectors of depth: pointwise, strided, windows with and without padding; both kinds of zero point."""
    rng = np.random.default_rng(ic * 100 + oc)
    for zero in (-128, -7):
        y = Quant.per_tensor(1.5, zero)
        run(rng, (1, ic, 3, 7), (oc, ic, 1, 1), quant=y)
        run(rng, (2, ic, 5, 6), (oc, ic, 1, 1), quant=y, strides=(2, 2))
        run(rng, (1, ic, 4, 5), (oc, ic, 3, 3), quant=y)
        run(rng, (1, ic, 4, 5), (oc, ic, 3, 3), quant=y, pads=(1, 1, 1, 1), zero=-30)
        run(rng, (1, 2 * ic, 4, 3), (2 * oc, ic, 2, 3), quant=y, pads=(1, 0, 1, 2), groups=2, dilation=(1, 2))


@pytest.mark.parametrize("oc", [8, 16, 24, 33, 64, 112, 160, 180])
@pytest.mark.parametrize("zero", [-128, 3])
@pytest.mark.parametrize("zero_r", [-128, 9])
def test_residual_without_a_clamp(oc: int, zero: int, zero_r: int) -> None:
    rng = np.random.default_rng(oc)
    for rows in (1, 6, 11, 50):
        x, w = qtensor(rng, (1, 32, 1, rows), zero=-3), qweights(rng, (oc, 32, 1, 1))
        r = qtensor(rng, (1, oc, 1, rows), 0.7, zero=zero_r)
        check("qconv", qconv2d, x, w, None, r, quant=Quant.per_tensor(1.1, zero))
        check("qconv", qconv2d, x, w, None, r, quant=Quant.per_tensor(1e-6, zero))  # leaves int16


@pytest.mark.parametrize("oc", [5, 8, 16, 24, 33, 64])
@pytest.mark.parametrize("rows", [1, 2, 3, 15])
def test_residual(oc: int, rows: int) -> None:
    rng = np.random.default_rng(oc * 100 + rows)
    x, w = qtensor(rng, (1, 9, 1, rows), zero=-3), qweights(rng, (oc, 9, 1, 1))
    r = qtensor(rng, (1, oc, 1, rows), 0.7, zero=int(rng.integers(-128, 128)))
    bias = rng.integers(-5000, 5000, oc).astype(np.int32)
    check("qconv", qconv2d, x, w, bias, r, quant=Quant.per_tensor(0.9, 11), lo=-100, hi=90)
    check("qconv", qconv2d, x, w, None, r, quant=Quant.per_tensor(1e-7, 127))


@pytest.mark.parametrize("oc", [1, 7, 8, 15, 16, 17, 31, 32, 40])
def test_float_output(oc: int) -> None:
    run(np.random.default_rng(oc), (2, 11, 5, 4), (oc, 11, 3, 3), quant=None, threads=(1, 2))


@pytest.mark.parametrize("exponent", [-31, -12, 0, 12, 31])
@pytest.mark.parametrize("zero", [-128, 127])
def test_extreme_scales(exponent: int, zero: int) -> None:
    rng = np.random.default_rng(0)
    w = qweights(rng, (35, 20, 1, 1), 2.0**exponent)
    for s_x, s_y in ((2.0**-31, 2.0**31), (2.0**31, 2.0**-31), (1.0, 2.0**-31), (1.0, 2.0**31)):
        x, r = qtensor(rng, (1, 20, 3, 5), s_x, zero), qtensor(rng, (1, 35, 3, 5), 2.0**31, -zero - 1)
        for residual in (None, r):
            check("qconv", qconv2d, x, w, None, residual, quant=Quant.per_tensor(s_y, zero))


def test_sums_near_the_limits_of_int32() -> None:
    for sign in (1, -1):
        x = QArray(np.full((1, 64, 2, 3), -128, np.int8), Quant.per_tensor(0.01, 127))
        w = QArray(np.full((19, 64, 1, 1), 127 * sign, np.int8), Quant((0.01,) * 19, (0,) * 19, 0))
        reach = 64 * 127 * 255
        bias = np.full(19, -sign * (2**31 - 1 - reach), np.int32)
        for scale in (1.0, 1e5, 1.7e3):
            check("qconv", qconv2d, x, w, bias, quant=Quant.per_tensor(scale, 3))
        check("qconv", qconv2d, x, w, bias, quant=None)


@pytest.mark.parametrize("depth", [2, 3, 10, 16, 20, 28, 43])
def test_weights_of_minus_128(depth: int) -> None:
    """Two products of -128 and -128 leave int16: no kernel may add them there."""
    x = QArray(np.full((1, depth, 1, 9), -128, np.int8), Quant.per_tensor(0.01, 0))
    for oc in (3, 16, 37):
        w = QArray(np.full((oc, depth, 1, 1), -128, np.int8), Quant((0.01,) * oc, (0,) * oc, 0))
        for quant in (Quant.per_tensor(2.0, -128), None):
            check("qconv", qconv2d, x, w, np.arange(oc, dtype=np.int32), quant=quant)
    data = np.random.default_rng(depth).choice(np.array([-128, -127, 127], np.int8), (20, depth, 1, 1))
    check("qconv", qconv2d, x, QArray(data, Quant((0.01,) * 20, (0,) * 20, 0)), quant=None)


@pytest.mark.parametrize("depth", [64, 300])
@pytest.mark.parametrize("beyond", [-1, 0, 1 << 20])
def test_relu_of_sums_near_two_to_the_23(depth: int, beyond: int) -> None:
    """Kernels that read sums as floats may do so below 2^23 only: all sums, one just at the limit, far above it."""
    rng = np.random.default_rng(depth)
    x = qtensor(rng, (1, depth, 5, 9), zero=-128)
    x.data[:, :, 2] = 127
    data = rng.integers(-9, 128, (170, depth, 1, 1)).astype(np.int8)
    most = data.astype(np.int64).clip(0).sum(axis=(1, 2, 3)) * 255
    bias = ((1 << 23) - 1 - most + beyond).astype(np.int32)
    w = QArray(data, Quant(tuple(rng.uniform(0.6, 1.0, 170).tolist()), (0,) * 170, 0))
    check("qconv", qconv2d, x, w, bias, quant=Quant.per_tensor(0.03 * (1 << 15), -128))


@pytest.mark.parametrize("scale", [2.0, 3.0, 128.0, 1000.0])
@pytest.mark.parametrize("oc", [17, 64, 100])
def test_relu_at_zero_and_at_ties(scale: float, oc: int) -> None:
    """Every sum around 0 and around halves of the step, and the largest negative ones."""
    x = QArray(np.arange(-128, 128).astype(np.int8).reshape(1, 1, 1, 256), Quant.per_tensor(1.0))
    w = QArray(np.ones((oc, 1, 1, 1), np.int8), Quant((1.0,) * oc, (0,) * oc, 0))
    bias = np.arange(-(oc // 2), oc - oc // 2).astype(np.int32) * int(scale)
    bias[0], bias[-1] = -(1 << 23) + 129, -(1 << 22)
    check("qconv", qconv2d, x, w, bias, quant=Quant.per_tensor(scale, -128))
    check("qconv", qconv2d, x, w, bias, quant=Quant.per_tensor(scale, -128), hi=90)
    check("qconv", qconv2d, x, w, bias, quant=Quant.per_tensor(scale, -100), lo=-100)


@pytest.mark.parametrize("reach", [1, 40])
@pytest.mark.parametrize("zero", [-128, 4])
def test_channels_that_are_constant(reach: int, zero: int) -> None:
    """Huge biases, as dead channels have, with multipliers that give 0, 255 or anything between for all inputs."""
    rng = np.random.default_rng(reach)
    x = qtensor(rng, (1, 70, 4, 9), zero=zero)
    data = rng.integers(-reach, reach + 1, (80, 70, 1, 1)).astype(np.int8)
    bias = rng.choice([-(1 << 30), -(1 << 24), 1 << 24, 1 << 28, 1 << 30], 80).astype(np.int32)
    bias[::3] = rng.integers(-5000, 5000, 27)
    want = rng.choice([1e-3, 0.5, 7, 100, 254, 300, 9000], 80)  # of the output, where the bias is large
    scales = np.where(np.abs(bias) > 5000, want / np.abs(bias), 1e-3)
    w = QArray(data, Quant(tuple(scales.tolist()), (0,) * 80, 0))
    check("qconv", qconv2d, x, w, bias, quant=Quant.per_tensor(0.03, -128))


@pytest.mark.parametrize("seed", range(6))
def test_relu_layers(seed: int) -> None:
    """Any multipliers and biases, depths from one step to several and partial tiles of channels."""
    rng = np.random.default_rng(seed)
    for ic, oc in ((16, 96), (64, 256), (65, 130), (130, 70), (200, 40), (300, 192), (520, 112)):
        x, w = qtensor(rng, (1, ic, 3, 17), zero=int(rng.integers(-128, 0))), qweights(rng, (oc, ic, 1, 1))
        bias = rng.integers(-(1 << 17), 1 << 17, oc).astype(np.int32)
        quant = Quant.per_tensor(float(rng.uniform(0.01, 1.0)) * ic / 20, -128)
        check("qconv", qconv2d, x, w, bias, quant=quant, threads=(1, 2))
        r = qtensor(rng, (1, oc, 3, 17), float(rng.uniform(0.1, 2.0)), zero=int(rng.choice([-128, 0])))
        check("qconv", qconv2d, x, w, bias, r, quant=quant)


def test_ties_go_to_even() -> None:
    x = QArray(np.arange(-128, 128).astype(np.int8).reshape(1, 1, 1, 256), Quant.per_tensor(0.5))
    w = QArray(np.ones((1, 1, 1, 1), np.int8), Quant((1.0,), (0,), 0))
    check("qconv", qconv2d, x, w, quant=Quant.per_tensor(1.0, 1))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "xs, ws, attrs", [*SHAPES, *BLOCKS, ((1, 70, 3, 3), (37, 70, 1, 1), {}), ((1, 4, 1, 3), (4, 4, 1, 1), {})]
)
def test_stays_inside_its_buffers(isa: str, xs: tuple[int, ...], ws: tuple[int, ...], attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    x, w, bias = qtensor(rng, xs, zero=9), qweights(rng, ws), rng.integers(-99, 99, ws[0]).astype(np.int32)
    shape = qconv2d.fn(x, w, bias, quant=Y, **attrs).shape
    r = qtensor(rng, shape, 0.2, -4)
    op = layer(qconv2d, x, w, bias, r, quant=Y, **attrs)
    want = qconv2d.fn(x, w, bias, r, quant=Y, **attrs)
    check_guarded("qconv", op, {op.operand("x"): x.data, op.operand("residual"): r.data}, want, isa)


GOOD: dict[str, Any] = {
    "strides": [1, 1], "pads": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1,
    "zx": 0, "zy": 0, "zr": 0, "mr": 0.0, "lo": -128, "hi": 127,
}  # fmt: skip


@pytest.mark.parametrize(
    "change, message",
    [
        ({"strides": [0, 1]}, "strides"),
        ({"pads": [0, 0, 0]}, "pads"),
        ({"pads": [1, 0, 0, 0]}, "output size"),
        ({"groups": 0}, "groups"),
        ({"groups": 2}, "do not fit"),
        ({"zx": 200}, "zx"),
        ({"lo": 5, "hi": 4}, "lo is greater"),
        ({"mr": float("inf")}, "mr is out of range"),
    ],
)
def test_bad_steps_are_refused(change: dict[str, Any], message: str) -> None:
    x, w, m = np.zeros((1, 4, 4, 3), np.int8), np.zeros((2, 1, 1, 3), np.int8), np.ones(2, np.float32)
    out = [((1, 4, 4, 2), np.int8)]
    run_step("qconv", [x, w, None, m, None], out, GOOD, consts=[1, 3])
    with pytest.raises(ArtifactError, match=message):
        run_step("qconv", [x, w, None, m, None], out, GOOD | change, consts=[1, 3])


def test_bad_operands_are_refused() -> None:
    x, w, m = np.zeros((1, 4, 4, 3), np.int8), np.full((2, 1, 1, 3), 127, np.int8), np.ones(2, np.float32)
    out = [((1, 4, 4, 2), np.int8)]
    big = np.full(2, 2**31 - 1, np.int32)
    for inputs, consts, message in (
        ([x, w, big, m, None], [1, 2, 3], "may exceed int32"),
        ([x, w, None, np.full(2, np.nan, np.float32), None], [1, 3], "multiplier"),
        ([x, w, None, m, None], [3], "must be a constant"),
        ([x, w, None, m[:1], None], [1, 3], "channels"),
        ([x, w, None, m, x], [1, 3], "differ in shape"),
    ):
        with pytest.raises(ArtifactError, match=message):
            run_step("qconv", inputs, out, GOOD, consts=consts)
