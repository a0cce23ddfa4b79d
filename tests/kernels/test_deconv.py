"""kernels/deconv: same bits on every ISA and thread count, within the bound of the exact sum, inside its buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irkit.backend.kernel import Const, lower
from irkit.backend.native.anchor import NHWC
from irkit.errors import ArtifactError
from irkit.ir.graph import Graph
from irkit.ir.types import DType, Encoding, TensorType
from irkit.ops import const, conv_transpose2d
from tests.kernels.f32 import assert_bound, normal, run_everywhere
from tests.kernels.util import load_step


def nhwc(shape: tuple[int, ...]) -> TensorType:
    return TensorType(shape, DType.F32, encoding=Encoding(NHWC))


def deconv_case(
    rng: np.random.Generator,
    x: tuple[int, int, int, int],
    o: int,
    k: tuple[int, int],
    *,
    bias: bool = True,
    **attrs: Any,
) -> None:
    """conv_transpose2d on random NCHW data, lowered and run, against its float64 reference."""
    groups = attrs.get("groups", 1)
    xs, ws = normal(rng, *x), normal(rng, x[1], o // groups, *k)
    bs = normal(rng, o) if bias else None
    wide = [None if a is None else a.astype(np.float64) for a in (xs, ws, bs)]
    exact = conv_transpose2d.fn(*wide, **attrs)
    magnitude = conv_transpose2d.fn(*(None if a is None else np.abs(a) for a in wide), **attrs)
    g = Graph()
    vx, vw = g.add_input(nhwc(xs.shape)), g.emit(const, value=ws).result
    vb = None if bs is None else g.emit(const, value=bs).result
    step = lower(g.emit(conv_transpose2d, vx, vw, vb, types=[nhwc(exact.shape)], **attrs))
    assert step is not None and step.family == "deconv"
    held = step.inputs[1]
    assert isinstance(held, Const)
    inputs = [xs.transpose(0, 2, 3, 1).copy(), held.array, bs, None, None]
    got = run_everywhere("deconv", inputs, exact.transpose(0, 2, 3, 1).shape, step.attrs, [1, 2])
    assert_bound(got.transpose(0, 3, 1, 2), exact, magnitude, x[1] // groups * k[0] * k[1], 1.0)


@pytest.mark.parametrize("seed", range(60))
def test_random_geometry(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2, 3]))
    k, strides, dilation = (
        (int(a), int(b)) for a, b in (rng.integers(1, 6, 2), rng.integers(1, 5, 2), rng.integers(1, 4, 2))
    )
    h, w = (int(v) for v in rng.integers(1, 9, 2))
    extra = [int(rng.integers(0, max(strides[i], dilation[i]))) for i in (0, 1)]
    pads = [0, 0, 0, 0]
    for i, extent in ((0, h), (1, w)):
        room = (extent - 1) * strides[i] + (k[i] - 1) * dilation[i] + extra[i]
        pads[i] = int(rng.integers(0, min(room, 4) + 1))
        pads[i + 2] = int(rng.integers(0, min(room - pads[i], 4) + 1))
    deconv_case(
        rng,
        (int(rng.integers(1, 3)), groups * int(rng.integers(1, 10)), h, w),
        groups * int(rng.integers(1, 40)),
        k,
        bias=bool(rng.integers(2)),
        strides=strides,
        pads=tuple(pads),
        output_padding=tuple(extra),
        dilation=dilation,
        groups=groups,
    )


def test_common_upsamplings() -> None:
    rng = np.random.default_rng(0)
    deconv_case(rng, (1, 32, 7, 7), 16, (4, 4), strides=(2, 2), pads=(1, 1, 1, 1))
    deconv_case(rng, (1, 16, 6, 5), 33, (2, 2), strides=(2, 2))
    deconv_case(rng, (1, 8, 5, 5), 8, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1))
    deconv_case(rng, (1, 4, 1, 30), 5, (1, 8), strides=(1, 4), pads=(0, 2, 0, 2))
    deconv_case(rng, (1, 3, 3, 3), 4, (2, 2), strides=(3, 3))  # outputs that no input reaches: the bias alone


def test_wrong_extent_is_refused() -> None:
    attrs = {
        "strides": [2, 2],
        "pads": [0] * 4,
        "output_padding": [0, 0],
        "dilation": [1, 1],
        "groups": 1,
        "act": "none",
    }
    x, w = np.ones((1, 3, 3, 2), np.float32), np.ones((4, 2, 2, 2), np.float32)
    with pytest.raises(ArtifactError, match="extent"):
        load_step("deconv", [x, w, None, None, None], [((1, 6, 7, 4), np.float32)], attrs, consts=[1])
