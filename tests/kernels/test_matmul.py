"""Batched matrix products on every ISA level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.types import Array, TensorType
from irkit.ops import matmul
from tests.kernels.util import ISAS, graph_of, guarded, run_lowered, run_step, same_bits

EPS = 2.0**-24


def check(got: Array, a: Array, b: Array) -> None:
    """k rounded steps: within k eps of the product of magnitudes (Higham 2002, (3.13))."""
    want = np.matmul(a.astype(np.float64), b.astype(np.float64))
    size = np.matmul(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))
    assert got.shape == want.shape
    assert np.all(np.abs(got - want) <= a.shape[-1] * EPS * size * 1.01 + 1e-40)


SHAPES = [
    ((1, 1), (1, 1)),
    ((7, 5), (5, 9)),
    ((3, 4, 197, 64), (3, 4, 64, 197)),
    ((2, 1, 13, 33), (3, 33, 70)),
    ((1, 300), (300, 129)),
    ((65, 17), (17, 64)),
    ((12, 64), (64, 64)),
    ((13, 64), (64, 64)),
    ((5,), (5, 4)),
    ((2, 3, 5), (5,)),
    ((6,), (6,)),
    ((2, 1, 3, 1, 2, 1, 4, 5), (2, 1, 3, 1, 2, 5, 3)),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_against_reference(a: tuple[int, ...], b: tuple[int, ...], isa: str) -> None:
    rng = np.random.default_rng(0)
    x, y = np.asarray(rng.standard_normal(a, np.float32)), np.asarray(rng.standard_normal(b, np.float32))
    g = graph_of(matmul, [TensorType(a), TensorType(b)])
    step = lower(g.ops[0])
    assert step is not None
    arrays = dict(zip(g.inputs, (x, y), strict=True))
    (got,) = run_lowered(step, arrays, isa=isa)
    check(got, x, y)
    (scalar,) = run_lowered(step, arrays, isa="scalar", threads=2)
    assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("oa", [None, (0, 1, 3, 2), (0, 2, 1, 3)])
@pytest.mark.parametrize("ob", [None, (0, 1, 3, 2), (0, 2, 3, 1)])
def test_storage_orders(oa: tuple[int, ...] | None, ob: tuple[int, ...] | None, isa: str) -> None:
    """The transposed and head-split operands of attention, without copies."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 50, 32), np.float32), rng.standard_normal((2, 3, 32, 70), np.float32)
    g = graph_of(matmul, [TensorType(x.shape).with_order(oa), TensorType(y.shape).with_order(ob)])
    step = lower(g.ops[0])
    assert step is not None
    (got,) = run_lowered(step, dict(zip(g.inputs, (x, y), strict=True)), isa=isa)
    check(got, x, y)


@pytest.mark.parametrize("isa", ISAS)
def test_one_chain_per_element(isa: str) -> None:
    """Each element is acc = fma(a, b, acc) with k rising: products cancel exactly only in that order."""
    a = np.float32([[1.0, 3e7, -3e7, 1.0 + 2**-23, -1.0]])
    b = np.float32([[2**-24], [1.0], [1.0], [1.0 + 2**-23], [1.0]])
    acc = 0.0
    for p, q in zip(a[0].astype(np.float64), b[:, 0].astype(np.float64), strict=True):
        acc = float(np.float32(acc + p * q))  # exact products of 24-bit numbers; sums here fit float64 too
    (got,) = run_step(
        "matmul",
        [a, np.repeat(b, 70, 1)],
        [((1, 70), np.float32)],
        {"m": 1, "n": 70, "k": 5, "batch": [], "a_strides": [5, 1], "b_strides": [70, 1]},
        isa=isa,
    )
    assert np.all(got == np.float32(acc))


@pytest.mark.parametrize("isa", ISAS)
def test_special_values(isa: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 20), np.float32), rng.standard_normal((20, 67), np.float32)
    x[0, 3], x[1, 4], y[5, 66], y[6, 0] = np.nan, np.inf, -np.inf, 3e38
    x[2, 6], x[3] = 3e38, 1e-41
    g = graph_of(matmul, [TensorType(x.shape), TensorType(y.shape)])
    step = lower(g.ops[0])
    assert step is not None
    (got,) = run_lowered(step, dict(zip(g.inputs, (x, y), strict=True)), isa=isa)
    with np.errstate(all="ignore"):
        want = np.matmul(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    assert np.array_equal(np.isnan(got), np.isnan(want)) and np.array_equal(np.isinf(got), np.isinf(want))
    (scalar,) = run_lowered(step, dict(zip(g.inputs, (x, y), strict=True)), isa="scalar")
    assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 3, 5), (7, 2, 64), (13, 4, 65), (2, 1, 1)])
def test_stays_inside(m: int, k: int, n: int, isa: str) -> None:
    rng = np.random.default_rng(0)
    x, y = guarded(rng.standard_normal((m, k), np.float32)), guarded(rng.standard_normal((k, n), np.float32))
    for b_strides, b in (([n, 1], y), ([1, k], guarded(np.ascontiguousarray(y.T)))):
        attrs = {"m": m, "n": n, "k": k, "batch": [], "a_strides": [k, 1], "b_strides": b_strides}
        (got,) = run_step("matmul", [x, b], [((m, n), np.float32)], attrs, isa=isa)
        check(got, x, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 3}, "do not give the output's 8 elements"),
        ({"a_strides": [6, 1]}, "strides of input 0 reach element 10 of 10"),
        ({"b_strides": [4, 2]}, "strides of input 1 reach"),
        ({"b_strides": [4]}, "'b_strides' is not a list of 2 integers"),
        ({"k": 2**31 - 1}, "reach element"),
        ({"batch": [2**31 - 1] * 6, "a_strides": [0] * 8, "b_strides": [0] * 8}, "do not give the output"),
    ],
)
def test_bad_steps_are_rejected(change: dict[str, Any], message: str) -> None:
    a, b = np.zeros((2, 5), np.float32), np.zeros((5, 4), np.float32)
    attrs = {"m": 2, "n": 4, "k": 5, "batch": [], "a_strides": [5, 1], "b_strides": [4, 1]} | change
    with pytest.raises(ArtifactError, match=message):
        run_step("matmul", [a, b], [((2, 4), np.float32)], attrs)
