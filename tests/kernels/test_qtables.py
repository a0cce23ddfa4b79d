"""qlut, qpool, qreduce and qsoftmax equal their references bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from irkit.backend.kernel import lower
from irkit.errors import ArtifactError
from irkit.ir.opdef import OpDef
from irkit.ir.types import QArray, Quant
from irkit.ops import qavg_pool2d, qlut, qmean, qsoftmax
from irkit.ops.quantized import softmax_table
from tests.kernels.run_op import NHWC, cases, make_op, reference, run_op, run_step
from tests.kernels.util import ISAS

Y = Quant.per_tensor(0.03, 11)
CHANNELS = (1, 3, 8, 15, 16, 17, 33, 64, 70, 130, 256, 300)
rng = np.random.default_rng(3)


def int8(*shape: int, scale: float = 0.05, zero: int = 0) -> QArray:
    return QArray(rng.integers(-128, 128, shape).astype(np.int8), Quant.per_tensor(scale, zero))


def check(opdef: OpDef, operands: list[object], attrs: dict[str, object], isa: str, **how: object) -> None:
    want = reference(opdef, operands, attrs)
    if opdef in (qlut, qsoftmax):
        how["consts"] = (1,)
    for threads in (1, 2):
        got = run_op(opdef, operands, attrs, isa=isa, threads=threads, **how)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("opdef", [qlut, qavg_pool2d, qmean, qsoftmax], ids=lambda d: d.name)
def test_cases(opdef: OpDef, isa: str) -> None:
    seen = 0
    for case in cases(opdef):
        check(opdef, list(case.operands), dict(case.attrs), isa)
        if opdef is qavg_pool2d:
            check(opdef, list(case.operands), dict(case.attrs), isa, orders={0: NHWC}, result_order=NHWC)
        seen += 1
    assert seen


@pytest.mark.parametrize("isa", ISAS)
def test_lut_of_every_value_and_length(isa: str) -> None:
    every = QArray(np.tile(np.arange(-128, 128).astype(np.int8), 3), Quant.per_tensor(1.0))
    for _ in range(5):
        check(qlut, [every, rng.integers(-128, 128, 256).astype(np.int8)], {"quant": Y}, isa)
    table = rng.integers(-128, 128, 256).astype(np.int8)
    for n in (1, 15, 16, 31, 32, 33, 63, 64, 65, 127, 4095, 4096, 4097, 9000):
        check(qlut, [int8(n), table], {"quant": Y}, isa)


@pytest.mark.parametrize("isa", ISAS)
def test_lut_per_channel(isa: str) -> None:
    for c in (1, 2, 17):
        table = rng.integers(-128, 128, (c, 256)).astype(np.int8)
        for order in (None, NHWC):
            check(qlut, [int8(2, c, 3, 5), table], {"quant": Y}, isa, orders={0: order}, result_order=order)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("c", CHANNELS)
def test_pool_over_channel_counts(c: int, isa: str) -> None:
    attrs = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil": (0, 1), "quant": Y}
    for zero, include in itertools.product((-128, 127), (True, False)):
        x = int8(2, c, 7, 6, zero=zero)
        check(qavg_pool2d, [x], {**attrs, "count_include_pad": include}, isa, orders={0: NHWC}, result_order=NHWC)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("c", CHANNELS)
def test_global_mean(c: int, isa: str) -> None:
    for keepdims, (h, w) in itertools.product((True, False), ((1, 1), (7, 5), (33, 31))):
        x = int8(2, c, h, w, zero=-128)
        order = NHWC if keepdims else None
        check(qmean, [x], {"axes": (2, 3), "keepdims": keepdims, "quant": Y}, isa, orders={0: NHWC}, result_order=order)


def test_mean_over_every_set_of_axes() -> None:
    x = int8(3, 5, 2, 18, zero=9)
    for n in (1, 2, 3, 4):
        for axes in itertools.combinations(range(4), n):
            for order in (None, NHWC, (1, 0, 3, 2)):
                attrs = {"axes": axes, "keepdims": True, "quant": Y}
                check(qmean, [x], attrs, ISAS[-1], orders={0: order}, result_order=order)
                check(qmean, [x], {**attrs, "keepdims": False}, ISAS[-1], orders={0: order})


@pytest.mark.parametrize("isa", ISAS)
def test_mean_of_extremes_is_exact(isa: str) -> None:
    x = QArray(np.full((1, 40, 200, 200), -128, np.int8), Quant.per_tensor(0.05, 127))
    check(qmean, [x], {"axes": (2, 3), "quant": Quant.per_tensor(0.11, 127)}, isa)
    check(qmean, [x], {"axes": (2, 3), "quant": Quant.per_tensor(0.11, 127)}, isa, orders={0: NHWC})


@pytest.mark.parametrize("isa", ISAS)
def test_softmax_lengths_and_axes(isa: str) -> None:
    for scale in (0.02, 0.5):
        table = softmax_table(scale)
        for n in (1, 2, 7, 8, 9, 63, 64, 65, 1000):
            for quant in (None, Quant.per_tensor(1 / 256, -128), Quant.per_tensor(1 / 127, 0)):
                check(qsoftmax, [int8(3, n, scale=scale), table], {"axis": 1, "quant": quant}, isa)
                check(qsoftmax, [int8(2, n, 5, scale=scale), table], {"axis": 1, "quant": quant}, isa)


@pytest.mark.parametrize(
    ("opdef", "key", "value", "message"),
    [
        (qavg_pool2d, "strides", [0, 1], "strides"),
        (qavg_pool2d, "kernel", [2, 7], "do not give"),
        (qavg_pool2d, "pads", [2**30, 0, 2**30, 0], "do not give"),
        (qavg_pool2d, "sx", 0.0, "scales"),
        (qavg_pool2d, "axis", 3, "axis"),
        (qmean, "strides", [1, 10**9], "reads element"),
        (qmean, "sum_dims", [7, 2**40], r"overflow|reads element"),
        (qmean, "m", float("inf"), "not finite"),
        (qsoftmax, "axis", 4, "axis"),
        (qsoftmax, "m", -float("inf"), "not finite"),
    ],
)
def test_bad_steps_are_refused(opdef: OpDef, key: str, value: object, message: str) -> None:
    attrs: dict[str, object] = {"quant": Y}
    operands: list[object] = [int8(2, 3, 6, 6)]
    if opdef is qavg_pool2d:
        attrs |= {"kernel": (2, 2), "strides": (2, 2)}
    elif opdef is qmean:
        attrs |= {"axes": (2, 3)}
    else:
        attrs |= {"axis": 1}
        operands.append(softmax_table(0.05))
    op, given = make_op(opdef, operands, attrs, consts=(1,))
    step = lower(op)
    assert step is not None
    step.attrs[key] = value
    with pytest.raises(ArtifactError, match=message):
        run_step(step, given)


def test_bad_softmax_tables_are_refused() -> None:
    op, given = make_op(qsoftmax, [int8(2, 3), softmax_table(0.1)], {"axis": 1, "quant": Y}, consts=(1,))
    step = lower(op)
    assert step is not None
    for index, value in ((0, 0), (255, -1)):
        table = softmax_table(0.1)
        table[index] = value
        bad, _ = make_op(qsoftmax, [int8(2, 3), table], {"axis": 1, "quant": Y}, consts=(1,))
        assert lower(bad) is None
        step.inputs[1] = bad.operand("table")
        with pytest.raises(ArtifactError, match="table entry"):
            run_step(step, given)
