"""The plan document: places, aliases, constants and outputs that own their memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

import irkit
from irkit.backend.plan import make_plan
from irkit.errors import FallbackError, InputError
from irkit.ir.graph import Graph
from irkit.ir.types import DType, TensorType
from irkit.ops import add, concat, const, conv2d, mul, pow_, relu, reshape, return_, tanh


def graph(*shape: int) -> tuple[Graph, object]:
    g = Graph()
    return g, g.add_input(TensorType(shape), "x")


def test_intermediates_share_the_arena_and_outputs_do_not() -> None:
    g, x = graph(4, 100)
    v = x
    for i in range(6):
        v = g.emit(relu, v, loc=f"layer{i}").result
    g.emit(return_, v)
    plan = make_plan(g)
    doc = json.loads(plan.to_json())
    places = [t["loc"] for t in doc["tensors"]]
    assert doc["arena"] <= 2 * 1600 + 64
    assert places.count(["in", 0]) == 1 and places.count(["out", 0]) == 1
    assert [s["name"] for s in doc["steps"]] == [f"layer{i}" for i in range(6)]


def test_reshape_costs_no_step_and_shares_memory() -> None:
    g, x = graph(2, 6)
    a = g.emit(relu, x).result
    b = g.emit(reshape, a, shape=(3, 4)).result
    g.emit(return_, g.emit(relu, b).result)
    doc = make_plan(g).document
    assert len(doc["steps"]) == 2
    first, second = doc["steps"]
    assert doc["tensors"][first["out"][0]]["loc"] == doc["tensors"][second["in"][0]]["loc"]


@pytest.mark.parametrize(("target", "inside"), [("native-fp32", 4 + 4), ("native-int8", 1)])
def test_rows_tell_the_bytes_that_fusion_saves(target: str, inside: int) -> None:
    """A residual and an activation at the end of a convolution; in int8, the latter is no more than the output's range.

    inside: bytes of each element that are not written and read.
    """
    g, x = graph(1, 8, 6, 6)
    w = g.emit(const, value=np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)).result
    first = g.emit(conv2d, x, w, pads=(1, 1, 1, 1)).result
    y = g.emit(add, g.emit(conv2d, first, w, pads=(1, 1, 1, 1)).result, first).result
    g.emit(return_, g.emit(relu, y).result)
    data = [np.random.default_rng(s).standard_normal((1, 8, 6, 6)).astype(np.float32) for s in range(32)]
    exe = irkit.compile(g, target=target, calibration=data if target.endswith("int8") else None)
    (note,) = [r.note for r in exe.plan.rows if "residual" in r.note]
    assert note.endswith(f"; saves {2 * 8 * 6 * 6 * inside / 1e3:.1f} KB")


def test_rows_tell_the_bytes_that_elementwise_programs_save() -> None:
    g, x = graph(1000)
    y = g.emit(tanh, x).result
    g.emit(return_, g.emit(add, g.emit(mul, y, x).result, x).result)
    (row,) = irkit.compile(g).plan.rows
    assert row.op == "tanh+mul+add" and row.note.endswith("saves 16.0 KB")


def test_outputs_that_are_inputs_constants_or_repeated_are_copied() -> None:
    g, x = graph(3)
    w = g.emit(const, value=np.float32([1, 2, 3]), names=["w"]).result
    y = g.emit(relu, x, names=["y"]).result
    g.emit(return_, x, w, y, y)
    exe = irkit.compile(g)
    a = np.float32([-1, 0, 5])
    outs = exe(a)
    for got, want in zip(outs, ([-1, 0, 5], [1, 2, 3], [0, 0, 5], [0, 0, 5]), strict=True):
        assert np.array_equal(got, np.float32(want))
        assert not np.shares_memory(got, a)
    assert not np.shares_memory(outs[2], outs[3])


def test_constants_of_one_name_get_names_of_their_own() -> None:
    g, x = graph(3)
    v = x
    for k in range(3):
        w = g.emit(const, value=np.float32([k, 2, 3]), names=["w"]).result
        v = g.emit(add, v, w).result
    g.emit(return_, v)
    consts = make_plan(g).consts
    assert {name: a[0] for name, a in consts.items()} == {"w": 0, "w.2": 1, "w.3": 2}


def unknown_op_graph() -> Graph:
    g = Graph()
    x = g.add_input(TensorType((4,), DType.F64), "x")
    g.emit(return_, g.emit(pow_, x, x, loc="odd.layer").result)
    return g


def test_a_fallback_runs_is_listed_and_strict_refuses_it() -> None:
    exe = irkit.compile(unknown_op_graph())
    assert [r.op for r in exe.plan.fallbacks] == ["pow"]
    assert "NumPy fallback: pow (1 steps)" in str(exe.plan)
    assert np.array_equal(exe(np.float64([0, 1, 2, 3])), [1, 1, 4, 27])
    with pytest.raises(FallbackError, match=r"pow in odd\.layer"):
        irkit.compile(unknown_op_graph(), strict=True)


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, "2", True])
def test_thread_counts_are_checked(threads: object) -> None:
    with pytest.raises(InputError, match="threads"):
        irkit.compile(unknown_op_graph(), threads=threads)  # type: ignore[arg-type]


def test_inputs_by_name() -> None:
    g = Graph()
    image, scale, offset = (g.add_input(TensorType((2,)), n) for n in ("image", "scale", "offset"))
    g.emit(return_, g.emit(add, g.emit(mul, image, scale).result, offset).result)
    exe = irkit.compile(g)
    x, s, o = np.float32([1, 2]), np.float32([3, 4]), np.float32([5, 6])
    for y in (exe(x, s, o), exe(offset=o, image=x, scale=s), exe(x, offset=o, scale=s)):
        np.testing.assert_array_equal(y, [8, 14])
    for args, named, message in (
        ((x,), {"image": x, "scale": s}, r"input image is given twice \(image, scale, offset\)"),
        ((x, s), {"ofset": o}, r"input ofset is none of the model's inputs \(image, scale, offset\)"),
        ((x,), {"offset": o}, r"expected 3 input\(s\) \(image, scale, offset\), scale missing"),
        ((), {"image": x, "scale": s, "offset": o[:1]}, r"offset.*expected shape"),
    ):
        with pytest.raises(InputError, match=message):
            exe(*args, **named)


def test_a_concat_of_more_operands_than_a_step_takes() -> None:
    g, x = graph(1, 3)
    parts = [g.emit(add, x, g.emit(const, value=np.array([i], np.float32)).result).result for i in range(130)]
    g.emit(return_, g.emit(concat, *parts, axis=0).result)
    exe = irkit.compile(g, strict=True)
    np.testing.assert_array_equal(exe(np.zeros((1, 3), np.float32))[:, 1], np.arange(130))
