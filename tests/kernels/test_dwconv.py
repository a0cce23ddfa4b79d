"""kernels/dwconv: same bits on every ISA and thread count, within the bound of the exact sum, inside its buffers."""

from __future__ import annotations

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.backend.native.anchor import NHWC
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import DType, Encoding, TensorType
from irkit.ops import const, conv2d
from tests.kernels.f32 import ACTS, normal
from tests.kernels.test_conv import conv_case
from tests.kernels.util import load_step, run_lowered


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_width_and_channel_tail(k: int, stride: int) -> None:
    rng = np.random.default_rng(10 * k + stride)
    p = k // 2
    for width in range(1, 20):
        c = (1, 2, 15, 16, 17, 33, 48)[width % 7]
        conv_case(
            rng, (1, 6, width, c), c, (k, k), strides=(stride, stride), pads=(p, p, p, p), groups=c, family="dwconv"
        )


@pytest.mark.parametrize("seed", range(50))
def test_random_geometry(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fast = bool(rng.integers(2))
    k = (int(rng.choice([3, 5])),) * 2 if fast else (int(rng.integers(1, 6)), int(rng.integers(1, 8)))
    dilation = (1, 1) if fast else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    pads = tuple(int(p) for p in rng.integers(0, 4, 4))
    span = [(k[i] - 1) * dilation[i] + 1 for i in (0, 1)]
    c = int(rng.integers(1, 70))
    conv_case(
        rng,
        (
            int(rng.integers(1, 3)),
            max(1, span[0] - pads[0] - pads[2]) + int(rng.integers(0, 12)),
            max(1, span[1] - pads[1] - pads[3]) + int(rng.integers(0, 20)),
            c,
        ),
        c,
        (k[0], k[1]),
        strides=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        dilation=dilation,
        groups=c,
        bias=bool(rng.integers(2)),
        residual=bool(rng.integers(2)),
        act=str(rng.choice(list(ACTS))),
        family="dwconv",
    )


@pytest.mark.parametrize("act", list(ACTS))
@pytest.mark.parametrize("residual", [False, True])
def test_epilogues(act: str, residual: bool) -> None:
    conv_case(
        np.random.default_rng(1), (1, 7, 9, 37), 37, (3, 3), pads=(1, 1, 1, 1), groups=37, act=act, residual=residual,
        family="dwconv",
    )  # fmt: skip


def test_channel_blocks() -> None:
    conv_case(np.random.default_rng(2), (1, 5, 60, 200), 200, (3, 3), pads=(1, 1, 1, 1), groups=200, family="dwconv")


@pytest.mark.parametrize("shape", [(1, 75, 42, 70), (1, 9, 15, 512), (2, 9, 11, 1024)])
@pytest.mark.parametrize("stride", [1, 2])
def test_tiles_in_the_order_of_memory(shape: tuple[int, int, int, int], stride: int) -> None:
    rng, c = np.random.default_rng(3), shape[3]
    conv_case(rng, shape, c, (3, 3), strides=(stride, stride), pads=(1, 1, 1, 1), groups=c, act="clip", family="dwconv")


def nhwc(*shape: int) -> TensorType:
    return TensorType(shape, DType.F32, encoding=Encoding(NHWC))


@pytest.mark.parametrize(("multiplier", "family"), [(1, "dwconv"), (2, "conv")])
def test_lowering(multiplier: int, family: str) -> None:
    rng = np.random.default_rng(3)
    x, w = normal(rng, 1, 6, 8, 7), normal(rng, 6 * multiplier, 1, 3, 3)
    g = Graph()
    vx, vw = g.add_input(nhwc(*x.shape)), g.emit(const, value=w).result
    op = g.emit(conv2d, vx, vw, groups=6, pads=(1, 1, 1, 1), types=[nhwc(1, 6 * multiplier, 8, 7)])
    step = lower(op)
    assert step is not None and step.family == family
    (got,) = run_lowered(step, {vx: x})
    exact = conv2d.fn(x.astype(np.float64), w.astype(np.float64), groups=6, pads=(1, 1, 1, 1))
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-5)


def test_other_groups_are_refused() -> None:
    attrs = {"strides": [1, 1], "pads": [0] * 4, "dilation": [1, 1], "groups": 2, "act": "none"}
    x, w = np.ones((1, 3, 3, 4), np.float32), np.ones((4, 1, 1, 2), np.float32)
    with pytest.raises(ArtifactError, match="one filter a channel"):
        load_step("dwconv", [x, w, None, None, None], [((1, 3, 3, 4), np.float32)], attrs, consts=[1])
