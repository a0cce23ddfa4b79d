"""softmax and log_softmax on every ISA level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.types import Array, TensorType
from irkit.ops import log_softmax, softmax
from tests.kernels.util import ISAS, graph_of, guarded, run_lowered, run_step, same_bits

EPS = 2.0**-24
SHAPES = [(1, 1000), (7, 5), (3, 64), (2, 63), (2, 65), (4, 197, 3), (2, 21, 5, 300), (3, 1), (1, 3, 257), (6,)]


def error_bound(x: Array, want: Array, n: int, log: bool) -> Array:
    """x - max is rounded once, so exp has |x - max| eps more relative error than its 2 ulp; the sum of n positive terms
    adds at most n eps (lanes: less), the division one; the logarithm turns relative errors into absolute ones. Weights
    below exp(-80) of the largest count as 0."""
    spread = np.nan_to_num(np.where(np.isfinite(x), np.abs(x), 0).max(initial=0)) * 2
    if log:
        return (np.abs(want) * 2 + spread + n + 10) * EPS + 0 * want
    return np.abs(want) * (spread + 4 + n + 2) * EPS + float(np.exp(-80.0))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("opdef", [softmax, log_softmax], ids=lambda d: d.name)
def test_every_axis(opdef: Any, shape: tuple[int, ...], isa: str) -> None:
    x = np.random.default_rng(0).standard_normal(shape, np.float32) * 5
    for axis in range(len(shape)):
        g = graph_of(opdef, [TensorType(shape)], axis=axis)
        step = lower(g.ops[0])
        assert step is not None
        (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa)
        want = opdef.fn(x.astype(np.float64), axis=axis)
        assert np.all(np.abs(got - want) <= error_bound(x, want, shape[axis], opdef is log_softmax))
        (scalar,) = run_lowered(step, {g.inputs[0]: x}, isa="scalar", threads=2)
        assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("n", [3, 49, 1000])
def test_masked_positions_are_not_denormal(n: int, inner: int, isa: str) -> None:
    """An attention mask of -100 must not make everything after it slow; weights that a float holds well stay."""
    x = np.zeros((2, n, inner), np.float32)
    x[:, 1] = np.float32([-100, -87.4, -80.1])[:inner]
    x[:, 2] = -79.9
    g = graph_of(softmax, [TensorType(x.shape)], axis=1)
    step = lower(g.ops[0])
    assert step is not None
    (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa)
    assert np.all(got[:, 1] == 0)
    assert np.all(got[:, 2] >= np.finfo(np.float32).tiny)
    np.testing.assert_allclose(got[:, 2], softmax.fn(x.astype(np.float64), axis=1)[:, 2], rtol=2e-5)


@pytest.mark.parametrize("isa", ISAS)
def test_storage_order(isa: str) -> None:
    t = TensorType((2, 19, 6, 7)).with_order((0, 2, 3, 1))
    x = np.random.default_rng(0).standard_normal(t.shape, np.float32)
    for axis in range(4):
        g = graph_of(softmax, [t], out=t, axis=axis)
        step = lower(g.ops[0])
        assert step is not None
        (got,) = run_lowered(step, {g.inputs[0]: x}, isa=isa)
        assert np.allclose(got, softmax.fn(x, axis=axis), rtol=3e-6, atol=0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", [softmax, log_softmax], ids=lambda d: d.name)
@pytest.mark.parametrize("inner", [1, 3])
def test_special_values(opdef: Any, inner: int, isa: str) -> None:
    """NaN, infinities and rows of -inf, in the vector part and in the tail; huge and denormal numbers."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9, 83), np.float32)
    x[0, 3], x[1, 82], x[2, 5], x[3, 80] = np.nan, np.nan, np.inf, np.inf
    x[4], x[5, ::2], x[6] = -np.inf, -np.inf, np.float32(3e38)
    x[7] = rng.uniform(-3e38, 3e38, 83)
    x[8] *= np.float32(1e-40)
    y = np.repeat(x[:, :, None], inner, 2)
    g = graph_of(opdef, [TensorType(y.shape)], axis=1)
    step = lower(g.ops[0])
    assert step is not None
    (got,) = run_lowered(step, {g.inputs[0]: y}, isa=isa)
    with np.errstate(all="ignore"):
        want = opdef.fn(y, axis=1)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    # FLT_MAX - (-FLT_MAX) overflows: exp gives 0 all the same, log_softmax -inf where the reference has -6e38 as -inf
    assert np.allclose(got, want, rtol=2e-5, atol=1e-5, equal_nan=True)
    (scalar,) = run_lowered(step, {g.inputs[0]: y}, isa="scalar")
    assert same_bits(got, scalar)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(3, 1), (2, 7), (1, 79), (2, 5, 19)])
def test_stays_inside(shape: tuple[int, ...], isa: str) -> None:
    x = guarded(np.random.default_rng(0).standard_normal(shape, np.float32))
    (got,) = run_step("softmax", [x], [(shape, np.float32)], {"axis": 1, "log": 0}, isa=isa)
    assert np.allclose(got.sum(1), 1, atol=1e-6)


def test_bad_steps_are_rejected() -> None:
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ArtifactError, match=r"'axis' is not an integer in \[0, 1\]"):
        run_step("softmax", [x], [((3, 4), np.float32)], {"axis": 2, "log": 0})
    with pytest.raises(ArtifactError, match="changes axis 1"):
        run_step("softmax", [x], [((3, 5), np.float32)], {"axis": 1, "log": 0})
