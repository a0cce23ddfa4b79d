"""qlinear: every ISA level against the reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from irkit.errors import ArtifactError
from irkit.ir.types import Quant
from irkit.ops import qlinear
from tests.kernels.quantized import check, check_guarded, layer, qtensor, qweights
from tests.kernels.util import ISAS, run_step

Y = Quant.per_tensor(0.4, -6)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 13, 14, 15, 27, 28, 29, 70])
@pytest.mark.parametrize("k, out", [(1, 1), (3, 17), (40, 33), (129, 10), (640, 128)])
def test_shapes(rows: int, k: int, out: int) -> None:
    rng = np.random.default_rng(rows * 1000 + k)
    x, w = qtensor(rng, (rows, k), zero=-7), qweights(rng, (out, k))
    bias = rng.integers(-5000, 5000, out).astype(np.int32)
    check("qlinear", qlinear, x, w, bias, quant=Y, threads=(1, 2))
    check("qlinear", qlinear, x, w, bias, qtensor(rng, (rows, out), 0.2, 4), quant=Y, lo=-6)
    check("qlinear", qlinear, x, w, None, quant=None)


@pytest.mark.parametrize("k", [1, 7, 8, 12, 15, 16, 24, 29, 32, 48, 60, 100, 113])
def test_one_row_of_whole_tiles(k: int) -> None:
    """Some kernels do it by a shorter way: every rest of the depth, every epilogue, shares of threads."""
    rng = np.random.default_rng(k)
    for out in (16, 48, 320):
        x, w = qtensor(rng, (1, k), zero=-7), qweights(rng, (out, k))
        bias = rng.integers(-5000, 5000, out).astype(np.int32)
        check("qlinear", qlinear, x, w, bias, quant=Y, threads=(1, 2))
        check("qlinear", qlinear, x, w, bias, quant=Quant.per_tensor(0.003, 5), lo=-100, hi=90)
        check("qlinear", qlinear, x, w, bias, quant=None, threads=(1, 2))


@pytest.mark.parametrize("shape", [(16,), (2, 3, 16), (2, 1, 3, 16), (1, 2, 1, 2, 16)])
def test_ranks(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    check("qlinear", qlinear, qtensor(rng, shape, zero=3), qweights(rng, (5, 16)), quant=Y)


@pytest.mark.parametrize("k", [511, 512, 513, 1024, 2048, 4096])
def test_long_rows(k: int) -> None:
    rng = np.random.default_rng(k)
    check("qlinear", qlinear, qtensor(rng, (16, k), zero=1), qweights(rng, (40, k)), quant=Quant.per_tensor(9.0))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows, k, out", [(1, 5, 3), (1, 37, 32), (1, 64, 32), (3, 70, 35), (15, 16, 16)])
def test_stays_inside_its_buffers(isa: str, rows: int, k: int, out: int) -> None:
    rng = np.random.default_rng(2)
    x, w, r = qtensor(rng, (rows, k), zero=9), qweights(rng, (out, k)), qtensor(rng, (rows, out))
    op = layer(qlinear, x, w, None, r, quant=Y)
    arrays = {op.operand("x"): x.data, op.operand("residual"): r.data}
    check_guarded("qlinear", op, arrays, qlinear.fn(x, w, None, r, quant=Y), isa)
    op = layer(qlinear, x, w, None, None, quant=Y)
    check_guarded("qlinear", op, {op.operand("x"): x.data}, qlinear.fn(x, w, None, None, quant=Y), isa)


def test_shapes_that_do_not_fit_are_refused() -> None:
    attrs = {"zx": 0, "zy": 0, "zr": 0, "mr": 0.0, "lo": -128, "hi": 127}
    x, w, m = np.zeros((2, 3), np.int8), np.zeros((4, 3), np.int8), np.ones(4, np.float32)
    run_step("qlinear", [x, w, None, m, None], [((2, 4), np.int8)], attrs, consts=[1, 3])
    for xs, ys in (((2, 4), (2, 4)), ((2, 3), (2, 5)), ((2, 3), (3, 4))):
        with pytest.raises(ArtifactError, match="do not fit"):
            run_step("qlinear", [np.zeros(xs, np.int8), w, None, m, None], [(ys, np.int8)], attrs, consts=[1, 3])
