"""kernels/chain: the bits of its stages run one by one, on every ISA and thread count, inside its buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irkit.backend.kernel import Step, lower
from irkit.backend.native.anchor import NHWC
from irkit.backend.native.chain import merge_chains
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph, Value
from irkit.ir.types import Array, DType, Encoding, TensorType
from irkit.ops import const, conv2d
from irkit.ops.conv import conv_shape
from tests.kernels.f32 import ACTS, normal, run_everywhere
from tests.kernels.util import load_step, run_step, same_bits

Stage = tuple[Array, Array | None, Array | None, dict[str, Any]]  # w, bias, slope, attributes


def stage(rng: np.random.Generator, w: tuple[int, ...], groups: int, act: str, **attrs: Any) -> Stage:
    slope = normal(rng, w[0]) if act == "prelu" else None
    full = {"strides": [1, 1], "pads": [0] * 4, "dilation": [1, 1], "groups": groups, **ACTS[act][0], **attrs}
    return normal(rng, *w), normal(rng, w[0]) if rng.integers(2) else None, slope, full


def output_shape(x: tuple[int, ...], s: Stage) -> tuple[int, ...]:
    f32, at = DType.F32, s[3]
    nchw = TensorType((x[0], x[3], x[1], x[2]), f32)
    w = TensorType(tuple(s[0].shape[i] for i in (0, 3, 1, 2)), f32)
    n, o, h, wd = conv_shape(nchw, w, *(tuple(at[k]) for k in ("strides", "pads", "dilation")), at["groups"])
    return n, h, wd, o


def check(x: Array, a: Stage | None, b: Stage, c: Stage | None, residual: bool, rng: np.random.Generator) -> None:
    """The chain against its stages, one by one."""
    y, r = x, None
    for s, family in ((a, "conv"), (b, "dwconv"), (c, "conv")):
        if s is None:
            continue
        shape = output_shape(y.shape, s)
        r = normal(rng, *shape) if residual and s is c else None
        (y,) = run_step(family, [y, s[0], s[1], r, s[2]], [(shape, np.float32)], s[3], consts=[1, 2, 4])
    inputs: list[Array | None] = [x]
    for s in (a, b, c):
        inputs += [None] * 3 if s is None else s[:3]
    attrs = {k: s[3] for k, s in (("a", a), ("b", b), ("c", c)) if s is not None}
    got = run_everywhere("chain", [*inputs, r], y.shape, attrs, range(1, 10))
    assert same_bits(got, y)
    if a is not None and a[0].shape[1:3] != (1, 1):
        attrs["a"] = {**attrs["a"], "planar": 1}
        inputs[0] = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        got = run_everywhere("chain", [*inputs, r], y.shape, attrs, range(1, 10))
        assert same_bits(got, y), "planar"


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    has_a, has_c = [(True, True), (True, False), (False, True)][seed % 3]
    n, h, w, c = (int(v) for v in rng.integers((1, 1, 1, 1), (4, 12, 20, 20)))
    act = lambda: str(rng.choice(list(ACTS)))  # noqa: E731
    a = None
    x = normal(rng, n, h, w, c)
    shape: tuple[int, ...] = x.shape
    mid = int(rng.integers(1, 40)) if has_a else c
    if has_a:
        k = int(rng.choice([1, 1, 3]))
        stride = int(rng.integers(1, 3))
        a = stage(rng, (mid, k, k, c), 1, act(), pads=[k // 2] * 4, strides=[stride] * 2)
        shape = output_shape(shape, a)
    kh, kw, dil = int(rng.integers(1, 6)), int(rng.choice([3, 5])), int(rng.integers(1, 3))
    spans = (kh - 1) * dil + 1, (kw - 1) * dil + 1
    pads = [int(rng.integers(0, s)) for s in (*spans, *spans)]
    pads[2] = max(pads[2], spans[0] - shape[1] - pads[0])
    pads[3] = max(pads[3], spans[1] - shape[2] - pads[1])
    strides = [int(v) for v in rng.integers(1, 4, 2)]
    b = stage(rng, (mid, kh, kw, 1), mid, act(), pads=pads, strides=strides, dilation=[dil, dil])
    last = stage(rng, (int(rng.integers(1, 40)), 1, 1, mid), 1, act()) if has_c else None
    check(x, a, b, last, bool(rng.integers(2)) and has_c, rng)


@pytest.mark.parametrize("seed", range(24))
def test_blocks_of_rows(seed: int) -> None:
    """Images of several blocks of rows: of few pixels, or of many channels, which make a block's bytes."""
    rng = np.random.default_rng(seed)
    has_a, has_c = [(True, True), (True, False), (False, True)][seed % 3]
    n, wide = int(rng.integers(1, 3)), seed % 4 == 0
    h = int(rng.choice([12, 14, 17, 24, 28]))
    w = int(rng.integers(8, 20) if wide else rng.integers(40, 120))
    mid = int(rng.integers(300, 450) if wide else rng.integers(1, 20))
    k, stride = int(rng.choice([3, 5])), int(rng.choice([1, 1, 2, 3]))
    x = normal(rng, n, h, w, int(rng.integers(1, 20)) if has_a else mid)
    first = stage(rng, (mid, 1, 1, x.shape[3]), 1, "clip") if has_a else None
    pads = [k // 2, k // 2, *(int(v) for v in rng.integers(0, k // 2 + 1, 2))]
    b = stage(rng, (mid, k, k, 1), mid, "clip", pads=pads, strides=[stride] * 2)
    last = stage(rng, (int(rng.integers(1, 20)), 1, 1, mid), 1, "none") if has_c else None
    check(x, first, b, last, bool(rng.integers(2)) and has_c, rng)


@pytest.mark.parametrize("stride", [1, 2])
def test_inverted_residual(stride: int) -> None:
    rng = np.random.default_rng(stride)
    a = stage(rng, (48, 1, 1, 8), 1, "clip")
    b = stage(rng, (48, 3, 3, 1), 48, "clip", pads=[1] * 4, strides=[stride] * 2)
    c = stage(rng, (8, 1, 1, 48), 1, "none")
    check(normal(rng, 2, 14, 14, 8), a, b, c, stride == 1, rng)


def nhwc(*shape: int) -> TensorType:
    return TensorType(shape, DType.F32, encoding=Encoding(NHWC))


def steps_of(h: int, *, extra_use: bool = False, kernel: int = 1) -> tuple[Graph, list[Step]]:
    """conv2d 1x1 -> depthwise 3x3 -> conv2d on h x h pixels and 32 channels."""
    g = Graph()
    x: Value = g.add_input(nhwc(1, 32, h, h))
    ops = []
    for o, ci, k, groups in ((32, 32, 1, 1), (32, 1, 3, 32), (8, 32, kernel, 1)):
        w = g.emit(const, value=np.ones((o, ci, k, k), np.float32)).result
        pads = (k // 2,) * 4
        ops.append(g.emit(conv2d, x, w, groups=groups, pads=pads, types=[nhwc(1, o, h, h)]))
        x = ops[-1].result
    if extra_use:
        w = g.emit(const, value=np.ones((4, 32, 1, 1), np.float32)).result
        g.emit(conv2d, ops[0].result, w, types=[nhwc(1, 4, h, h)])
    steps = [lower(op) for op in ops]
    assert all(s is not None for s in steps)
    return g, [s for s in steps if s is not None]


@pytest.mark.parametrize(
    ("options", "families"),
    [
        ({"h": 80}, ["chain"]),
        ({"h": 20}, ["conv", "dwconv", "conv"]),  # small enough for a cache
        ({"h": 80, "kernel": 3}, ["conv", "dwconv", "conv"]),  # one tensor of 800 KiB between the first two
        ({"h": 100, "kernel": 3}, ["chain", "conv"]),
        ({"h": 100, "extra_use": True}, ["conv", "chain"]),
        ({"h": 250}, ["conv", "dwconv", "conv"]),  # rows too wide
    ],
)
def test_what_is_merged(options: dict[str, Any], families: list[str]) -> None:
    _, steps = steps_of(**options)
    merged = merge_chains(steps)
    assert [s.family for s in merged] == families
    assert sum(s.macs for s in merged) == sum(s.macs for s in steps)
    assert merged[-1].outputs == steps[-1].outputs and merged[0].inputs[0] is steps[0].inputs[0]
    left = {v for m in merged for v in m.outputs}  # what else there was is written and read again no more
    assert sum(s.saved for s in merged) == sum(2 * s.outputs[0].type.nbytes for s in steps if s.outputs[0] not in left)


def test_lines_are_cut_where_tensors_are_small() -> None:
    g = Graph()
    x: Value = g.add_input(nhwc(1, 32, 100, 100))
    steps = []
    for o, ci, k, stride, h in ((32, 32, 1, 1, 100), (32, 1, 3, 1, 100), (64, 32, 1, 1, 100), (64, 1, 3, 2, 50)):
        w = g.emit(const, value=np.ones((o, ci, k, k), np.float32)).result
        groups = o if ci == 1 else 1
        pads = (k // 2,) * 4
        attrs = {"groups": groups, "pads": pads, "strides": (stride, stride)}
        op = g.emit(conv2d, x, w, types=[nhwc(1, o, h, h)], **attrs)
        step = lower(op)
        assert step is not None
        steps.append(step)
        x = op.result
    merged = merge_chains(steps)  # not three and one: the 64 channels between the last two are most of the bytes
    assert [list(s.attrs) for s in merged] == [["a", "b"], ["a", "b"]]
    assert [s.outputs for s in merged] == [steps[1].outputs, steps[3].outputs]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": None}, "stages"),
        ({"a": None, "c": None}, "stages"),
        ({"c": {"strides": [2, 2]}}, "extent"),
        ({"a": {"groups": 2}}, "groups"),
        ({"b": {"pads": [9, 0, 0, 0]}}, "fit|extent"),
        ({"a": {"dilation": [0, 1]}}, "dilation"),
    ],
)
def test_bad_chains_are_refused(change: dict[str, Any], message: str) -> None:
    base = {"strides": [1, 1], "pads": [0] * 4, "dilation": [1, 1], "groups": 1, "act": "none"}
    attrs: dict[str, Any] = {"a": base, "b": {**base, "groups": 4}, "c": base}
    for key, new in change.items():
        attrs[key] = None if new is None else {**attrs[key], **new}
    x = np.ones((1, 5, 5, 2), np.float32)
    wa, wb, wc = (np.ones(s, np.float32) for s in ((4, 1, 1, 2), (4, 3, 3, 1), (3, 1, 1, 4)))
    inputs = [x, wa, None, None, wb, None, None, wc, None, None, None]
    attrs = {k: v for k, v in attrs.items() if v is not None}
    with pytest.raises(ArtifactError, match=message):
        load_step("chain", inputs, [((1, 3, 3, 3), np.float32)], attrs, consts=range(1, 10))
