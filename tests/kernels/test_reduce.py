"""Reductions on every ISA level."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.types import Array, DType, TensorType
from irkit.ops import reduce_max, reduce_mean, reduce_min, reduce_sum
from tests.kernels.util import ISAS, graph_of, guarded, run_lowered, run_step, same_bits

EPS = 2.0**-24
OPS = [reduce_mean, reduce_sum, reduce_max, reduce_min]


def check(got: Array, x: Array, opdef: Any, axes: tuple[int, ...], keepdims: bool = False) -> None:
    """Extremes are exact; a sum of n terms in any fixed order is within n eps of the sum of magnitudes (Higham 2002,
    ch. 4), and ours, in chunks and lanes, well within that."""
    with np.errstate(all="ignore"):
        want = opdef.fn(x.astype(np.float64) if x.dtype.kind == "f" else x, axes=axes, keepdims=keepdims)
    if x.dtype.kind != "f" or opdef in (reduce_max, reduce_min):
        assert np.array_equal(got, want.astype(x.dtype), equal_nan=x.dtype.kind == "f")
        return
    n = math.prod(x.shape[a] for a in axes)
    steps = min(n, 64 + n // 64 + 8)
    size = np.abs(x.astype(np.float64)).sum(axes, keepdims=keepdims) / (n if opdef is reduce_mean else 1)
    assert np.all(np.abs(got - want) <= (steps + 2) * EPS * size + 2.0**-149)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("order", [None, (0, 2, 3, 1), (3, 0, 1, 2)])
@pytest.mark.parametrize("opdef", OPS, ids=lambda d: d.name)
def test_every_set_of_axes(opdef: Any, order: tuple[int, ...] | None, isa: str) -> None:
    shape = (3, 150, 7, 5)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    t = TensorType(shape).with_order(order)
    for axes in itertools.chain.from_iterable(itertools.combinations(range(4), r) for r in range(1, 5)):
        kept = [a for a in t.order if a not in axes]
        out = TensorType(tuple(shape[a] for a in sorted(kept))).with_order(tuple(sorted(kept).index(a) for a in kept))
        g = graph_of(opdef, [t], out=out, axes=axes)
        step = lower(g.ops[0])
        assert step is not None, axes
        (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa)
        check(got, x, opdef, axes)
        (scalar,) = run_lowered(step, {g.inputs[0]: x}, isa="scalar", threads=2)
        assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 7, 7, 1280), (1, 2)),  # global average pool, channels last
        ((2, 112, 112, 24), (1, 2)),  # more rows than one chunk
        ((2, 3, 20000), (2,)),  # more elements than one chunk of lanes
        ((5, 31), (1,)),  # short
        ((5, 32), (1,)),
        ((4, 100, 3), (0, 2)),
        ((2, 3, 2, 3, 2, 3, 2, 3), (0, 2, 4, 6)),
        ((2, 3, 2, 3, 2, 3, 2, 3), (1, 3, 5, 7)),
        ((100000,), (0,)),
        ((3, 1, 4), (1,)),
    ],
)
@pytest.mark.parametrize("opdef", OPS, ids=lambda d: d.name)
def test_shapes(opdef: Any, shape: tuple[int, ...], axes: tuple[int, ...], isa: str) -> None:
    x = np.random.default_rng(0).standard_normal(shape, np.float32) + np.float32(0.5)
    for keepdims in (False, True):
        g = graph_of(opdef, [TensorType(shape)], axes=axes, keepdims=keepdims)
        step = lower(g.ops[0])
        assert step is not None
        (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa, threads=2)
        check(got, x, opdef, axes, keepdims)
        (scalar,) = run_lowered(step, {g.inputs[0]: x}, isa="scalar")
        assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", OPS, ids=lambda d: d.name)
@pytest.mark.parametrize("axis", [0, 1])
def test_special_values(opdef: Any, axis: int, isa: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((83, 83), np.float32)
    for i, v in enumerate((np.nan, np.inf, -np.inf, 3.4028235e38, 1e-40, -0.0)):
        x[7 * i + 5, 82 - 3 * i] = v
    x[60], x[:, 60], x[61], x[:, 61] = np.inf, np.inf, -np.inf, -np.inf
    x[70], x[:, 70] = 1e-41, 1e-41
    g = graph_of(opdef, [TensorType(x.shape)], axes=(axis,))
    step = lower(g.ops[0])
    assert step is not None
    (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa)
    with np.errstate(all="ignore"):
        want = opdef.fn(x, axes=(axis,))
    if opdef in (reduce_max, reduce_min):
        assert np.array_equal(got, want, equal_nan=True)
    else:
        assert np.array_equal(np.isfinite(got), np.isfinite(want))
        assert np.allclose(got, want, rtol=1e-4, atol=1e-5, equal_nan=True)
    (scalar,) = run_lowered(step, {g.inputs[0]: x}, isa="scalar")
    assert same_bits(got, scalar)


@pytest.mark.parametrize("dtype", ["i8", "u8", "i32", "i64"])
@pytest.mark.parametrize("opdef", [reduce_sum, reduce_max, reduce_min], ids=lambda d: d.name)
def test_integers(opdef: Any, dtype: str) -> None:
    d = DType(dtype)
    rng = np.random.default_rng(0)
    x = rng.integers(np.iinfo(d.numpy).min, np.iinfo(d.numpy).max, (3, 40, 6, 5), d.numpy, endpoint=True)
    for axes in ((2, 3), (1,), (0, 3), (0, 1, 2, 3)):
        g = graph_of(opdef, [TensorType(x.shape, d)], axes=axes)
        step = lower(g.ops[0])
        assert step is not None
        (got,) = run_lowered(step, {g.inputs[0]: x}, threads=2)
        check(got, x, opdef, axes)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("shape", "axes"), [((5, 7, 13), [1]), ((3, 79), [1]), ((2, 33), [0]), ((3, 5, 3), [0, 2])])
def test_stays_inside(shape: tuple[int, ...], axes: list[int], isa: str) -> None:
    x = guarded(np.ones(shape, np.float32))
    out = tuple(d for i, d in enumerate(shape) if i not in axes)
    (got,) = run_step("reduce", [x], [(out, np.float32)], {"op": "sum", "axes": axes}, isa=isa)
    assert np.all(got == math.prod(shape[a] for a in axes))


def test_orders_that_would_need_a_copy_are_not_taken() -> None:
    t = TensorType((2, 3, 4, 5)).with_order((0, 2, 3, 1))
    g = graph_of(reduce_sum, [t], out=TensorType((2, 3, 4)), axes=(3,))
    assert lower(g.ops[0]) is None


@pytest.mark.parametrize(
    ("attrs", "out", "message"),
    [
        ({"op": "prod"}, (4,), "none of sum, mean, max, min"),
        ({"axes": [0, 0]}, (4,), "do not rise"),
        ({"axes": [2]}, (4,), "'axes' is not a list"),
        ({}, (5,), "gives 4 elements, the output has 5"),
    ],
)
def test_bad_steps_are_rejected(attrs: dict[str, Any], out: tuple[int, ...], message: str) -> None:
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ArtifactError, match=message):
        run_step("reduce", [x], [(out, np.float32)], {"op": "sum", "axes": [0]} | attrs)
