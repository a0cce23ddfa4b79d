"""kernels/chain/bands.cc: the bits of the reference, layer by layer, on every ISA and thread count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from irkit.backend.artifact import families_of
from irkit.backend.kernel import Const, Step, StepInput, lower
from irkit.backend.native import bands
from irkit.backend.native.bands import merge_bands
from irkit.errors import ArtifactError, RuntimeFailure
from irkit.ir.graph import Graph, Value, const_array
from irkit.ir.types import Array, DType, QArray, Quant, TensorType
from irkit.ops import const, max_pool2d, qavg_pool2d, qconv2d, return_
from tests.kernels.quantized import NHWC, qtensor, qweights
from tests.kernels.util import ISAS, load_step, run_lowered


@dataclass
class Net:
    """A chain of int8 layers on one input, and what the references make of it."""

    rng: np.random.Generator
    graph: Graph
    value: Value
    data: QArray
    arrays: dict[Value, Array]
    steps: list[Step]

    @staticmethod
    def of(rng: np.random.Generator, *shape: int) -> Net:
        g, x = Graph(), qtensor(rng, shape, zero=int(rng.integers(-20, 20)))
        v = g.add_input(TensorType(shape, DType.I8, x.quant, NHWC), "x")
        return Net(rng, g, v, x, {v: x.data}, [])

    def _add(self, op: Any, data: QArray) -> None:
        step = lower(op)
        assert step is not None
        self.steps.append(step)
        self.value, self.data = op.result, data

    def conv(self, out: int, kernel: tuple[int, int], groups: int = 1, residual: bool = False, **attrs: Any) -> None:
        rng, c = self.rng, self.data.shape[1]
        w = qweights(rng, (out, c // groups, *kernel), 0.5 / np.sqrt(c // groups * kernel[0] * kernel[1]) / 73)
        bias = rng.integers(-3000, 3000, out).astype(np.int32) if rng.integers(2) else None
        quant = Quant.per_tensor(0.03, int(rng.integers(-30, 30)))
        full: dict[str, Any] = {"groups": groups, "quant": quant, "lo": -100, **attrs}
        y = qconv2d.fn(self.data, w, bias, None, **full)
        r = rv = None
        if residual:
            r = qtensor(rng, y.shape, zero=3)
            rv = self.graph.add_input(TensorType(r.shape, DType.I8, r.quant, NHWC), "r")
            self.arrays[rv] = r.data
            y = qconv2d.fn(self.data, w, bias, r, **full)
        wv = self.graph.emit(const, value=w.data, quant=w.quant, encoding=NHWC).result
        bv = None if bias is None else self.graph.emit(const, value=bias).result
        t = TensorType(y.shape, DType.I8, quant, NHWC)
        self._add(self.graph.emit(qconv2d, self.value, wv, bv, rv, types=[t], **full), QArray(y, quant))

    def depthwise(self, kernel: tuple[int, int], **attrs: Any) -> None:
        c = self.data.shape[1]
        self.conv(c, kernel, c, **attrs)

    def pool(self, kind: str, **attrs: Any) -> None:
        op, x, quant = max_pool2d, self.data, self.data.quant
        if kind == "avg":
            op, attrs["quant"] = qavg_pool2d, Quant.per_tensor(0.025, -7)
            quant = attrs["quant"]
        y = op.fn(x if kind == "avg" else x.data, **attrs)
        t = TensorType(y.shape, DType.I8, quant, NHWC)
        self._add(self.graph.emit(op, self.value, types=[t], **attrs), QArray(y, quant))

    def merged(self) -> Step:
        """The one step that all layers make when any tensor counts as large."""
        self.graph.emit(return_, self.value)
        (step,) = merge_bands(self.steps, "test")
        assert step.family == "chain"
        return step

    def check(self, isas: tuple[str, ...] = tuple(ISAS), threads: tuple[int, ...] = (1, 2, 3)) -> None:
        step = self.merged()
        for isa in isas:
            for n in threads:
                (got,) = run_lowered(step, self.arrays, isa=isa, threads=n)
                assert np.array_equal(got, self.data.data), f"{isa}, {n} threads"


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bands.CACHE, "test", 0)
    monkeypatch.setattr(bands, "_weight_bytes", lambda s: 0)


@pytest.mark.parametrize("seed", range(40))
def test_random_chains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pick = lambda *v: v[int(rng.integers(len(v)))]  # noqa: E731
    n, c, h, w = (int(v) for v in rng.integers((1, 3, 5, 5), (4, 40, 31, 70)))
    net = Net.of(rng, n, c, h, w)
    if seed % 3:
        k, s = pick((1, 1), (3, 3), (7, 7), (2, 3)), pick(1, 2)
        net.conv(int(rng.integers(2, 100)), k, pads=(k[0] // 2, k[1] // 2) * 2, strides=(s, s))
    for _ in range(int(rng.integers(1, 3))):
        kh, kw = pick((3, 3), (5, 5), (3, 3), (2, 4), (1, 3))
        d, s, p = pick(1, 1, 2), pick(1, 2, 3), pick(kh // 2, kh - 1)
        p = max(p, (kh - 1) * d + 1 - min(net.data.shape[2:]))
        kind = pick("depthwise", "depthwise", "max", "avg") if net.steps else "depthwise"
        if kind == "depthwise":
            q = max(p, (kw - 1) * d + 1 - min(net.data.shape[2:]))
            net.depthwise((kh, kw), pads=(p, q, p, q), strides=(s, s), dilation=(d, d))
        elif min(net.data.shape[2:]) >= 3:
            pad = {"pads": (1, 1, 1, 1), "kernel": (3, 3), "strides": (s, s)}
            net.pool(kind, **pad)
    if seed % 4 != 1 or len(net.steps) < 2:
        net.conv(int(rng.integers(1, 100)), (1, 1), residual=seed % 2 == 0)
    if len(net.steps) < 2:
        net.conv(8, (1, 1))
    net.check()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(1, 7), (2, 56), (9, 112), (33, 28), (40, 14)])
def test_inverted_residual(stride: int, kernel: int, size: tuple[int, int]) -> None:
    """Expand, depthwise, project, with the residual where it fits: from one row to many bands."""
    rng = np.random.default_rng(stride * 100 + kernel * 10 + size[0])
    net = Net.of(rng, 2, 16, *size)
    net.conv(96, (1, 1))
    net.depthwise((kernel, kernel), pads=(kernel // 2,) * 4, strides=(stride, stride))
    net.conv(16, (1, 1), residual=stride == 1)
    net.check()


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_stem_and_pool(kind: str) -> None:
    rng = np.random.default_rng(5)
    net = Net.of(rng, 1, 3, 75, 61)
    net.conv(64, (7, 7), pads=(3, 3, 3, 3), strides=(2, 2))
    net.pool(kind, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    net.conv(32, (1, 1))
    net.check()


def test_many_stages() -> None:
    rng = np.random.default_rng(6)
    net = Net.of(rng, 2, 20, 37, 30)
    for i in range(4):
        net.depthwise((3, 3), pads=(1, 1, 1, 1), strides=(1 + i % 2, 1))
        net.conv(24, (1, 1))
    net.check()


def layers(size: int, *, extra_use: bool = False, wide: int = 48, kernel: int = 1) -> Net:
    """conv2d 1x1 -> depthwise 3x3 -> conv2d on size x size pixels."""
    net = Net.of(np.random.default_rng(0), 1, 8, size, size)
    net.conv(wide, (1, 1))
    first = net.value
    net.depthwise((3, 3), pads=(1, 1, 1, 1))
    net.conv(8, (kernel, kernel), pads=(kernel // 2,) * 4)
    if extra_use:
        net.graph.emit(max_pool2d, first, kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, dilation=(1, 1))
    net.graph.emit(return_, net.value)
    return net


@pytest.mark.parametrize(
    ("arch", "options", "families"),
    [
        ("arm64", {"size": 110}, ["chain"]),
        ("arm64", {"size": 104}, ["qconv", "qdwconv", "qconv"]),  # 519,168 bytes: they stay in the cache
        ("arm64", {"size": 110, "kernel": 3}, ["chain", "qconv"]),  # the last one reads many rows
        ("arm64", {"size": 110, "extra_use": True}, ["qconv", "chain"]),
        ("x86_64", {"size": 110}, ["qconv", "qdwconv", "qconv"]),
        ("x86_64", {"size": 210}, ["chain"]),
    ],
)
def test_what_is_merged(
    arch: str, options: dict[str, Any], families: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    net = layers(**options)
    merged = merge_bands(net.steps, arch)
    assert [s.family for s in merged] == families
    assert sum(s.macs for s in merged) == sum(s.macs for s in net.steps)
    assert merged[-1].outputs == net.steps[-1].outputs
    # What is written and read again no more, beside what each layer had fused before.
    left = {v for m in merged for v in m.outputs}
    inside = sum(v.type.nbytes for t in net.steps for v in t.outputs if v not in left)
    assert sum(s.saved for s in merged) == 2 * inside + sum(s.saved for s in net.steps)
    assert (inside > 0) == ("chain" in families)


def test_weights_that_fill_the_cache_keep_layers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    net = layers(30, wide=600)
    assert len(merge_bands(net.steps, "arm64")) == 1
    monkeypatch.setattr(bands, "_weight_bytes", lambda s: 200 << 10)
    assert len(merge_bands(net.steps, "arm64")) == 2


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        (0, {"family": "qlinear"}, "rank"),
        (0, {"family": "chain", "stages": [{}]}, "chain|stages"),
        (1, {"family": "none"}, "none"),
        (1, {"out": [0, 5, 5]}, "out"),
        (1, {"out": [9, 5, 5]}, "channels|output"),
        (1, {"inputs": 40}, "inputs"),
        (1, {"inputs": 4}, "inputs"),
        (0, {"inputs": 4}, "inputs"),
        (2, {"strides": [2, 2]}, "output"),
        (2, {"groups": 2}, "stage 2|channels"),
        (1, {"pads": [9, 0, 0, 0]}, "output"),
    ],
)
def test_bad_chains_are_refused(stage: int, change: dict[str, Any], message: str) -> None:
    net = layers(5)
    step = merge_bands(net.steps, "test")[0]
    inputs = [np.zeros((1, 5, 5, 8), np.int8), *(stored(v) for v in step.inputs[1:])]
    good = [dict(s) for s in step.attrs["stages"]]
    consts = [i for i, a in enumerate(inputs) if i and a is not None]
    load = lambda stages: load_step("chain", inputs, [((1, 5, 5, 8), np.int8)], {"stages": stages}, consts=consts)  # noqa: E731
    load(good)
    bad = [{**s, **change} if k == stage else s for k, s in enumerate(good)]
    with pytest.raises((ArtifactError, RuntimeFailure), match=message):
        load(bad)
    with pytest.raises(ArtifactError, match="2 to 8 stages"):
        load(good[:1])


def test_an_export_has_the_families_of_the_stages() -> None:
    step = merge_bands(layers(5).steps, "test")[0]
    document = {"steps": [{"family": step.family, "attrs": step.attrs}, {"family": "move", "attrs": {}}]}
    assert families_of(document) == {"chain", "qconv", "qdwconv", "move"}


def stored(v: StepInput) -> Array | None:
    """The array of a constant, as the artifact holds it."""
    if v is None or isinstance(v, Const):
        return None if v is None else v.array
    value = const_array(v)
    assert value is not None
    return np.ascontiguousarray(v.type.to_storage(value))
