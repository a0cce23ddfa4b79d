"""The move family: strided copies equal NumPy's, element for element."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from irkit.ir.opdef import OpDef
from irkit.ir.types import Array
from irkit.ops import concat, copy, expand, pad, permute, relayout, reshape, slice_
from tests.kernels.run_op import NHWC, cases, reference, run_op
from tests.kernels.util import ISAS

DTYPES = (np.int8, np.int16, np.float32, np.int64)
rng = np.random.default_rng(1)


def sample(shape: tuple[int, ...], dtype: type = np.float32) -> Array:
    return rng.integers(-100, 100, shape).astype(dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", [concat, copy, expand, pad, permute, relayout, reshape, slice_], ids=lambda d: d.name)
def test_cases(opdef: OpDef, isa: str) -> None:
    seen = 0
    for case in cases(opdef):
        want = reference(opdef, case.operands, case.attrs)
        if want.size == 0:
            continue
        got = run_op(opdef, case.operands, case.attrs, isa=isa, threads=2)
        np.testing.assert_array_equal(got, want, err_msg=case.name)
        assert got.dtype == want.dtype
        seen += 1
    assert seen


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c", [1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 64, 130])
def test_relayout_to_channels_last_and_back(c: int, dtype: type, isa: str) -> None:
    for h, w in ((1, 1), (1, 7), (5, 3), (4, 4), (13, 16), (33, 31)):
        x = sample((2, c, h, w), dtype)
        for threads in (1, 2):
            there = run_op(relayout, [x], {}, isa=isa, threads=threads, result_order=NHWC)
            back = run_op(relayout, [x], {}, isa=isa, threads=threads, orders={0: NHWC})
            np.testing.assert_array_equal(there, x)
            np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_permutation(dtype: type) -> None:
    x = sample((3, 5, 2, 9), dtype)
    for perm in itertools.permutations(range(4)):
        for order in (None, NHWC):
            got = run_op(permute, [x], {"perm": perm}, orders={0: order}, result_order=order)
            np.testing.assert_array_equal(got, x.transpose(perm))


@pytest.mark.parametrize("isa", ISAS)
def test_large_transpose_in_many_blocks(isa: str) -> None:
    for dtype, shape in itertools.product(DTYPES, ((1, 300, 41, 43), (1, 3, 150, 151), (1, 1000, 9, 11))):
        x = sample(shape, dtype)
        np.testing.assert_array_equal(run_op(relayout, [x], {}, isa=isa, threads=2, result_order=NHWC), x)
        np.testing.assert_array_equal(run_op(relayout, [x], {}, isa=isa, threads=2, orders={0: NHWC}), x)


@pytest.mark.parametrize("order", [None, NHWC])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_concat_along_every_axis(axis: int, order: tuple[int, ...] | None) -> None:
    xs = []
    for n in (1, 3, 8, 2, 40):
        shape = [2, 3, 4, 5]
        shape[axis] = n
        xs.append(sample(tuple(shape)))
    for orders in ({i: order for i in range(5)}, {0: NHWC, 3: (1, 0, 3, 2)}):
        got = run_op(concat, xs, {"axis": axis}, threads=2, orders=orders, result_order=order)
        np.testing.assert_array_equal(got, np.concatenate(xs, axis))


@pytest.mark.parametrize("order", [None, NHWC])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pads_in_every_mode(dtype: type, mode: str, order: tuple[int, ...] | None) -> None:
    x = sample((2, 3, 6, 5), dtype)
    for pads in (
        ((0, 0), (0, 0), (1, 1), (1, 1)),
        ((0, 0), (0, 0), (0, 5), (4, 0)),
        ((1, 0), (2, 1), (3, 0), (0, 2)),
        ((0, 0),) * 4,
    ):
        attrs = {"pads": pads, "mode": mode, "value": -7}
        got = run_op(pad, [x], attrs, threads=2, orders={0: order}, result_order=order)
        np.testing.assert_array_equal(got, reference(pad, [x], attrs))


def test_pad_value_keeps_its_bits() -> None:
    x = sample((2, 3))
    for value in (float("inf"), -float("inf"), float("nan"), -0.0, 1e-42, 3.4e38):
        got = run_op(pad, [x], {"pads": ((1, 0), (0, 1)), "value": value})
        assert got[0, 0].tobytes() == np.float32(value).tobytes()


@pytest.mark.parametrize("order", [None, NHWC])
def test_slices_with_steps(order: tuple[int, ...] | None) -> None:
    x = sample((2, 6, 9, 8))
    for starts, ends, steps in (
        ((0, 1, 2, 3), (2, 6, 9, 8), (1, 1, 1, 1)),
        ((0, 0, 0, 0), (2, 6, 9, 8), (1, 2, 2, 2)),
        ((1, 3, 0, 7), (2, 4, 9, 8), (1, 1, 3, 1)),
        ((0, 0, 1, 0), (2, 6, 8, 8), (1, 1, 1, 1)),
    ):
        attrs = {"starts": starts, "ends": ends, "steps": steps}
        got = run_op(slice_, [x], attrs, threads=2, orders={0: order}, result_order=order)
        np.testing.assert_array_equal(got, reference(slice_, [x], attrs))


def test_reshape_between_storage_orders() -> None:
    x = sample((2, 6, 4, 5))
    flat = run_op(reshape, [x], {"shape": (2, 120)}, orders={0: NHWC})
    np.testing.assert_array_equal(flat, x.reshape(2, 120))
    back = run_op(reshape, [flat], {"shape": (2, 6, 4, 5)}, result_order=NHWC)
    np.testing.assert_array_equal(back, x)
    groups = run_op(reshape, [x], {"shape": (2, 3, 2, 20)}, orders={0: NHWC}, result_order=NHWC)
    np.testing.assert_array_equal(groups, x.reshape(2, 3, 2, 20))


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize(("inner", "times"), [(1, 2), (7, 3), (40, 2), (40, 15), (15, 15), (3, 40)])
def test_elements_repeated_side_by_side(inner: int, times: int, dtype: type) -> None:
    x = sample((3, 5, inner, 1), dtype)
    got = run_op(expand, [x], {"shape": (3, 5, inner, times)}, threads=2)
    np.testing.assert_array_equal(got, np.broadcast_to(x, (3, 5, inner, times)))


def test_expand_in_channels_last() -> None:
    x = sample((1, 5, 1, 1))
    got = run_op(expand, [x], {"shape": (2, 5, 3, 4)}, orders={0: NHWC}, result_order=NHWC, threads=2)
    np.testing.assert_array_equal(got, np.broadcast_to(x, (2, 5, 3, 4)))
