"""Layer norm on every ISA level."""

from __future__ import annotations

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import Array, TensorType
from irkit.ops import const, layer_norm
from tests.kernels.util import ISAS, graph_of, guarded, run_lowered, run_step, same_bits

EPS = 2.0**-24


def check(got: Array, x: Array, gamma: Array | None, beta: Array | None, axis: int, eps: float) -> None:
    """The mean is off by k eps times the mean magnitude, k the longest chain of a lane; the variance relative by 2 k
    eps and that twice over; then a handful of roundings of the result and of its scaling."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    v = x.astype(np.float64)
    n = np.prod([x.shape[a] for a in axes])
    k = n / 64 + 8
    d = v - v.mean(axes, keepdims=True)
    sigma = np.sqrt((d * d).mean(axes, keepdims=True) + eps)
    shift = k * EPS * np.abs(v).mean(axes, keepdims=True) + EPS * np.abs(v)
    relative = (k + 8) * EPS + np.abs(d) / sigma * (shift / sigma)
    error = shift / sigma + np.abs(d / sigma) * relative * 2
    scale = 1.0 if gamma is None else np.abs(gamma)
    want = layer_norm.fn(x.astype(np.float64), gamma, beta, axis=axis, eps=eps)
    assert np.all(np.abs(got - want) <= error * scale + 2 * EPS * np.abs(want) + 1e-37)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 768), -1), ((2, 7, 65), -1), ((3, 4, 6, 5), 2), ((4, 1), -1), ((9, 3), 0)]
)
def test_against_reference(shape: tuple[int, ...], axis: int, isa: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32) * 3 + 1
    inner = shape[axis % len(shape) :]
    gamma, beta = rng.standard_normal(inner, np.float32), rng.standard_normal(inner, np.float32)
    for scale, shift in ((gamma, beta), (gamma, None), (None, beta), (None, None)):
        types = [
            TensorType(shape),
            None if scale is None else TensorType(inner),
            None if shift is None else TensorType(inner),
        ]
        g = graph_of(layer_norm, types, axis=axis, eps=1e-5)
        step = lower(g.ops[0])
        assert step is not None
        arrays = dict(zip(g.inputs, [a for a in (x, scale, shift) if a is not None], strict=True))
        (got,) = run_lowered(step, arrays, isa=isa)
        check(got, x, scale, shift, axis, 1e-5)
        (scalar,) = run_lowered(step, arrays, isa="scalar", threads=2)
        assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
def test_constant_factors_in_another_order(isa: str) -> None:
    """Normalising C, H, W of a channels-last tensor: gamma and beta are turned at compile time."""
    rng = np.random.default_rng(1)
    t = TensorType((2, 5, 3, 4)).with_order((0, 2, 3, 1))
    x, gamma, beta = (rng.standard_normal(s, np.float32) for s in (t.shape, t.shape[1:], t.shape[1:]))
    g = Graph()
    v = g.add_input(t)
    factors = [g.emit(const, value=a).result for a in (gamma, beta)]
    step = lower(g.emit(layer_norm, v, *factors, types=[t], axis=1, eps=1e-3))
    assert step is not None
    (got,) = run_lowered(step, {v: x}, isa=isa)
    check(got, x, gamma, beta, 1, 1e-3)


def test_axes_that_are_not_innermost_are_not_taken() -> None:
    t = TensorType((2, 5, 3, 4)).with_order((0, 2, 3, 1))
    g = graph_of(layer_norm, [t, None, None], out=t, axis=3)
    assert lower(g.ops[0]) is None


@pytest.mark.parametrize("isa", ISAS)
def test_special_values(isa: str) -> None:
    x = np.random.default_rng(2).standard_normal((6, 70), np.float32)
    x[0, 3], x[1, 69], x[2] = np.nan, np.inf, 5.0
    x[3] = 1e-40
    x[4] *= np.float32(1e18)
    g = graph_of(layer_norm, [TensorType(x.shape), None, None], eps=1e-5)
    step = lower(g.ops[0])
    assert step is not None
    (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa)
    assert np.isnan(got[:2]).all()
    assert np.all(got[2] == 0) and np.all(np.abs(got[3]) < 1e-30)
    check(got[4:], x[4:], None, None, -1, 1e-5)
    (scalar,) = run_lowered(step, {g.inputs[0]: x}, isa="scalar")
    assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 5, 67])
def test_stays_inside(n: int, isa: str) -> None:
    rng = np.random.default_rng(n)
    x, gamma, beta = (guarded(rng.standard_normal(s, np.float32)) for s in ((3, n), (n,), (n,)))
    (got,) = run_step("norm", [x, gamma, beta], [((3, n), np.float32)], {"n": n, "eps": 1e-5}, isa=isa)
    check(got, x, gamma, beta, -1, 1e-5)


def test_bad_steps_are_rejected() -> None:
    x, v = np.zeros((3, 4), np.float32), np.zeros(3, np.float32)
    with pytest.raises(ArtifactError, match="rows of 5"):
        run_step("norm", [x, None, None], [((3, 4), np.float32)], {"n": 5, "eps": 1e-5})
    with pytest.raises(ArtifactError, match="input 1 does not hold 4 factors"):
        run_step("norm", [x, v, None], [((3, 4), np.float32)], {"n": 4, "eps": 1e-5})
