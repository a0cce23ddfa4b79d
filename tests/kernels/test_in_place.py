"""Steps that write over an operand: what the loader refuses, what the plan chooses, and what whole nets then compute.

That the kernels may is tested where they are: tests/kernels/util.py and f32.py run what can be in place twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import irkit
from irkit import _native
from irkit.backend import plan
from irkit.backend.native import bands, chain
from irkit.backend.plan import make_plan
from irkit.backend.table import FALLBACK
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph, Value
from irkit.ir.interp import run as interpret
from irkit.ir.types import Array, TensorType
from irkit.ops import add, const, conv2d, max_pool2d, mul, permute, relu, return_, sigmoid
from tests.kernels.util import ISAS, load_step, same_bits

SAME = [1, 8, 8, 8]
CONV: dict[str, Any] = {"strides": [1, 1], "pads": [0] * 4, "dilation": [1, 1], "groups": 1, "act": "none"}
ZERO: dict[str, Any] = {"zx": 0, "zy": 0, "zr": 0, "mr": 1.0, "lo": -128, "hi": 127}
F, B = np.zeros(SAME, np.float32), np.zeros(SAME, np.int8)
W, M = np.zeros((8, 1, 1, 8), np.int8), np.ones(8, np.float32)
QCONV = {k: v for k, v in CONV.items() if k != "act"} | ZERO
DEPTHWISE = {**CONV, "groups": 8}
PRODUCT = ZERO | {"op": "mul", "ma": 1, "za": 0, "zb": 0}
DENSE, TURNED = [512, 64, 8, 1], [512, 1, 64, 8]


@pytest.mark.parametrize(
    ("family", "inputs", "attrs", "consts", "place", "dtype"),
    [
        ("conv", [F, np.zeros((8, 1, 1, 8), np.float32), None, None, None], CONV, [1], 0, np.float32),
        ("dwconv", [F, np.zeros((8, 1, 1, 1), np.float32), None, F, None], DEPTHWISE, [1], 3, np.float32),
        ("qconv", [B, W, None, M, None], QCONV, [1, 3], 0, np.int8),
        ("eltwise", [F, F], {"code": [32, 0, 1, 0], "imm": [], "strides": DENSE + TURNED}, [], 1, np.float32),
        ("qeltwise", [B, B], PRODUCT | {"sa": TURNED, "sb": DENSE}, [], 0, np.int8),
        ("eltwise", [F], {}, [], 0, np.int32),
        ("move", [F], {"op": "copy", "dims": SAME, "strides": TURNED, "offset": 0}, [], 0, np.float32),
    ],
)  # fmt: skip
def test_kernels_refuse_what_they_cannot_do_in_place(
    family: str, inputs: Sequence[Array | None], attrs: dict[str, Any], consts: Sequence[int], place: int, dtype: Any
) -> None:
    out = [(SAME, dtype)]
    load_step(family, inputs, out, attrs, consts=consts)
    message = rf"step 1 \({family}, '{family}'\): output 0 can't be in place of input {place}"
    with pytest.raises(ArtifactError, match=message):
        load_step(family, inputs, out, attrs, consts=consts, in_place=place)


def test_a_fallback_is_never_in_place() -> None:
    with pytest.raises(ArtifactError, match=r"step 1 .*: output 0 can't be in place of input 0"):
        load_step(FALLBACK, [F], [(SAME, np.float32)], {}, in_place=0)


class Net:
    """A graph under construction, with random constant weights."""

    def __init__(self, *shape: int) -> None:
        self.rng = np.random.default_rng(0)
        self.graph = Graph()
        self.x = self.graph.add_input(TensorType(shape), "x")

    def conv(
        self, x: Value, out: int, k: int = 1, residual: Value | None = None, *, groups: int = 1, loc: str
    ) -> Value:
        c = x.type.shape[1] // groups
        w = self.graph.emit(const, value=(self.rng.standard_normal((out, c, k, k)) / (k * c**0.5)).astype(np.float32))
        pads = (k // 2,) * 4
        y = self.graph.emit(conv2d, x, w.result, pads=pads, groups=groups, loc=loc).result
        return y if residual is None else self.graph.emit(add, y, residual, loc=loc).result

    def then(self, op: Any, *operands: Value, loc: str, **attrs: Any) -> Value:
        return self.graph.emit(op, *operands, loc=loc, **attrs).result


def over(notes: dict[str, str]) -> set[str]:
    return {layer for layer, note in notes.items() if "in place of" in note}


def notes_of(net: Net, target: str, **options: Any) -> dict[str, str]:
    exe = irkit.compile(net.graph, target=target, **options)
    return {r.layer: r.note for r in exe.plan.rows}


def blocks(tail: bool) -> Net:
    """Residual blocks of the common kinds, and steps that read what others could replace."""
    net = Net(2, 16, 12, 12)
    a = net.then(relu, net.conv(net.x, 16, 3, loc="first"), loc="first")
    b = net.then(relu, net.conv(a, 16, 1, a, loc="itself"), loc="itself")  # the data operand dies here as well
    c = net.then(relu, net.conv(b, 16, 3, loc="inner"), loc="inner")
    d = net.then(relu, net.conv(c, 16, 1, b, loc="point"), loc="point")
    e = net.conv(net.conv(d, 32, loc="expand"), 32, 3, groups=32, loc="depth")
    f = net.conv(e, 16, 1, d, loc="project")
    pool: dict[str, Any] = {"kernel": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}
    g = net.conv(net.then(max_pool2d, f, **pool, loc="pool"), 16, 3, groups=16, loc="wide")
    h = net.conv(g, 16, 1, f, loc="late")
    if not tail:
        net.graph.emit(return_, net.conv(h, 16, loc="end"))
        return net
    i = net.conv(net.then(max_pool2d, h, **pool, loc="last"), 16, 1, h, loc="kept")
    j = net.then(permute, net.then(sigmoid, i, loc="gate"), perm=(0, 1, 3, 2), loc="turn")
    net.graph.emit(return_, net.then(mul, net.then(add, i, j, loc="sum"), h, loc="end"))
    return net


CALIBRATION = [np.random.default_rng(s).standard_normal((2, 16, 12, 12)).astype(np.float32) for s in range(16)]


@pytest.mark.parametrize("target", ["native-fp32", "native-int8"])
def test_the_plan_puts_outputs_in_place_of_residuals(target: str) -> None:
    options: dict[str, Any] = {"calibration": CALIBRATION} if target.endswith("int8") else {}
    notes = notes_of(blocks(False), target, **options)
    assert {"point", "project", "late"} <= over(notes), notes
    assert not over(notes) & {"first", "itself", "inner", "expand", "depth", "pool", "wide", "end"}
    assert "; in place of itself" in notes["point"]


def test_a_residual_block_needs_two_places() -> None:
    """Its input, which becomes its output, and what is between."""
    net = Net(1, 16, 12, 12)
    v = net.conv(net.x, 16, loc="first")
    for i in range(3):
        v = net.then(relu, net.conv(net.conv(v, 16, 3, loc=f"a{i}"), 16, 1, v, loc=f"b{i}"), loc=f"b{i}")
    net.graph.emit(return_, net.conv(v, 8, loc="end"))
    exe = irkit.compile(net.graph)
    assert over({r.layer: r.note for r in exe.plan.rows}) == {"b0", "b1", "b2"}
    assert exe.plan.arena_bytes == 2 * 16 * 12 * 12 * 4


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("target", ["native-fp32", "native-int8"])
def test_nets_compute_the_same(target: str, tail: bool, merged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a place for each output, every step of it; int8 as the reference, too. merged: chains run by bands."""
    if merged:
        monkeypatch.setattr(chain, "MIN_BYTES", 0)
        monkeypatch.setattr(bands, "CACHE", dict.fromkeys(bands.CACHE, 0))
        monkeypatch.setattr(bands, "_weight_bytes", lambda s: 0)
    options: dict[str, Any] = {"calibration": CALIBRATION} if target.endswith("int8") else {}
    exe = irkit.compile(blocks(tail).graph, target=target, **options)
    graph, here = exe.graph, make_plan(exe.graph)
    with monkeypatch.context() as m:
        m.setattr(plan, "_replaced", lambda step: iter(()))
        apart = make_plan(graph)
    assert here.arena_bytes <= apart.arena_bytes and "in place" not in str(apart)
    assert tail or {r.family for r in here.rows if "in place" in r.note} >= ({"chain"} if merged else set())
    for isa, threads in itertools.product(ISAS, (1, 2)):
        both = [_native.load_plan(p.to_json(), p.consts, isa, threads) for p in (here, apart)]
        for x in CALIBRATION[:3]:
            first, second = (model.trace([x]) for model in both)
            assert len(first) == len(second) == len(here.rows)
            for row, (a,), (b,) in zip(here.rows, first, second, strict=True):
                assert same_bits(a, b), f"{isa}: {row.layer}"
            (y,) = both[0].run([x])
            assert same_bits(y, both[1].run([x])[0])
            if target.endswith("int8"):
                assert same_bits(y, interpret(graph, x)[0])
