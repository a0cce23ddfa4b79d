"""Deep and wide graphs: no recursion, time that grows about linearly."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

import irkit.passes  # noqa: F401
from irkit import ops
from irkit.ir.graph import Graph
from irkit.ir.interp import run
from irkit.ir.parse import parse_graph
from irkit.ir.passes import PassManager, parse_pipeline
from irkit.ir.text import print_graph
from irkit.ir.types import Array, TensorType
from irkit.ir.verify import difference

FULL = "canonicalize,fold-constants,fold-bn,canonicalize,fold-constants,cse,dce,sparsify,fuse,layout,dce"


def deep(n: int) -> Graph:
    """A chain with something for most passes to do every few operations."""
    g = Graph("main", [("x", TensorType((1, 2, 3, 3)))])
    v = g.inputs[0]
    w = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)
    for i in range(n // 8):
        c = g.emit(ops.const, value=w, names=[f"w{i}"]).result
        v = g.emit(ops.conv2d, v, c, None, loc=f"conv{i}").result
        v = g.emit(ops.add, v, g.emit(ops.const, value=np.full((1, 2, 1, 1), 0.01, np.float32)).result).result
        v = g.emit(ops.relu, v).result
        v = g.emit(ops.permute, v, perm=(0, 2, 3, 1)).result
        v = g.emit(ops.permute, v, perm=(0, 3, 1, 2)).result
        v = g.emit(ops.sigmoid, v).result
    g.emit(ops.return_, v)
    return g


def wide(n: int) -> Graph:
    """``n`` branches from one input into one concat, some of them returned as well."""
    g = Graph("main", [("x", TensorType((1, 2, 2, 2)))])
    branches = [g.emit(ops.neg, g.emit(ops.relu, g.inputs[0], loc=f"b{i}").result).result for i in range(n // 2)]
    g.emit(ops.return_, g.emit(ops.concat, *branches, axis=1).result, *branches[: n // 10])
    return g


def ladder(n: int) -> Graph:
    """Diamonds in a row: each value is used twice."""
    g = Graph("main", [("x", TensorType((4,)))])
    v = g.inputs[0]
    for _ in range(n // 3):
        a, b = g.emit(ops.tanh, v).result, g.emit(ops.sigmoid, v).result
        v = g.emit(ops.mul, a, b).result
    g.emit(ops.return_, v)
    return g


def seconds(make: Callable[[int], Graph], n: int) -> float:
    best = float("inf")
    for _ in range(2):
        g = make(n)
        start = time.process_time()
        PassManager(parse_pipeline(FULL)).run(g)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.slow
@pytest.mark.parametrize("make", [deep, wide, ladder])
def test_time_of_the_whole_pipeline_grows_about_linearly(make: Callable[[int], Graph]) -> None:
    small, big = seconds(make, 1000), seconds(make, 8000)
    assert big < 8 * 3 * small + 1, f"{small:.2f} s for 1,000 operations, {big:.2f} s for 8,000"


@pytest.mark.parametrize("make", [deep, wide, ladder])
def test_20000_operations_print_parse_and_run(make: Callable[[int], Graph]) -> None:
    g = make(20000)
    sidecar: dict[str, Array] = {}
    back = parse_graph(print_graph(g, sidecar), sidecar)
    assert difference(g, back) is None
    x = np.linspace(-1, 1, g.inputs[0].type.size, dtype=np.float32).reshape(g.inputs[0].type.shape)
    a, b = run(g, x), run(back, x)
    assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
