"""kernels/spmm: same bits on every ISA and thread count, within the bound of the exact sum, inside its buffers."""

from __future__ import annotations

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.backend.native.anchor import NHWC
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import Array, DType, Encoding, TensorType
from irkit.ops import const, conv2d, linear
from irkit.sparse.encodings import encode_csr
from tests.kernels.f32 import ACTS, assert_bound, normal, run_everywhere
from tests.kernels.util import load_step, run_lowered


def pruned(rng: np.random.Generator, o: int, k: int, density: float) -> Array:
    """A random matrix with about that share of non-zeros."""
    return np.where(rng.random((o, k)) < density, normal(rng, o, k), np.float32(0)).astype(np.float32)


def spmm_case(
    rng: np.random.Generator,
    m: int,
    k: int,
    o: int,
    density: float,
    *,
    bias: bool = True,
    residual: bool = False,
    act: str = "none",
) -> None:
    """One step with random data against the float64 product."""
    x, w = normal(rng, m, k), pruned(rng, o, k, density)
    b = normal(rng, o) if bias else None
    r = normal(rng, m, o) if residual else None
    slope = normal(rng, 1) if act == "prelu" else None
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(w.T.astype(np.float64))
    for extra in (b, r):
        if extra is not None:
            exact, magnitude = exact + extra, magnitude + np.abs(extra)
    attrs, fn, gain = ACTS[act]
    csr = encode_csr(w)
    values, columns, rows = csr.values, csr.columns, csr.rows
    if values.size == 0:
        values, columns = np.zeros(1, np.float32), np.zeros(1, np.int32)  # a constant has at least one element
    got = run_everywhere("spmm", [x, values, columns, rows, b, r, slope], (m, o), attrs, [1, 2, 3, 4, 6])
    if slope is not None:
        gain *= 1 + float(np.abs(slope).max())
    assert_bound(got, fn(exact, slope if slope is not None else np.zeros(1)), magnitude, k, gain)


@pytest.mark.parametrize("k", [65535, 65536, 65537, 140_000])
def test_rows_longer_than_16_bits(k: int) -> None:
    """Columns are kept in 16 bits, counted from the beginning of a segment; some rows have nothing in one."""
    spmm_case(np.random.default_rng(k), 3, k, 5, 2e-5)
    spmm_case(np.random.default_rng(k), 3, k, 5, 1e-3)


@pytest.mark.parametrize("o", [1, 4, 15, 16, 17, 33])
def test_every_tail(o: int) -> None:
    rng = np.random.default_rng(o)
    for m in [*range(1, 36), 63, 64, 65, 127, 128, 129, 140]:
        spmm_case(rng, m, int(rng.choice([1, 3, 4, 6, 17, 32])), o, 0.3, bias=m % 2 == 0)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.1, 0.5, 1.0])
def test_densities(density: float) -> None:
    spmm_case(np.random.default_rng(5), 50, 61, 40, density)


@pytest.mark.parametrize("act", list(ACTS))
@pytest.mark.parametrize("residual", [False, True])
def test_epilogues(act: str, residual: bool) -> None:
    spmm_case(np.random.default_rng(0), 21, 19, 37, 0.3, act=act, residual=residual)


def test_deep_blocks() -> None:
    spmm_case(np.random.default_rng(1), 130, 3000, 5, 0.1)


@pytest.mark.parametrize("rank", [2, 4])
def test_lowering(rank: int) -> None:
    rng = np.random.default_rng(2)
    w = pruned(rng, 12, 20, 0.2)
    x = normal(rng, 10, 20) if rank == 2 else normal(rng, 2, 20, 4, 3)
    order = NHWC if rank == 4 else None
    w = w if rank == 2 else w.reshape(12, 20, 1, 1)
    g = Graph()
    vx = g.add_input(TensorType(x.shape, DType.F32, encoding=Encoding(order)))
    vw = g.emit(const, value=w, encoding=Encoding(order, sparse="csr")).result
    opdef = linear if rank == 2 else conv2d
    y = opdef.fn(x.astype(np.float64), w.astype(np.float64))
    op = g.emit(opdef, vx, vw, types=[TensorType(y.shape, DType.F32, encoding=Encoding(order))])
    step = lower(op)
    assert step is not None and step.family == "spmm" and "zeros" in step.note
    (got,) = run_lowered(step, {vx: x})
    np.testing.assert_allclose(got, y, rtol=0, atol=1e-5)


def test_lowering_leaves_few_rows_and_large_kernels_dense() -> None:
    g = Graph()
    sparse = Encoding(sparse="csr")
    w = g.emit(const, value=np.eye(4, dtype=np.float32), encoding=sparse).result
    step = lower(g.emit(linear, g.add_input(TensorType((1, 4), DType.F32)), w))
    assert step is not None and step.family == "linear"
    x = g.add_input(TensorType((1, 4, 5, 5), DType.F32, encoding=Encoding(NHWC)))
    w3 = g.emit(const, value=np.ones((4, 4, 3, 3), np.float32), encoding=sparse).result
    step = lower(g.emit(conv2d, x, w3, types=[TensorType((1, 4, 3, 3), DType.F32, encoding=Encoding(NHWC))]))
    assert step is not None and step.family == "conv"


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ([0, 4, 1], [0, 1, 3], "column"),
        ([0, -1, 1], [0, 1, 3], "column"),
        ([0, 2, 1], [0, 1, 3], "column"),
        ([0, 1, 2], [0, 2, 1], "range|span"),
        ([0, 1, 2], [0, 1, 9], "span"),
        ([0, 1, 2], [1, 1, 3], "span"),
        ([0, 1, 2], [0, 3], "sizes"),
        ([0, 1], [0, 1, 2], "sizes"),
    ],
)
def test_bad_indices_are_refused(columns: list[int], rows: list[int], message: str) -> None:
    x, values = np.ones((9, 4), np.float32), np.ones(3, np.float32)
    inputs = [x, values, np.array(columns, np.int32), np.array(rows, np.int32), None, None, None]
    with pytest.raises(ArtifactError, match=message):
        load_step("spmm", inputs, [((9, 2), np.float32)], {"act": "none"}, consts=[1, 2, 3])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("gaps", [[0, 4, 0], [0, 1, 2], [0, 0, 200]])
def test_bad_gaps_are_refused(dtype: type, gaps: list[int]) -> None:
    x, values = np.ones((9, 4), np.float32), np.ones(3, np.float32)
    inputs = [x, values, np.array(gaps, dtype), np.array([0, 1, 3], np.int32), None, None, None]
    with pytest.raises(ArtifactError, match="column"):
        load_step("spmm", inputs, [((9, 2), np.float32)], {"act": "none"}, consts=[1, 2, 3])


def test_a_negative_gap_is_refused() -> None:
    x, values = np.ones((9, 4), np.float32), np.ones(3, np.float32)
    inputs = [x, values, np.array([1, 2, -3], np.int16), np.array([0, 1, 3], np.int32), None, None, None]
    with pytest.raises(ArtifactError, match="column"):
        load_step("spmm", inputs, [((9, 2), np.float32)], {"act": "none"}, consts=[1, 2, 3])
