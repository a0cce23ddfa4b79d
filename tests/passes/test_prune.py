"""Options of prune: what they refuse, and what sparsity comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irkit import ops
from irkit.errors import PassError
from irkit.ir.graph import Graph, const_array
from irkit.ir.passes import PassManager, parse_pipeline
from irkit.ir.types import TensorType
from irkit.passes.prune import Prune


def layers(*shapes: tuple[int, int]) -> Graph:
    g = Graph("main", [("x", TensorType((3, shapes[0][1])))])
    v = g.inputs[0]
    rng = np.random.default_rng(0)
    for i, s in enumerate(shapes):
        w = g.emit(ops.const, value=(rng.standard_normal(s) * (i + 1)).astype(np.float32), names=[f"fc{i}.weight"])
        v = g.emit(ops.linear, v, w.result, loc=f"fc{i}").result
    g.emit(ops.return_, v)
    return g


def zeros(g: Graph) -> list[float]:
    arrays = [const_array(op.result) for op in g if op.opdef is ops.const]
    return [float((a == 0).mean()) for a in arrays if a is not None]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 1.0])
def test_sparsity_per_layer(sparsity: float) -> None:
    g = layers((20, 30), (40, 20), (10, 40))
    PassManager([Prune(sparsity=sparsity)]).run(g)
    assert zeros(g) == pytest.approx([sparsity] * 3, abs=0.01)


def test_sparsity_over_all_layers_falls_on_small_weights() -> None:
    g = layers((20, 30), (40, 20), (10, 40))
    PassManager([Prune(sparsity=0.5, scope="global")]).run(g)
    z = zeros(g)
    assert z[0] > z[1] > z[2]
    assert (z[0] * 600 + z[1] * 800 + z[2] * 400) / 1800 == pytest.approx(0.5)


def test_lamp_evens_layers_out() -> None:
    g = layers((20, 30), (40, 20), (10, 40))
    PassManager([Prune(sparsity=0.5, scope="global", criterion="lamp")]).run(g)
    assert max(zeros(g)) - min(zeros(g)) < 0.2


def test_names_stay_and_the_pipeline_text_says_what_was_done() -> None:
    g = layers((4, 4))
    p = Prune(sparsity=0.5, layers=("fc*",))
    PassManager([p]).run(g)
    assert next(iter(g)).results[0].name == "fc0.weight"
    assert parse_pipeline(p.describe()) == [p]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either sparsity or threshold"),
        ({"sparsity": 0.5, "threshold": 0.1}, "give either sparsity or threshold"),
        ({"sparsity": 1.5}, "sparsity: expected a number from 0 to 1, got 1.5"),
        ({"threshold": -1.0}, "threshold: expected a number >= 0, got -1.0"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "pattern 2:4 says how many weights go"),
        ({"pattern": "4:2"}, "expected 'unstructured' or n:m with 0 < n < m, got '4:2'"),
        ({"pattern": "some"}, "pattern: expected 'unstructured' or n:m"),
        ({"sparsity": 0.5, "scope": "model"}, "scope: expected 'layer' or 'global', got 'model'"),
        ({"threshold": 0.5, "scope": "global"}, "goes with sparsity"),
        ({"sparsity": 0.5, "criterion": "luck"}, "criterion: expected one of magnitude, lamp, got 'luck'"),
        ({"sparsity": 0.5, "kinds": ("lstm",)}, "kinds: expected some of linear, pointwise, conv, depthwise"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PassError) as e:
        Prune(**options)
    assert message in str(e.value)


def test_no_layer_matches() -> None:
    with pytest.raises(PassError, match=r"no layer matches layers=\['conv\*'\].*there are: fc0, fc1"):
        PassManager([Prune(sparsity=0.5, layers=("conv*",))]).run(layers((4, 4), (4, 4)))
