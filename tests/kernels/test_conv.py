"""kernels/conv: same bits on every ISA and thread count, within the bound of the exact sum, inside its buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.backend.native.anchor import NHWC
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import Array, Encoding, TensorType
from irkit.ops import add, const, conv2d, fused, relu, return_
from tests.kernels.f32 import ACTS, assert_bound, normal, run_everywhere
from tests.kernels.util import ISAS, load_step, run_lowered


def conv_case(
    rng: np.random.Generator,
    x: tuple[int, int, int, int],
    o: int,
    k: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    bias: bool = True,
    residual: bool = False,
    act: str = "none",
    family: str = "conv",
    planar: bool = False,
    isas: Sequence[str] = ISAS,
) -> None:
    """One step with random data, x in NHWC (stored so, or planar), against the float64 reference of conv2d."""
    n, h, wd, c = x
    xs, ws = normal(rng, n, h, wd, c), normal(rng, o, *k, c // groups)
    bs = normal(rng, o) if bias else None
    attrs = {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups}

    def reference(x: Array, w: Array, b: Array | None) -> Array:
        b64 = None if b is None else b.astype(np.float64)
        y = conv2d.fn(
            x.astype(np.float64).transpose(0, 3, 1, 2), w.astype(np.float64).transpose(0, 3, 1, 2), b64, **attrs
        )
        return np.ascontiguousarray(y.transpose(0, 2, 3, 1))

    exact = reference(xs, ws, bs)
    magnitude = reference(np.abs(xs), np.abs(ws), None if bs is None else np.abs(bs))
    rs = normal(rng, *exact.shape) if residual else None
    if rs is not None:
        exact, magnitude = exact + rs, magnitude + np.abs(rs)
    act_attrs, fn, gain = ACTS[act]
    slope = normal(rng, o if o % 2 else 1) if act == "prelu" else None
    gain *= 1 if slope is None else 1 + float(np.abs(slope).max())
    few = groups == 1 and dilation[1] == 1 and (c < 8 if k != (1, 1) else c <= 16 and exact.shape[2] > 1)
    pairs = planar and exact.shape[2] > 1 and not residual  # two columns fill a vector
    narrow = c <= 8 if family == "dwconv" else few and o <= 8 and not pairs  # one vector of AVX2
    weaker = {"avx512": "avx2"} if narrow else {}
    full: dict[str, Any] = {**attrs, **act_attrs, **({"planar": 1} if planar else {})}
    stored = np.ascontiguousarray(xs.transpose(0, 3, 1, 2)) if planar else xs
    got = run_everywhere(family, [stored, ws, bs, rs, slope], exact.shape, full, [1, 2, 4], isas, weaker)
    exact = fn(exact, slope if slope is not None else np.zeros(1))
    assert_bound(got, exact, magnitude, c // groups * k[0] * k[1], gain)


@pytest.mark.parametrize("o", [1, 3, 8, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 80])
def test_every_tail_of_rows_and_columns(o: int) -> None:
    rng = np.random.default_rng(o)
    for m in range(1, 30):
        conv_case(rng, (1, 1, m, 1 + m % 7), o, (1, 1), bias=m % 3 > 0, act="relu" if m % 2 else "none")


@pytest.mark.parametrize("c", [1, 2, 3, 5, 7, 13, 31, 64])
def test_depths(c: int) -> None:
    conv_case(np.random.default_rng(c), (1, 5, 6, c), 20, (3, 3), pads=(1, 1, 1, 1), act="clip")


@pytest.mark.parametrize("seed", range(60))
def test_random_geometry(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    groups = int(rng.choice([1, 1, 1, 2, 3, 5]))
    k = (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    pads = tuple(int(p) for p in rng.integers(0, 4, 4))
    span = [(k[i] - 1) * dilation[i] + 1 for i in (0, 1)]
    h = max(1, span[0] - pads[0] - pads[2]) + int(rng.integers(0, 9))
    w = max(1, span[1] - pads[1] - pads[3]) + int(rng.integers(0, 15))
    conv_case(
        rng,
        (int(rng.integers(1, 4)), h, w, groups * int(rng.integers(1, 12))),
        groups * int(rng.integers(1, 40)),
        k,
        strides=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        dilation=dilation,
        groups=groups,
        bias=bool(rng.integers(2)),
        residual=bool(rng.integers(2)),
        act=str(rng.choice(list(ACTS))),
        planar=groups == 1 and dilation[1] == 1 and k != (1, 1) and seed % 2 == 0,
    )


@pytest.mark.parametrize("act", list(ACTS))
@pytest.mark.parametrize("residual", [False, True])
def test_epilogues(act: str, residual: bool) -> None:
    for o in (5, 16, 40):
        conv_case(np.random.default_rng(o), (1, 4, 5, 9), o, (3, 3), pads=(1, 1, 1, 1), act=act, residual=residual)


def test_stem_and_wide_kernels() -> None:
    rng = np.random.default_rng(0)
    conv_case(rng, (1, 32, 31, 3), 32, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), act="relu")
    conv_case(rng, (2, 21, 23, 3), 24, (7, 7), strides=(2, 2), pads=(3, 3, 3, 3))
    conv_case(rng, (1, 9, 9, 4), 8, (9, 9))
    conv_case(rng, (1, 1, 50, 6), 12, (1, 11), pads=(0, 5, 0, 5))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("c", range(1, 8))
def test_few_input_channels(c: int, planar: bool) -> None:
    rng = np.random.default_rng(c)
    for width in range(1, 28):
        o = (5, 8, 16, 30, 40, 64, 77)[(width + c) % 7]
        s = 1 + width % 3
        act = list(ACTS)[width % len(ACTS)]
        pads, residual, x = (1, 1, 1, 1), width % 4 == 0, (1, 4, width * s, c)
        conv_case(rng, x, o, (3, 3), strides=(s, s), pads=pads, act=act, residual=residual, planar=planar)
    x = (2, 90, 40, c)  # several bands
    conv_case(rng, x, 24, (5, 2), strides=(2, 1), pads=(2, 0, 2, 1), act="relu", planar=planar)


@pytest.mark.parametrize("o", [1, 4, 5, 7, 8, 9, 16, 24, 33, 48, 64, 100])
def test_planar_images_of_every_width(o: int) -> None:
    rng = np.random.default_rng(o)
    for width in range(1, 70):
        s, kw, act = 1 + width % 4, 1 + width % 5, list(ACTS)[width % len(ACTS)]
        pads = (width % 3, width % kw, 1, (width // 2) % kw)
        conv_case(rng, (1, 3, width + kw, 1 + width % 3), o, (2, kw), strides=(1, s), pads=pads, act=act, planar=True)
    conv_case(rng, (2, 15, 225, 3), o, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), act="relu", planar=True)


def test_few_input_channels_far_beside_the_input() -> None:
    rng = np.random.default_rng(0)
    for planar in (False, True):
        conv_case(rng, (1, 3, 1, 3), 20, (2, 2), strides=(1, 3), pads=(4, 5, 0, 0), planar=planar)
        conv_case(rng, (1, 2, 5, 2), 9, (3, 2), strides=(2, 2), pads=(0, 0, 6, 7), dilation=(3, 1), planar=planar)
        conv_case(rng, (1, 2, 40, 2), 8, (1, 2), strides=(1, 1), pads=(0, 50, 0, 90), planar=planar)
    conv_case(rng, (1, 40, 100, 9), 20, (9, 9), pads=(4, 4, 4, 4), planar=True)  # more channels than few
    conv_case(rng, (1, 4, 300, 7), 8, (4, 3), strides=(1, 99), planar=True)  # a stride beyond few.cc's


def test_weights_larger_than_a_cache() -> None:
    conv_case(np.random.default_rng(3), (1, 3, 3, 300), 150, (3, 3), pads=(1, 1, 1, 1))
    conv_case(np.random.default_rng(4), (1, 4, 13, 600), 260, (1, 1), residual=True)


def test_nan_and_infinity_pass_through() -> None:
    x = np.ones((1, 1, 4, 2), np.float32)
    x[0, 0, 0, 0], x[0, 0, 1, 0], x[0, 0, 2, 1] = np.nan, np.inf, -np.inf
    w = np.ones((17, 1, 1, 2), np.float32)
    attrs = {"strides": [1, 1], "pads": [0] * 4, "dilation": [1, 1], "groups": 1, "act": "clip", "lo": 0.0, "hi": 6.0}
    for isa in ISAS:
        model, feed = load_step(
            "conv", [x, w, None, None, None], [((1, 1, 4, 17), np.float32)], attrs, isa=isa, consts=[1]
        )
        y = model.run(feed)[0]
        assert np.isnan(y[0, 0, 0]).all() and (y[0, 0, 1] == 6).all() and (y[0, 0, 2] == 0).all()


def nhwc(*shape: int) -> TensorType:
    from irkit.ir.types import DType

    return TensorType(shape, DType.F32, encoding=Encoding(NHWC))


@pytest.mark.parametrize("order", [None, NHWC])
def test_lowering_of_a_fused_body(order: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(7)
    x, w, b, r = normal(rng, 2, 6, 5, 4), normal(rng, 8, 6, 3, 3), normal(rng, 8), normal(rng, 2, 8, 5, 4)
    attrs: dict[str, Any] = {"pads": (1, 1, 1, 1)}
    g = Graph()
    vx, vr = g.add_input(nhwc(*x.shape), "x"), g.add_input(nhwc(*r.shape), "r")
    vw = g.emit(const, value=w, encoding=Encoding(order)).result
    vb = g.emit(const, value=b).result
    body = Graph("body")
    bx, bw, bb, br = (body.add_input(v.type.logical()) for v in (vx, vw, vb, vr))
    y = body.emit(conv2d, bx, bw, bb, **attrs).result
    body.emit(return_, body.emit(relu, body.emit(add, y, br).result).result)
    op = g.emit(fused, vx, vw, vb, vr, body=body, types=[nhwc(*r.shape)])
    g.emit(return_, op.result)
    step = lower(op)
    assert step is not None and step.family == "conv" and step.macs == 2 * 8 * 5 * 4 * 6 * 9
    assert step.note == "fused residual, relu"
    (got,) = run_lowered(step, {vx: x, vr: r})
    wide = [a.astype(np.float64) for a in (x, w, b)]
    np.testing.assert_allclose(got, np.maximum(conv2d.fn(*wide, **attrs) + r, 0), rtol=0, atol=1e-5)


def test_lowering_leaves_other_cases_alone() -> None:
    g = Graph()
    x = g.add_input(nhwc(1, 4, 3, 3))
    w = g.add_input(nhwc(4, 4, 1, 1))
    assert lower(g.emit(conv2d, x, w, types=[nhwc(1, 4, 3, 3)])) is None, "weights must be constant"
    held = g.emit(const, value=np.ones((4, 4, 1, 1), np.float32)).result
    assert lower(g.emit(conv2d, x, held)) is None, "the result is not channels-last"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 2}, "groups"),
        ({"groups": 0}, "groups"),
        ({"strides": [0, 1]}, "strides"),
        ({"pads": [1, 0, 0, 0]}, "extent"),
        ({"act": "gelu"}, "gelu"),
        ({"act": "clip", "lo": 1.0, "hi": 0.0}, "empty"),
        ({"act": "prelu"}, "slopes"),
        ({"planar": 1, "dilation": [1, 2], "pads": [0, 0, 0, 1]}, "planar"),
        ({"planar": 1, "winograd": 2}, "planar"),
    ],
)
def test_bad_attributes_are_refused(change: dict[str, Any], message: str) -> None:
    attrs = {"strides": [1, 1], "pads": [0] * 4, "dilation": [1, 1], "groups": 1, "act": "none", **change}
    x, w = np.ones((1, 3, 3, 3), np.float32), np.ones((4, 2, 2, 3), np.float32)
    with pytest.raises(ArtifactError, match=message):
        load_step("conv", [x, w, None, None, None], [((1, 2, 2, 4), np.float32)], attrs, consts=[1])


def test_bad_operands_are_refused() -> None:
    attrs = {"strides": [1, 1], "pads": [0] * 4, "dilation": [1, 1], "groups": 1, "act": "none"}
    x, w, y = np.ones((1, 3, 3, 3), np.float32), np.ones((4, 2, 2, 3), np.float32), [((1, 2, 2, 4), np.float32)]
    b = np.ones(4, np.float32)
    for inputs, consts, message in [
        ([x, w, None, None, None], [], "constant"),
        ([x, w, None, None], [1], "inputs"),
        ([x, w, b[:3], None, None], [1, 2], "entries"),
        ([x, w, None, b, None], [1], "residual"),
    ]:
        with pytest.raises(ArtifactError, match=message):
            load_step("conv", inputs, y, attrs, consts=consts)
