"""qdwconv: every ISA level against the reference of qconv2d, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irkit.errors import ArtifactError
from irkit.ir.types import QArray, Quant
from irkit.ops import qconv2d
from tests.kernels.quantized import check, check_guarded, layer, qtensor, qweights
from tests.kernels.util import ISAS, run_step

Y = Quant.per_tensor(0.2, -6)
SAME3 = {"pads": (1, 1, 1, 1)}


def run(rng: np.random.Generator, xs: tuple[int, ...], kernel: tuple[int, int], **attrs: Any) -> None:
    threads = attrs.pop("threads", (1,))
    attrs.setdefault("quant", Y)
    c = xs[1]
    x, w = qtensor(rng, xs, zero=attrs.pop("zero", 5)), qweights(rng, (c, 1, *kernel))
    bias = rng.integers(-5000, 5000, c).astype(np.int32)
    check("qdwconv", qconv2d, x, w, bias, threads=threads, groups=c, **attrs)


@pytest.mark.parametrize("c", [*range(2, 82), 95, 96, 97, 111, 112, 113, 127, 128, 129, 144, 240])
def test_channels(c: int) -> None:
    rng = np.random.default_rng(c)
    run(rng, (1, c, 5, 6), (3, 3), **SAME3)
    run(rng, (1, c, 6, 5), (3, 3), strides=(2, 2), **SAME3)


@pytest.mark.parametrize("width", range(1, 24))
@pytest.mark.parametrize("c", [8, 16, 32, 64])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_widths(width: int, c: int, stride: int) -> None:
    rng = np.random.default_rng(width)
    run(rng, (1, c, 4, width), (3, 3), strides=(1, stride), **SAME3)
    run(rng, (1, c, 3, width + 4), (1, 5), strides=(1, stride))


@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("kernel", range(1, 10))
def test_heights(height: int, kernel: int) -> None:
    rng = np.random.default_rng(height)
    half = kernel // 2
    for stride in (1, 2, 3):
        run(rng, (1, 20, height, 3), (kernel, 2), strides=(stride, 1), pads=(half, 0, kernel - 1 - half, 1))


SHAPES = [
    ((2, 24, 14, 15), (3, 3), {"strides": (2, 2), "pads": (0, 0, 1, 1)}),
    ((1, 80, 9, 10), (5, 5), {"strides": (2, 2), "pads": (2, 2, 2, 2)}),
    ((1, 80, 9, 10), (5, 5), {"pads": (2, 2, 2, 2)}),
    ((1, 17, 9, 8), (7, 7), {"pads": (3, 3, 3, 3)}),
    ((1, 48, 12, 11), (3, 3), {"dilation": (2, 2), "pads": (2, 2, 2, 2)}),
    ((1, 48, 12, 11), (3, 4), {"dilation": (3, 2), "strides": (2, 3), "pads": (1, 3, 2, 0)}),
    ((1, 48, 12, 31), (3, 2), {"dilation": (1, 5), "strides": (1, 2)}),
    ((1, 40, 5, 5), (1, 1), {"strides": (2, 3)}),
    ((3, 33, 2, 3), (5, 5), {"pads": (4, 4, 4, 4)}),
    ((1, 66, 3, 200), (3, 3), SAME3),
    ((1, 3, 200, 3), (11, 1), {"pads": (5, 0, 5, 0)}),
    ((2, 100, 1, 50), (1, 9), {"pads": (0, 8, 0, 0)}),
    ((2, 8, 7, 45), (3, 3), SAME3),
    ((2, 8, 9, 46), (3, 3), {"strides": (2, 2), **SAME3}),
    ((1, 8, 6, 23), (2, 6), {"dilation": (1, 3), "strides": (1, 2), "pads": (0, 9, 1, 12)}),
    ((1, 16, 6, 23), (5, 4), {"strides": (1, 2), "pads": (2, 5, 2, 5)}),
    ((1, 32, 6, 23), (3, 5), {"strides": (2, 1), "pads": (1, 2, 1, 2)}),
]


@pytest.mark.parametrize("xs, kernel, attrs", SHAPES)
@pytest.mark.parametrize("zero", [-128, 0, 127])
def test_geometry(xs: tuple[int, ...], kernel: tuple[int, int], attrs: dict[str, Any], zero: int) -> None:
    rng = np.random.default_rng(1)
    run(rng, xs, kernel, zero=zero, threads=(1, 2), **attrs)
    run(rng, xs, kernel, zero=zero, quant=None, **attrs)
    run(rng, xs, kernel, zero=zero, lo=-20, hi=50, **attrs)


@pytest.mark.parametrize("channels", [520, 1152])
def test_threads_share_channels_of_small_images(channels: int) -> None:
    """Weights are larger than the image: threads go through all rows of their channels."""
    rng = np.random.default_rng(channels)
    run(rng, (3, channels, 7, 7), (5, 5), zero=3, threads=(1, 2, 3), pads=(2, 2, 2, 2))


@pytest.mark.parametrize("seed", range(60))
def test_random_layers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kh, kw = (int(k) for k in rng.integers(1, 8, 2))
    attrs: dict[str, Any] = {
        "strides": tuple(rng.integers(1, 4, 2).tolist()),
        "pads": tuple(rng.integers(0, 5, 4).tolist()),
        "dilation": tuple(rng.integers(1, 4, 2).tolist()),
        "lo": int(rng.integers(-128, 0)),
        "hi": int(rng.integers(0, 128)),
        "zero": int(rng.integers(-128, 128)),
    }
    h, w = (int(k) * 3 + int(e) for k, e in zip((kh, kw), rng.integers(1, 30, 2), strict=True))
    run(rng, (int(rng.integers(1, 3)), int(rng.integers(2, 150)), h, w), (kh, kw), **attrs)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", range(1, 11))
@pytest.mark.parametrize("zero", [-128, 31])
def test_square_kernels(kernel: int, stride: int, size: int, zero: int) -> None:
    """The shapes of nearly all depthwise layers: small images, all paddings, even and odd zero points of the output."""
    rng = np.random.default_rng(size)
    y = Quant.per_tensor(0.2, zero)
    for pads in [(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1), (1, 0, 0, 1), (0, 1, 2, 2), (2, 2, 2, 3), (3, 3, 3, 0)]:
        for c in (8, 16, 21, 40):
            h, w = int(rng.integers(1, 9)), size
            if h + pads[0] + pads[2] >= kernel and w + pads[1] + pads[3] >= kernel:
                attrs: dict[str, Any] = {"strides": (stride, stride), "pads": pads, "zero": zero, "quant": y}
                run(rng, (2, c, h, w), (kernel, kernel), threads=(1, 2) if c == 40 else (1,), **attrs)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("most", [63, 64, 85, 86, 127])
@pytest.mark.parametrize("sign", [1, -1])
def test_weights_whose_products_barely_fit_int16(kernel: int, stride: int, most: int, sign: int) -> None:
    """Four products of -128 with weights of 63, or three with 85, fit the sum in int16; of 64 or 86 they don't."""
    rng = np.random.default_rng(most)
    data = np.full((24, 1, kernel, kernel), sign * most, np.int8)
    data[8:16] = rng.integers(-most, most + 1, (8, 1, kernel, kernel))
    w = QArray(data, Quant((0.01,) * 24, (0,) * 24, 0))
    pads = (kernel // 2,) * 4
    for zero in (-128, 127):
        x = QArray(np.full((1, 24, 7, 8), -128, np.int8), Quant.per_tensor(0.01, zero))
        y = Quant.per_tensor(0.3, 0)
        check("qdwconv", qconv2d, x, w, None, quant=y, groups=24, strides=(stride, stride), pads=pads)


@pytest.mark.parametrize("bias, scale", [(4_000_000, 60), (4_100_000, 60), (6_000_000, 80), (0, 0.0046), (0, 0.0044)])
def test_sums_near_the_limits_of_the_short_epilogue(bias: int, scale: float) -> None:
    """Sums below 2^22, and below 2^15 once scaled, have an epilogue of their own on arm64."""
    for sign in (1, -1):
        w = QArray(np.full((16, 1, 3, 3), -127 * sign, np.int8), Quant((0.01,) * 16, (0,) * 16, 0))
        x = QArray(np.full((1, 16, 6, 7), -128, np.int8), Quant.per_tensor(0.1, 0))
        for zero in (-128, 127):
            y, biases = Quant.per_tensor(scale, zero), np.full(16, bias * sign, np.int32)
            check("qdwconv", qconv2d, x, w, biases, groups=16, quant=y, **SAME3)


@pytest.mark.parametrize("c", [5, 8, 16, 20, 32, 50, 64, 112])
def test_residual(c: int) -> None:
    rng = np.random.default_rng(c)
    x, w = qtensor(rng, (1, c, 5, 7), zero=-3), qweights(rng, (c, 1, 3, 3))
    r = qtensor(rng, (1, c, 5, 7), 0.7, zero=int(rng.integers(-128, 128)))
    for y in (Quant.per_tensor(0.9, 11), Quant.per_tensor(1e-7, 127)):
        check("qdwconv", qconv2d, x, w, None, r, groups=c, quant=y, lo=-100, **SAME3)


@pytest.mark.parametrize("exponent", [-31, 0, 31])
@pytest.mark.parametrize("zero", [-128, 127])
def test_extreme_scales(exponent: int, zero: int) -> None:
    rng = np.random.default_rng(0)
    w = qweights(rng, (35, 1, 3, 3), 2.0**exponent)
    for s_x, s_y in ((2.0**-31, 2.0**31), (2.0**31, 2.0**-31), (1.0, 2.0**-31), (1.0, 2.0**31)):
        x = qtensor(rng, (1, 35, 4, 5), s_x, zero)
        check("qdwconv", qconv2d, x, w, groups=35, quant=Quant.per_tensor(s_y, zero), **SAME3)


def test_sums_near_the_limits_of_int32() -> None:
    for sign in (1, -1):
        x = QArray(np.full((1, 19, 4, 5), -128, np.int8), Quant.per_tensor(0.01, 127))
        w = QArray(np.full((19, 1, 3, 3), 127 * sign, np.int8), Quant((0.01,) * 19, (0,) * 19, 0))
        bias = np.full(19, -sign * (2**31 - 1 - 9 * 127 * 255), np.int32)
        for scale in (1.0, 1e5, 1.7e3):
            check("qdwconv", qconv2d, x, w, bias, groups=19, quant=Quant.per_tensor(scale, 3), **SAME3)


@pytest.mark.parametrize("beyond", [-1, 0, 1 << 20])
def test_relu_of_sums_near_two_to_the_23(beyond: int) -> None:
    """Kernels that read sums as floats may do so below 2^23 only: all sums, one just at the limit, far above it."""
    rng = np.random.default_rng(3)
    x = qtensor(rng, (1, 100, 7, 9), zero=-128)
    x.data[:, :, 2:5, 3:] = 127
    data = rng.integers(-9, 128, (100, 1, 3, 3)).astype(np.int8)
    most = data.astype(np.int64).clip(0).sum(axis=(1, 2, 3)) * 255
    bias = ((1 << 23) - 1 - most + beyond).astype(np.int32)
    w = QArray(data, Quant(tuple(rng.uniform(0.6, 1.0, 100).tolist()), (0,) * 100, 0))
    check("qdwconv", qconv2d, x, w, bias, groups=100, quant=Quant.per_tensor(0.03 * (1 << 15), -128))


@pytest.mark.parametrize("scale", [2.0, 3.0, 128.0, 1000.0])
def test_relu_at_zero_and_at_ties(scale: float) -> None:
    """Every sum around 0 and around halves of the step, and the largest negative ones."""
    x = QArray(np.tile(np.arange(-128, 128).astype(np.int8), (70, 1)).reshape(1, 70, 1, 256), Quant.per_tensor(1.0))
    w = QArray(np.ones((70, 1, 1, 1), np.int8), Quant((1.0,) * 70, (0,) * 70, 0))
    bias = np.arange(-35, 35).astype(np.int32) * int(scale)
    bias[0], bias[-1] = -(1 << 23) + 129, -(1 << 22)
    check("qdwconv", qconv2d, x, w, bias, groups=70, quant=Quant.per_tensor(scale, -128))
    check("qdwconv", qconv2d, x, w, bias, groups=70, quant=Quant.per_tensor(scale, -128), hi=90)
    check("qdwconv", qconv2d, x, w, bias, groups=70, quant=Quant.per_tensor(scale, -100), lo=-100)


@pytest.mark.parametrize("seed", range(6))
def test_relu_layers(seed: int) -> None:
    """Any multipliers and biases, dead channels among them, with and without a residual."""
    rng = np.random.default_rng(seed)
    for c, kernel, stride in ((16, 3, 1), (32, 3, 2), (96, 5, 1), (144, 3, 1), (50, 7, 2)):
        x, w = qtensor(rng, (1, c, 11, 13), zero=int(rng.integers(-128, 0))), qweights(rng, (c, 1, kernel, kernel))
        bias = rng.integers(-(1 << 17), 1 << 17, c).astype(np.int32)
        bias[::7] = rng.choice([-(1 << 30), 1 << 26, 1 << 29], len(bias[::7]))
        attrs = {"groups": c, "strides": (stride, stride), "pads": (kernel // 2,) * 4}
        quant = Quant.per_tensor(float(rng.uniform(0.01, 1.0)), -128)
        check("qdwconv", qconv2d, x, w, bias, quant=quant, **attrs)
        r = qtensor(rng, qconv2d.fn(x, w, bias, quant=quant, **attrs).shape, 0.4, -128)
        check("qdwconv", qconv2d, x, w, bias, r, quant=quant, **attrs)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("xs, kernel, attrs", [*SHAPES, ((1, 16, 3, 3), (3, 3), {}), ((1, 7, 4, 9), (3, 3), SAME3)])
def test_stays_inside_its_buffers(
    isa: str, xs: tuple[int, ...], kernel: tuple[int, int], attrs: dict[str, Any]
) -> None:
    rng = np.random.default_rng(2)
    c = xs[1]
    x, w, bias = qtensor(rng, xs, zero=9), qweights(rng, (c, 1, *kernel)), rng.integers(-99, 99, c).astype(np.int32)
    r = qtensor(rng, qconv2d.fn(x, w, bias, quant=Y, groups=c, **attrs).shape, 0.2, -4)
    op = layer(qconv2d, x, w, bias, r, quant=Y, groups=c, **attrs)
    want = qconv2d.fn(x, w, bias, r, quant=Y, groups=c, **attrs)
    check_guarded("qdwconv", op, {op.operand("x"): x.data, op.operand("residual"): r.data}, want, isa)


def test_what_is_not_depthwise_is_refused() -> None:
    attrs = {
        "strides": [1, 1], "pads": [0, 0, 0, 0], "dilation": [1, 1], "groups": 2,
        "zx": 0, "zy": 0, "zr": 0, "mr": 0.0, "lo": -128, "hi": 127,
    }  # fmt: skip
    x, m = np.zeros((1, 4, 4, 2), np.int8), np.ones(4, np.float32)
    with pytest.raises(ArtifactError, match="not depthwise"):
        w = np.zeros((4, 1, 1, 1), np.int8)
        run_step("qdwconv", [x, w, None, m, None], [((1, 4, 4, 4), np.int8)], attrs, consts=[1, 3])
