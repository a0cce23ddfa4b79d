"""On random graphs every pass keeps the effect it declares, the structure sound, and does nothing the second time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import irkit.passes  # noqa: F401
from irkit.ir.graph import Graph, Value
from irkit.ir.interp import run
from irkit.ir.parse import parse_graph
from irkit.ir.passes import Effect, PassManager, all_passes, compare, parse_pipeline
from irkit.ir.text import print_graph
from irkit.ir.types import Array, DType
from irkit.ir.verify import difference, verify
from tests.property.graphs import graphs, sample_inputs

EXACT = ["dce", "cse", "fold-constants", "fold-constants{limit=4}", "fuse", "layout", "sparsify{density=1.0}"]
ROUNDING = ["canonicalize", "fold-bn", "winograd{tile=4}"]
FULL = "canonicalize,fold-constants,fold-bn,canonicalize,fold-constants,cse,dce,sparsify,fuse,layout,dce"
PROFILE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def largest_value(g: Graph, inputs: list[Array]) -> float:
    """Magnitude of the largest intermediate result: what rounding errors are relative to."""
    top = [1.0]

    def observe(v: Value, a: Array) -> None:
        if a.dtype.kind == "f" and a.size:
            top.append(float(np.abs(a[np.isfinite(a)]).max(initial=0.0)))

    run(g, *inputs, observe=observe)
    return max(top)


@pytest.mark.parametrize("pipeline", EXACT)
@PROFILE
@given(graphs())
def test_exact_pass_keeps_all_bits(pipeline: str, g: Graph) -> None:
    before, inputs = g.clone(), sample_inputs(g)
    PassManager(parse_pipeline(pipeline)).run(g)
    for a, b in zip(run(before, *inputs), run(g, *inputs), strict=True):
        message, _ = compare(a, b, Effect.EXACT)
        assert not message, f"{message}\n{print_graph(before)}\n{print_graph(g)}"


@pytest.mark.parametrize("pipeline", [*ROUNDING, FULL])
@PROFILE
@given(graphs(DType.F64))
def test_rounding_pass_stays_the_same_function(pipeline: str, g: Graph) -> None:
    """In float64, so that what is left of rounding is far below any real mistake."""
    before, inputs = g.clone(), sample_inputs(g)
    PassManager(parse_pipeline(pipeline)).run(g)
    limit = 1e-9 * largest_value(before, inputs)
    for a, b in zip(run(before, *inputs), run(g, *inputs), strict=True):
        assert a.shape == b.shape
        assert np.allclose(a, b, rtol=1e-9, atol=limit, equal_nan=True), f"{print_graph(before)}\n{print_graph(g)}"


@pytest.mark.parametrize("pipeline", [*EXACT, *ROUNDING, FULL])
@settings(PROFILE, max_examples=40)
@given(graphs())
def test_nothing_is_left_to_do(pipeline: str, g: Graph) -> None:
    passes = parse_pipeline(pipeline)
    PassManager(passes).run(g)
    once = g.clone()
    records = PassManager(passes[-1:]).run(g)
    assert difference(once, g) is None, f"{print_graph(once)}\n{print_graph(g)}"
    assert not records[0].changed


@settings(PROFILE, max_examples=60)
@given(graphs(), st.booleans())
def test_lowered_graphs_print_and_parse(g: Graph, lowered: bool) -> None:
    if lowered:
        PassManager(parse_pipeline(FULL)).run(g)
    sidecar: dict[str, Array] = {}
    back = parse_graph(print_graph(g, sidecar), sidecar)
    verify(back)
    assert difference(g, back) is None


def test_no_pass_is_forgotten() -> None:
    mentioned = {p.name for text in (*EXACT, *ROUNDING) for p in parse_pipeline(text)}
    own = {n: c for n, c in all_passes().items() if c.__module__.startswith("irkit.passes.")}
    checked_here = {n for n, c in own.items() if c.effect is not Effect.LOSSY and n != "integerize"}
    assert mentioned == checked_here
    for name in mentioned:
        assert own[name].effect is (Effect.EXACT if any(name in e for e in EXACT) else Effect.ROUNDING)
