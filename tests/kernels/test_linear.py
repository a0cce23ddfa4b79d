"""kernels/linear: same bits on every ISA and thread count, within the bound of the exact sum, inside its buffers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import irkit.backend.native  # noqa: F401  (registers the lowerings)
from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import DType, TensorType
from irkit.ops import const, fused, hardswish, linear, return_
from tests.kernels.f32 import ACTS, assert_bound, normal, run_everywhere
from tests.kernels.util import ISAS, load_step, run_lowered


def linear_case(
    rng: np.random.Generator,
    lead: tuple[int, ...],
    k: int,
    o: int,
    *,
    bias: bool = True,
    residual: bool = False,
    act: str = "none",
    isas: Sequence[str] = ISAS,
) -> None:
    """One step with random data against the float64 product."""
    x, w = normal(rng, *lead, k), normal(rng, o, k)
    b = normal(rng, o) if bias else None
    r = normal(rng, *lead, o) if residual else None
    slope = normal(rng, o) if act == "prelu" else None
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(w.T.astype(np.float64))
    for extra in (b, r):
        if extra is not None:
            exact, magnitude = exact + extra, magnitude + np.abs(extra)
    attrs, fn, gain = ACTS[act]
    weaker = {"avx512": "avx2"} if k <= 16 and o <= 8 and np.prod(lead) > 1 else {}  # one vector of AVX2
    got = run_everywhere("linear", [x, w, b, r, slope], exact.shape, attrs, [1, 2, 4], isas, weaker)
    if slope is not None:
        gain *= 1 + float(np.abs(slope).max())
    assert_bound(got, fn(exact, slope if slope is not None else np.zeros(1)), magnitude, k, gain)


@pytest.mark.parametrize("m", [*range(1, 15), 24, 29])
def test_few_rows(m: int) -> None:
    rng = np.random.default_rng(m)
    for o in (1, 7, 16, 30, 64, 65, 100, 130):
        linear_case(
            rng, (m,), int(rng.choice([1, 2, 3, 17, 64, 101])), o, bias=o % 2 == 0, act="relu" if o > 50 else "none"
        )


@pytest.mark.parametrize("act", list(ACTS))
@pytest.mark.parametrize("residual", [False, True])
def test_epilogues(act: str, residual: bool) -> None:
    linear_case(np.random.default_rng(0), (2, 3), 19, 37, act=act, residual=residual)


def test_ranks() -> None:
    rng = np.random.default_rng(1)
    for lead in ((), (5,), (2, 3), (2, 1, 3, 2)):
        linear_case(rng, lead, 12, 10)


def test_weights_larger_than_a_cache() -> None:
    linear_case(np.random.default_rng(2), (1,), 700, 500)
    linear_case(np.random.default_rng(3), (70,), 520, 330, act="hardswish")


def test_lowering_of_a_fused_body() -> None:
    rng = np.random.default_rng(4)
    x, w, b = normal(rng, 3, 4, 20), normal(rng, 9, 20), normal(rng, 9)
    g = Graph()
    vx = g.add_input(TensorType(x.shape, DType.F32))
    vw, vb = g.emit(const, value=w).result, g.emit(const, value=b).result
    body = Graph("body")
    y = body.emit(linear, *(body.add_input(v.type) for v in (vx, vw, vb))).result
    body.emit(return_, body.emit(hardswish, y).result)
    step = lower(g.emit(fused, vx, vw, vb, body=body))
    assert step is not None and step.family == "linear" and step.macs == 12 * 20 * 9
    (got,) = run_lowered(step, {vx: x})
    exact = hardswish.fn(linear.fn(*(a.astype(np.float64) for a in (x, w, b))))
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-5)


def test_lowering_needs_constant_weights() -> None:
    g = Graph()
    x, w = (g.add_input(TensorType((3, 4), DType.F32)) for _ in range(2))
    assert lower(g.emit(linear, x, w)) is None


@pytest.mark.parametrize(("x", "y"), [((2, 5), (2, 3)), ((2, 4), (3, 3)), ((2, 4), (2, 4))])
def test_shapes_that_do_not_fit_are_refused(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    w = np.ones((3, 4), np.float32)
    with pytest.raises(ArtifactError, match="linear"):
        load_step(
            "linear", [np.ones(x, np.float32), w, None, None, None], [(y, np.float32)], {"act": "none"}, consts=[1]
        )
