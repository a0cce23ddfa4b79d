"""Winograd's method in kernels/conv: same bits on every ISA and thread count, within its bound of the direct sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import irkit
from irkit.backend.kernel import lower
from irkit.backend.native.anchor import NHWC
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import Array, DType, Encoding, TensorType
from irkit.ops import conv2d, relu, return_
from irkit.ops.winograd import winograd_bound, winograd_products, winograd_transforms
from irkit.passes.winograd import best_tile
from tests.kernels.f32 import ACTS, normal, run_everywhere
from tests.kernels.util import ISAS, load_step

TILES = (2, 4)
BASE: dict[str, Any] = {"strides": [1, 1], "dilation": [1, 1], "groups": 1, "act": "none"}


def channels_last(a: Array) -> Array:
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1))


def exact_conv(x: Array, w: Array, b: Array | None, pads: tuple[int, ...]) -> Array:
    wide = [None if a is None else a.astype(np.float64) for a in (x, w, b)]
    return conv2d.fn(*wide, pads=pads)


def winograd_case(
    rng: np.random.Generator,
    x: tuple[int, int, int, int],
    o: int,
    tile: int,
    *,
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    bias: bool = True,
    residual: bool = False,
    act: str = "none",
) -> float:
    """One step with random data, x [N, H, W, C]; returns the largest part of its bound that the error reaches."""
    n, h, wd, c = x
    xs, ws = normal(rng, n, c, h, wd), normal(rng, o, c, 3, 3)
    bs = normal(rng, o) if bias else None
    exact = exact_conv(xs, ws, bs, pads)
    bound = winograd_bound(xs, ws, bs, pads=pads, tile=tile)
    rs = normal(rng, *exact.shape) if residual else None
    if rs is not None:
        exact, bound = exact + rs, bound + 2.0**-24 * (np.abs(exact) + np.abs(rs))
    act_attrs, fn, gain = ACTS[act]
    slope = normal(rng, o if o % 2 else 1) if act == "prelu" else None
    gain *= 1 if slope is None else 1 + float(np.abs(slope).max())
    wanted = fn(channels_last(exact), slope if slope is not None else np.zeros(1))
    inputs = [channels_last(xs), channels_last(ws), bs, None if rs is None else channels_last(rs), slope]
    attrs = {**BASE, **act_attrs, "pads": list(pads), "winograd": tile}
    got = run_everywhere("conv", inputs, wanted.shape, attrs, [1, 2, 4])
    limit = gain * (channels_last(bound) + 2.0**-22 * np.abs(wanted)) + 1e-30
    worst = float(np.max(np.abs(got.astype(np.float64) - wanted) / limit))
    assert worst <= 1, f"error is {worst:.3g} of its bound"
    return worst


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("o", [1, 3, 8, 15, 16, 17, 33, 48, 65])
def test_every_tail_of_columns(tile: int, o: int) -> None:
    rng = np.random.default_rng(o)
    for c in (1, 3, 4, 7, 16, 19):
        winograd_case(rng, (1, 5, 6, c), o, tile, bias=c % 2 > 0, act="relu" if c % 3 else "none")


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("h", range(1, 12))
def test_every_tail_of_pixels(tile: int, h: int) -> None:
    rng = np.random.default_rng(h)
    for w in (1, 2, 3, 4, 5, 7, 9, 17):
        winograd_case(rng, (1 + w % 2, h, w, 5), 6, tile, residual=w % 3 > 0)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("seed", range(12))
def test_random_geometry(tile: int, seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    pads = tuple(int(p) for p in rng.integers(0, 4, 4))
    h, w = (max(1, 3 - pads[i] - pads[i + 2]) + int(rng.integers(0, 14)) for i in (0, 1))
    winograd_case(
        rng,
        (int(rng.integers(1, 4)), h, w, int(rng.integers(1, 40))),
        int(rng.integers(1, 70)),
        tile,
        pads=(pads[0], pads[1], pads[2], pads[3]),
        bias=bool(rng.integers(2)),
        residual=bool(rng.integers(2)),
        act=str(rng.choice(list(ACTS))),
    )


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("act", list(ACTS))
@pytest.mark.parametrize("residual", [False, True])
def test_epilogues(tile: int, act: str, residual: bool) -> None:
    for o in (5, 16, 40):
        winograd_case(np.random.default_rng(o), (1, 6, 5, 9), o, tile, act=act, residual=residual)


@pytest.mark.parametrize("tile", TILES)
def test_many_blocks(tile: int) -> None:
    """More tiles than one block holds, and weights larger than a cache."""
    winograd_case(np.random.default_rng(1), (1, 37, 41, 48), 40, tile)
    winograd_case(np.random.default_rng(2), (1, 7, 7, 160), 272, tile, residual=True)


@pytest.mark.parametrize(("tile", "times"), [(2, 1.0), (4, 3.0)])
def test_typical_error_is_near_that_of_the_direct_sum(tile: int, times: float) -> None:
    """The bound is for the worst signs. On such data tiles of 2 err less than direct sums (0.76), of 4 more (2.1)."""
    rng = np.random.default_rng(5)
    x, w = np.maximum(normal(rng, 1, 64, 20, 20), 0), normal(rng, 64, 64, 3, 3)
    exact, rms = channels_last(exact_conv(x, w, None, (1, 1, 1, 1))), []
    for how in ({}, {"winograd": tile}):
        attrs = {**BASE, "pads": [1] * 4, **how}
        inputs = [channels_last(x), channels_last(w), None, None, None]
        model, feed = load_step("conv", inputs, [(exact.shape, np.float32)], attrs, consts=[1])
        rms.append(float(np.sqrt(np.mean((model.run(feed)[0] - exact) ** 2))))
    assert 0 < rms[1] <= times * rms[0]


@pytest.mark.parametrize("tile", TILES)
def test_infinity_stays_near(tile: int) -> None:
    x = np.ones((1, 12, 12, 2), np.float32)
    x[0, 0, 0, 0] = np.inf
    w = np.ones((3, 3, 3, 2), np.float32)
    attrs = {**BASE, "pads": [1] * 4, "winograd": tile}
    results = []
    for isa in ISAS:
        out = [((1, 12, 12, 3), np.float32)]
        model, feed = load_step("conv", [x, w, None, None, None], out, attrs, isa=isa, consts=[1])
        results.append(model.run(feed)[0])
        assert not np.isfinite(results[-1][0, :2, :2]).any() and np.isfinite(results[-1][0, 4:, 4:]).all()
    assert all(np.array_equal(r, results[0], equal_nan=True) for r in results)


@pytest.mark.parametrize("tile", TILES)
def test_transforms_are_the_convolution(tile: int) -> None:
    bt, g, at = winograd_transforms(tile)
    rng = np.random.default_rng(0)
    d, k = rng.standard_normal(tile + 2), rng.standard_normal(3)
    direct = [d[i : i + 3] @ k for i in range(tile)]
    np.testing.assert_allclose(at @ ((g @ k) * (bt @ d)), direct, rtol=0, atol=1e-13)
    assert np.array_equal(bt, bt.astype(np.float32)) and np.array_equal(at, at.astype(np.float32))
    assert winograd_products((1, 3, 4 * tile, tile + 1), tile) == 3 * 4 * 2 * (tile + 2) ** 2


def test_shapes_decide() -> None:
    assert best_tile((1, 64, 56, 56), 64) == 4
    assert best_tile((1, 16, 32, 32), 16) == 4
    assert best_tile((1, 64, 56, 56), 3) is None, "the transforms of the output cost more than the sums"
    assert best_tile((1, 64, 1, 1), 64) is None, "one pixel in a tile"


def nhwc(*shape: int) -> TensorType:
    return TensorType(shape, DType.F32, encoding=Encoding(NHWC))


def test_lowering_says_what_is_saved() -> None:
    from irkit.ops import const

    g = Graph()
    x = g.add_input(nhwc(1, 4, 8, 8), "x")
    w = g.emit(const, value=np.ones((4, 4, 3, 3), np.float32), encoding=Encoding(NHWC, winograd=4)).result
    step = lower(g.emit(conv2d, x, w, pads=(1, 1, 1, 1), types=[nhwc(1, 4, 8, 8)]))
    assert step is not None and step.attrs["winograd"] == 4
    assert step.macs == 4 * 64 * 4 * 9, "of the convolution that was asked for"
    assert step.note == "Winograd F(4x4, 3x3): 75% fewer multiplications"


def test_can_be_switched_off() -> None:
    from irkit.ops import const

    rng = np.random.default_rng(3)
    g = Graph()
    x = g.add_input(TensorType((1, 32, 20, 20)), "x")
    w = g.emit(const, value=normal(rng, 32, 32, 3, 3)).result
    y = g.emit(conv2d, x, w, pads=(1, 1, 1, 1), loc="conv").result
    g.emit(return_, g.emit(relu, y).result)
    on, off = irkit.compile(g), irkit.compile(g, winograd=False)
    assert "F(4x4, 3x3)" in str(on.plan) and "winograd" in on.plan.rows[1].kernel + str(on.plan)
    assert "Winograd" not in str(off.plan)
    sample = normal(rng, 1, 32, 20, 20)
    a, b = on(sample), off(sample)
    assert not np.array_equal(a, b)
    bound = 2 * winograd_bound(sample, np.asarray(w.producer.attrs["value"].array), pads=(1, 1, 1, 1), tile=4)  # type: ignore[union-attr]
    assert (np.abs(a - b) <= bound).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"winograd": 3}, "expected 2 or 4"),
        ({"winograd": 6}, "winograd"),
        ({"winograd": 2, "strides": [2, 2], "pads": [2, 2, 1, 1]}, "stride"),
        ({"winograd": 2, "dilation": [2, 2], "pads": [2] * 4}, "dilation"),
        ({"winograd": 2, "groups": 2}, "groups"),
    ],
)
def test_bad_steps_are_refused(change: dict[str, Any], message: str) -> None:
    attrs = {**BASE, "pads": [1] * 4, **change}
    x, w = np.ones((1, 4, 4, 4), np.float32), np.ones((4, 3, 3, 4 // attrs["groups"]), np.float32)
    side = 3 if change.get("strides") else 4
    with pytest.raises(ArtifactError, match=message):
        load_step("conv", [x, w, None, None, None], [((1, side, side, 4), np.float32)], attrs, consts=[1])
