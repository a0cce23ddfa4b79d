"""The interpreter: what it runs, observes, frees and rejects."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from irkit import ops
from irkit.errors import InputError, IRError
from irkit.ir.graph import Graph, Value
from irkit.ir.interp import run
from irkit.ir.opdef import REGISTRY, op
from irkit.ir.types import Array, TensorType


def small() -> Graph:
    g = Graph("main", [("x", TensorType((2,)))])
    c = g.emit(ops.const, value=np.float32([1, 2])).result
    y = g.emit(ops.add, g.inputs[0], c, names=["y"], loc="layer").result
    g.emit(ops.return_, y, g.emit(ops.mul, y, y, names=["z"]).result, g.inputs[0])
    return g


def test_computes_outputs_in_order() -> None:
    y, z, x = run(small(), np.float32([10, 20]))
    assert y.tolist() == [11, 22]
    assert z.tolist() == [121, 484]
    assert x.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "graph @main: expected 1 inputs, got 0"),
        ((np.zeros(3, np.float32),), r"input %x: expected f32\[2\], got float32\[3\]"),
        ((np.zeros(2),), r"input %x: expected f32\[2\], got float64\[2\]"),
    ],
)
def test_rejects_wrong_inputs(inputs: tuple[Array, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(small(), *inputs)


def test_observes_every_value_and_opens_fused_bodies() -> None:
    g = Graph("main", [("x", TensorType((2,)))])
    body = Graph("body", [("a", TensorType((2,))), ("b", TensorType((2,)))])
    s = body.emit(ops.sub, *body.inputs, names=["s"]).result
    body.emit(ops.return_, s, body.emit(ops.relu, s, names=["r"]).result)
    c = g.emit(ops.const, value=np.float32([1, 5]), names=["c"]).result
    f = g.emit(ops.fused, g.inputs[0], c, body=body, names=["f0", "f1"])
    g.emit(ops.return_, *f.results)
    seen: list[str] = []

    def observe(v: Value, a: Array) -> None:
        assert a.shape == v.type.shape
        seen.append(v.name)

    a, b = run(g, np.float32([2, 3]), observe=observe)
    assert a.tolist() == [1, -2]
    assert b.tolist() == [1, 0]
    assert seen == ["x", "c", "a", "b", "s", "r", "f0", "f1"]


def test_frees_values_after_their_last_use() -> None:
    g = Graph("main", [("x", TensorType((1000,)))])
    v = g.inputs[0]
    for i in range(20):
        v = g.emit(ops.neg, v, names=[f"v{i}"]).result
    g.emit(ops.neg, v, names=["unused"])
    g.emit(ops.return_, v)
    refs: list[weakref.ref[Array]] = []
    alive: list[int] = []

    def observe(v: Value, a: Array) -> None:
        gc.collect()
        alive.append(sum(r() is not None for r in refs))
        refs.append(weakref.ref(a))

    run(g, np.ones(1000, np.float32), observe=observe)
    assert max(alive) <= 3


def test_names_the_op_whose_reference_breaks_its_type() -> None:
    @op(infer=lambda x: x, name="test_liar")
    def liar(x: Array) -> Array:
        """Says one thing and does another."""
        return x[:1]

    try:
        g = Graph("main", [("x", TensorType((2,)))])
        g.emit(ops.return_, g.emit(liar, g.inputs[0], loc="a.b", names=["y"]).result)
        with pytest.raises(IRError, match=r"test_liar %y @a\.b: expected f32\[2\], its reference gave float32\[1\]"):
            run(g, np.zeros(2, np.float32))
    finally:
        del REGISTRY["test_liar"]
