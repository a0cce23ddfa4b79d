"""Pooling and resizing: maxima and nearest equal, averages within the bound of rounding, the same bits on every ISA."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array
from irkit.ops import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d, resize2d
from tests.kernels.run_op import NHWC, cases, make_op, reference, run_op, run_step
from tests.kernels.util import ISAS

POOLS = [max_pool2d, avg_pool2d, adaptive_max_pool2d, adaptive_avg_pool2d]
CHANNELS = (1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 130, 300)
EPS = 2.0**-24
rng = np.random.default_rng(4)


def check(opdef: OpDef, x: Array, attrs: dict[str, object], order: tuple[int, ...] | None) -> None:
    """Equal to the reference within rounding, and the same bits for every ISA and thread count."""
    want = reference(opdef, [x], attrs)
    first: Array | None = None
    for isa, threads in itertools.product(ISAS, (1, 2)):
        got = run_op(opdef, [x], attrs, isa=isa, threads=threads, orders={0: order}, result_order=order)
        assert got.dtype == want.dtype
        if first is None:
            first = got
            if opdef in (avg_pool2d, adaptive_avg_pool2d):
                # n - 1 additions and a division round once each, in the kernel and in the reference
                terms = x.shape[2] * x.shape[3] if opdef is adaptive_avg_pool2d else int(np.prod(attrs["kernel"]))
                bound = 2 * (terms + 1) * EPS * np.abs(x[np.isfinite(x)]).max(initial=0)
                np.testing.assert_allclose(got, want, rtol=0, atol=bound)
            else:
                np.testing.assert_array_equal(got, want)
        assert got.tobytes() == first.tobytes(), (isa, threads)


@pytest.mark.parametrize("order", [None, NHWC])
@pytest.mark.parametrize("opdef", [*POOLS, resize2d], ids=lambda d: d.name)
def test_cases(opdef: OpDef, order: tuple[int, ...] | None) -> None:
    seen = 0
    for case in cases(opdef):
        check(opdef, case.operands[0], dict(case.attrs), order)
        seen += 1
    assert seen


@pytest.mark.parametrize("c", CHANNELS)
def test_channel_counts(c: int) -> None:
    x = rng.normal(0, 3, (2, c, 7, 6)).astype(np.float32)
    window = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    check(max_pool2d, x, window, NHWC)
    q = rng.integers(-128, 128, x.shape).astype(np.int8)
    check(max_pool2d, q, window, NHWC)
    check(max_pool2d, q, {"kernel": (2, 2), "strides": (2, 2)}, NHWC)
    check(avg_pool2d, x, {**window, "count_include_pad": False}, NHWC)
    check(avg_pool2d, x, {**window, "ceil": (0, 1)}, NHWC)
    check(adaptive_avg_pool2d, x, {"output": (3, 4)}, NHWC)
    check(adaptive_max_pool2d, x, {"output": (1, 1)}, NHWC)
    check(resize2d, x, {"size": (11, 5), "mode": "bilinear", "coords": "half_pixel"}, NHWC)
    check(resize2d, x, {"size": (14, 12), "mode": "nearest", "coords": "asymmetric"}, NHWC)


@pytest.mark.parametrize("order", [None, NHWC])
def test_windows(order: tuple[int, ...] | None) -> None:
    x = rng.normal(0, 3, (1, 9, 11, 13)).astype(np.float32)
    q = rng.integers(-128, 128, x.shape).astype(np.int8)
    for k, s, d in itertools.product(((1, 1), (2, 3), (5, 1)), ((1, 1), (2, 3)), ((1, 1), (2, 2))):
        for pads in ((0, 0, 0, 0), (1, 0, 0, 1)):
            if k == (1, 1) and any(pads):
                continue  # windows of nothing but padding are not allowed
            attrs = {"kernel": k, "strides": s, "pads": pads, "dilation": d}
            if max(pads) <= (k[0] - 1) * d[0] and max(pads) <= (k[1] - 1) * d[1]:
                check(max_pool2d, x, attrs, order)
                check(max_pool2d, q, attrs, order)
            if d == (1, 1):
                del attrs["dilation"]
                check(avg_pool2d, x, attrs, order)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.int64, np.float64])
@pytest.mark.parametrize("order", [None, NHWC])
def test_nearest_moves_any_dtype(order: tuple[int, ...] | None, dtype: type) -> None:
    x = rng.integers(-100, 100, (2, 5, 6, 7)).astype(dtype)
    for size, coords in itertools.product(((12, 14), (3, 20), (1, 1)), ("asymmetric", "half_pixel")):
        check(resize2d, x, {"size": size, "mode": "nearest", "coords": coords}, order)


@pytest.mark.parametrize("isa", ISAS)
def test_rows_of_the_same_source_in_parts_of_two_threads(isa: str) -> None:
    """A part must not copy the row above from a part that another thread has yet to write."""
    x = rng.normal(0, 3, (1, 16, 31, 60)).astype(np.float32)
    attrs = {"size": (31 * 9, 300), "mode": "nearest", "coords": "asymmetric"}
    for k in range(1, 5):  # other values each time: what was left in memory is not the answer
        want = reference(resize2d, [k * x], attrs)
        got = run_op(resize2d, [k * x], attrs, isa=isa, threads=2, orders={0: NHWC}, result_order=NHWC)
        np.testing.assert_array_equal(got, want)


def test_bilinear_has_the_bits_of_its_reference() -> None:
    x = rng.normal(0, 3, (1, 5, 9, 8)).astype(np.float32)
    for size, coords in itertools.product(((17, 3), (9, 8), (1, 1)), ("half_pixel", "align_corners", "asymmetric")):
        check(resize2d, x, {"size": size, "mode": "bilinear", "coords": coords}, NHWC)


def test_nan_and_infinities_in_maxima() -> None:
    x = rng.normal(0, 3, (1, 40, 8, 8)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.1] = -np.inf
    x[0, 3] = -np.inf
    check(max_pool2d, x, {"kernel": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}, NHWC)
    check(adaptive_max_pool2d, x, {"output": (3, 3)}, NHWC)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kernel", [0, 2], "kernel"),
        ("strides", [1, 0], "strides"),
        ("dilation", [0, 1], "dilation"),
        ("dilation", [2**30, 2**30], "do not give"),
        ("kernel", [9, 2], "do not give"),
        ("pads", [5, 0, 0, 0], "do not give"),
        ("pads", [-1, 0, 0, 0], "pads"),
        ("axis", 2, "differs"),
        ("op", "median", "unknown op"),
    ],
)
def test_bad_pools_are_refused(key: str, value: object, message: str) -> None:
    x = np.zeros((1, 3, 6, 7), np.float32)
    op, given = make_op(max_pool2d, [x], {"kernel": (2, 2), "strides": (2, 2)}, orders={0: NHWC}, result_order=NHWC)
    step = lower(op)
    assert step is not None
    step.attrs[key] = value
    with pytest.raises(ArtifactError, match=message):
        run_step(step, given)


def test_windows_of_padding_alone_are_refused() -> None:
    x = np.zeros((1, 3, 6, 6), np.float32)
    op, given = make_op(max_pool2d, [x], {"kernel": (2, 2), "strides": (1, 1)})
    step = lower(op)
    assert step is not None
    step.attrs |= {"pads": [2, 0, 0, 0], "kernel": [4, 2]}
    run_step(step, given)
    step.attrs |= {"pads": [4, 0, 0, 0], "kernel": [2, 2], "strides": [2, 1]}
    with pytest.raises(ArtifactError, match="holds nothing"):
        run_step(step, given)


def test_bad_resize_tables_are_refused() -> None:
    x = np.zeros((1, 3, 4, 4), np.float32)
    op, given = make_op(resize2d, [x], {"size": (8, 8), "mode": "nearest", "coords": "asymmetric"})
    for entry in (4, -1, 2**31 - 1):
        step = lower(op)
        assert step is not None
        step.inputs[1].array[3] = entry
        with pytest.raises(ArtifactError, match="out of range"):
            run_step(step, given)
