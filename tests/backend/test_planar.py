"""First convolutions that read the image as it is stored: which ones do, and that the answers have the same bits."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import irkit
from irkit.backend import select as selection
from irkit.backend.executable import instantiate
from irkit.backend.plan import make_plan
from irkit.ir.graph import Graph
from irkit.ir.types import Array, Quant, TensorType
from irkit.ops import const, conv2d, max_pool2d, quantize, relu, return_
from irkit.passes.layout import _Layout
from irkit.pipeline import LOWER, optimize
from irkit.target import Target
from tests.kernels.util import same_bits


def net(
    shape: tuple[int, int, int, int] = (1, 3, 20, 20), *, k: int = 3, depthwise: bool = False, **attrs: Any
) -> Graph:
    """conv2d on a row-major image [-> depthwise conv2d], lowered."""
    rng = np.random.default_rng(1)
    c = shape[1]
    g = Graph()
    x = g.add_input(TensorType(shape), "x")
    w = rng.standard_normal((16, c // attrs.get("groups", 1), k, k)).astype(np.float32)
    y = g.emit(conv2d, x, g.emit(const, value=w).result, loc="first", **{"pads": (k // 2,) * 4, **attrs}).result
    if depthwise:
        w = rng.standard_normal((16, 1, 3, 3)).astype(np.float32)
        y = g.emit(conv2d, y, g.emit(const, value=w).result, groups=16, pads=(1, 1, 1, 1)).result
    g.emit(return_, g.emit(relu, y).result)
    return optimize(g, LOWER)


def saved(notes: list[str]) -> float:
    """KB that the rows of a plan say fusion saves."""
    return sum(float(kb) for note in notes for kb in re.findall(r"saves (\S+) KB", note))


def run(g: Graph, target: str = "x86_64-fp32") -> tuple[list[str], list[str], Array]:
    """Families, notes, and the answer."""
    goal = Target.parse(target)
    plan = make_plan(g, goal)
    x = np.random.default_rng(2).standard_normal(g.inputs[0].type.shape).astype(np.float32)
    (y,) = instantiate(g, plan, target=goal).run_flat([x])
    return [s["family"] for s in plan.document["steps"]], [r.note for r in plan.rows], y


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shape": (2, 3, 33, 48), "strides": (2, 2)},
        {"shape": (1, 7, 9, 11), "k": 5},
        {"shape": (1, 3, 160, 160), "depthwise": True},  # a chain
    ],
)
def test_the_image_is_read_as_it_is(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    families, notes, y = run(net(**options))
    assert "move" not in families[:-1], "only the answer is turned around"
    size = np.prod(net(**options).inputs[0].type.shape)
    assert "reads the planar image" in notes[0]
    assert families[0] == ("chain" if options.get("depthwise") else "conv")
    monkeypatch.setattr(selection, "read_planar", lambda steps, arch: steps)
    families, before, other = run(net(**options))
    assert families[0] == "move" and same_bits(y, other)
    assert abs(saved(notes) - saved(before) - 8 * size / 1e3) < 0.3


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, "arm64-fp32"),  # whose kernels copy no rows
        ({"shape": (1, 8, 20, 20)}, "x86_64-fp32"),
        ({"k": 1}, "x86_64-fp32"),
        ({"shape": (1, 4, 20, 20), "groups": 2}, "x86_64-fp32"),
        ({"dilation": (1, 2)}, "x86_64-fp32"),
        ({"strides": (1, 64), "shape": (1, 3, 4, 200)}, "x86_64-fp32"),
        ({"shape": (1, 3, 3, 60000)}, "x86_64-fp32"),
    ],
)
def test_what_is_turned_around_first(options: dict[str, Any], target: str) -> None:
    families, notes, _ = run(net(**options), target)
    assert families[0] == "move" and not any("planar" in n for n in notes)


def test_an_image_with_two_readers_is_turned_around_once() -> None:
    g = Graph()
    x = g.add_input(TensorType((1, 3, 12, 12)), "x")
    ys = []
    for o in (8, 16):
        w = np.random.default_rng(o).standard_normal((o, 3, 3, 3)).astype(np.float32)
        ys.append(g.emit(conv2d, x, g.emit(const, value=w).result).result)
    g.emit(return_, *ys)
    doc = make_plan(optimize(g, LOWER), Target.parse("x86_64-fp32")).document
    assert [s["family"] for s in doc["steps"]] == ["move", "conv", "conv", "move", "move"]


def int8_net(channels: int, target: str) -> tuple[list[str], list[str], Array]:
    """Families, notes and the answer of a conv2d on a row-major image, compiled to int8."""
    rng = np.random.default_rng(3)
    g = Graph()
    x = g.add_input(TensorType((1, channels, 21, 17)), "x")
    w = rng.standard_normal((8, channels, 3, 3)).astype(np.float32)
    y = g.emit(conv2d, x, g.emit(const, value=w).result, pads=(1, 1, 1, 1), loc="first").result
    g.emit(return_, g.emit(relu, y).result)
    data = [rng.standard_normal((1, channels, 21, 17)).astype(np.float32) for _ in range(32)]
    exe = irkit.compile(g, target=target, calibration=data)
    return [s["family"] for s in exe.plan.document["steps"]], [r.note for r in exe.plan.rows], exe(data[0])


@pytest.mark.parametrize("target", ["x86_64-int8", "arm64-int8"])
def test_quantize_makes_pixels_of_planes(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    families, notes, y = int8_net(3, target)
    assert families[:2] == ["qeltwise", "qconv"]
    assert notes[0] == f"channels last on the way; saves {2 * 3 * 21 * 17 / 1e3:.1f} KB"
    monkeypatch.setattr(_Layout, "quantize_turned", lambda layout: None)
    families, _, other = int8_net(3, target)
    assert families[:3] == ["qeltwise", "move", "qconv"] and same_bits(y, other)


def test_four_planes_are_turned_around_after_quantize() -> None:
    families, _, _ = int8_net(4, "x86_64-int8")
    assert families[:3] == ["qeltwise", "move", "qconv"]


@pytest.mark.parametrize("with_reader", [False, True])
def test_a_quantized_image_that_is_an_output_stays_as_it_is(with_reader: bool) -> None:
    g = Graph()
    x = g.add_input(TensorType((1, 3, 12, 12)), "x")
    q = g.emit(quantize, x, quant=Quant((0.1,), (3,))).result
    pooled = [g.emit(max_pool2d, q, kernel=(2, 2), strides=(2, 2)).result] if with_reader else []
    g.emit(return_, q, *pooled)
    doc = make_plan(optimize(g, LOWER), Target.parse("x86_64-int8")).document
    families = [s["family"] for s in doc["steps"]]
    assert families[: 1 + with_reader] == ["qeltwise", "move"][: 1 + with_reader]
    assert "planar" not in doc["steps"][0]["attrs"]
