"""Every tail of the register tiles: all row and column counts up to two tiles and one, depths 1 to 40 and 60 to 70.

Each case takes the next depth, epilogue and zero point in turn, so that all of them meet all kinds of tails.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from irkit.ir.types import QArray, Quant
from irkit.ops import qconv2d, qlinear
from tests.kernels.f32 import ACTS
from tests.kernels.quantized import check, qtensor, qweights
from tests.kernels.test_conv import conv_case
from tests.kernels.test_linear import linear_case
from tests.kernels.util import ISAS

ROWS = range(1, 26)  # the tallest tile for Arm has 12 rows
COLUMNS = range(1, 34)
DEPTHS = [*range(1, 41), *range(60, 71)]
LEVELS = (ISAS[0], ISAS[-1])  # these many shapes once more on each level in between would teach little
NARROW, WIDE = Quant.per_tensor(0.4, -6), Quant.per_tensor(1e-6, 127)


def tails(columns: int, seed: int) -> Iterator[tuple[np.random.Generator, int, int, int]]:
    """A generator, the number of rows, a depth and the case's number, for each row of the sweep."""
    rng = np.random.default_rng([columns, seed])
    for rows in ROWS:
        i = columns * len(ROWS) + rows
        yield rng, rows, DEPTHS[(i + rows // 2) % len(DEPTHS)], i


def quantized(rng: np.random.Generator, i: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """Output quantization, limits and residual of case ``i``, whose result has this shape."""
    how: dict[str, Any] = {"quant": (NARROW, NARROW, WIDE, None)[i % 4]}
    if i % 3 == 0:
        how |= {"lo": int(rng.integers(-128, 0)), "hi": int(rng.integers(0, 128))}
    if i % 5 < 2 and how["quant"] is not None:
        how["residual"] = qtensor(rng, shape, 0.7, (-128, 3, 127)[i % 3])
    return how


def bias_of(rng: np.random.Generator, n: int, i: int) -> Any:
    return None if i % 7 == 0 else rng.integers(-5000, 5000, n).astype(np.int32)


@pytest.mark.parametrize("n", COLUMNS)
def test_qlinear(n: int) -> None:
    for rng, rows, k, i in tails(n, 0):
        x, w = qtensor(rng, (rows, k), zero=(0, -128, 127, 5)[i % 4]), qweights(rng, (n, k))
        check("qlinear", qlinear, x, w, bias_of(rng, n, i), isas=LEVELS, **quantized(rng, i, (rows, n)))


@pytest.mark.parametrize("n", COLUMNS)
def test_qconv(n: int) -> None:
    """Kernels of several taps, whose rows are gathered: 1x1 ones run as matrix products."""
    for rng, rows, k, i in tails(n, 1):
        kh, kw = ((3, 3), (1, 3), (2, 1), (3, 2))[i % 4]
        stride = 1 + i % 3
        x = qtensor(rng, (1, 1 + k // 3, (kh - 1) + 1, (rows - 1) * stride + kw), zero=(0, -128, 127, 5)[i % 4])
        w = qweights(rng, (n, x.shape[1], kh, kw))
        attrs = {"strides": (1, stride)}
        if i % 2:  # one more row and column of padding before, as many fewer pixels after
            attrs["pads"] = (1, 1, 0, 0)
        shape = qconv2d.fn(x, w, quant=NARROW, **attrs).shape
        check("qconv", qconv2d, x, w, bias_of(rng, n, i), isas=LEVELS, **attrs, **quantized(rng, i, shape))


@pytest.mark.parametrize("c", range(2, 34))
def test_qdwconv(c: int) -> None:
    for rng, rows, _, i in tails(c, 2):
        kh, kw = ((3, 3), (5, 5), (3, 3), (2, 7))[i % 4]
        x = qtensor(rng, (1, c, kh + i % 3, rows + kw - 1), zero=(0, -128, 127, 5)[i % 4])
        w = qweights(rng, (c, 1, kh, kw))
        attrs = {"groups": c, "strides": (1 + i % 2, 1 + i % 3), "dilation": (1, 1 + (i % 9 == 0) * (rows > kw))}
        if i % 2:
            attrs["pads"] = (i % 3, 1, 0, 2)
        shape = qconv2d.fn(x, w, quant=NARROW, **attrs).shape
        check("qdwconv", qconv2d, x, w, bias_of(rng, c, i), isas=LEVELS, **attrs, **quantized(rng, i, shape))


def floating(i: int) -> dict[str, Any]:
    """Epilogue of case ``i``."""
    return {"bias": i % 7 > 0, "residual": i % 5 < 2, "act": list(ACTS)[i % len(ACTS)], "isas": LEVELS}


@pytest.mark.parametrize("n", COLUMNS)
def test_linear(n: int) -> None:
    for rng, rows, k, i in tails(n, 3):
        linear_case(rng, (rows,), k, n, **floating(i))


@pytest.mark.parametrize("n", COLUMNS)
def test_conv(n: int) -> None:
    for rng, rows, k, i in tails(n, 4):
        kh, kw = ((3, 3), (1, 3), (2, 1), (3, 2))[i % 4]
        stride = 1 + i % 3
        x = (1, kh, (rows - 1) * stride + kw, 1 + k // 3)
        pads = (1, 1, 0, 0) if i % 2 else (0, 0, 0, 0)
        conv_case(rng, x, n, (kh, kw), strides=(1, stride), pads=pads, **floating(i))


@pytest.mark.parametrize("c", COLUMNS)
def test_dwconv(c: int) -> None:
    for rng, rows, _, i in itertools.islice(tails(c, 5), 0, None, 2):
        kh, kw = ((3, 3), (5, 5), (3, 3), (2, 7))[i % 4]
        pads = (i % 3, 1, 0, 2) if i % 2 else (0, 0, 0, 0)
        conv_case(
            rng, (1, kh + i % 3, rows + kw - 1, c), c, (kh, kw), strides=(1 + i % 2, 1 + i % 3), pads=pads, groups=c,
            family="dwconv", **floating(i),
        )  # fmt: skip


def extremes(shape: tuple[int, ...], value: int, axis: int | None) -> Any:
    """One value everywhere; or its sign changes along an axis."""
    data = np.full(shape, value, np.int8)
    if axis is not None:
        np.moveaxis(data, axis, 0)[1::2] = 127 if value < 0 else -127
    return data


@pytest.mark.parametrize("x_value", [-128, 127])
@pytest.mark.parametrize("w_value", [-127, 127])
@pytest.mark.parametrize("alternate", [False, True])
def test_largest_products(x_value: int, w_value: int, alternate: bool) -> None:
    """Sums of products at the ends of int8, which do not fit 16 bits for long; the float results show them whole."""
    for zero, quant in itertools.product((-128, 127), (None, NARROW)):
        for k in (*range(1, 20), 31, 32, 33, 64, 65, 100):
            x = QArray(extremes((5, k), x_value, 1 if alternate else None), Quant.per_tensor(1.0, zero))
            w = QArray(extremes((17, k), w_value, 0 if alternate else None), Quant((1.0,) * 17, (0,) * 17, 0))
            check("qlinear", qlinear, x, w, isas=LEVELS, quant=quant)
        for kernel, stride, c in itertools.product(
            ((1, 2), (2, 2), (1, 3), (3, 3), (4, 4), (5, 5), (2, 7), (9, 1)), (1, 2), (8, 19)
        ):
            image = (1, c, kernel[0] + 3, kernel[1] + 6)
            x = QArray(extremes(image, x_value, 3 if alternate else None), Quant.per_tensor(1.0, zero))
            taps = extremes((c, 1, *kernel), w_value, 2 if alternate else None)
            w = QArray(taps, Quant((1.0,) * c, (0,) * c, 0))
            attrs = {"groups": c, "strides": (stride, stride), "pads": (kernel[0] // 2, kernel[1] // 2, 0, 1)}
            check("qdwconv", qconv2d, x, w, isas=LEVELS, quant=quant, **attrs)
            if c == 8:
                whole = np.repeat(taps, c, 1)
                w = QArray(whole, Quant((1.0,) * c, (0,) * c, 0))
                check("qconv", qconv2d, x, w, isas=LEVELS, quant=quant, **attrs | {"groups": 1})
