"""Random int8 layers, and their comparison with the references on every ISA level and thread count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import irkit.backend.native  # noqa: F401  (registers the lowerings)
from irkit.backend.kernel import Step, lower
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array, DType, Encoding, QArray, Quant, TensorType
from irkit.ops import const, return_
from tests.kernels.util import ISAS, guarded, load_step, run_lowered

NHWC = Encoding((0, 2, 3, 1))


def qtensor(rng: np.random.Generator, shape: Sequence[int], scale: float = 0.03, zero: int = 0) -> QArray:
    """Random int8 data over the whole range, the ends included."""
    data = rng.integers(-128, 128, shape).astype(np.int8)
    flat = data.reshape(-1)
    flat[:1], flat[-1:] = -128, 127
    return QArray(data, Quant.per_tensor(scale, zero))


def qweights(rng: np.random.Generator, shape: Sequence[int], scale: float = 0.01) -> QArray:
    """Random symmetric weights with a scale for each output channel."""
    data = rng.integers(-127, 128, shape).astype(np.int8)
    scales = scale * rng.uniform(0.5, 2.0, shape[0])
    return QArray(data, Quant(tuple(scales.tolist()), (0,) * shape[0], 0))


def layer(opdef: OpDef, x: QArray, w: QArray, bias: Array | None, residual: QArray | None, **attrs: Any) -> Operation:
    """The op on constant weights, with the storage orders that kernels want."""
    order = NHWC if w.data.ndim == 4 else Encoding()
    g = Graph()
    xv = g.add_input(TensorType(x.shape, DType.I8, x.quant, order), "x")
    rv = None if residual is None else g.add_input(TensorType(residual.shape, DType.I8, residual.quant, order), "r")
    wv = g.emit(const, value=w.data, quant=w.quant, encoding=order if w.data.ndim == 4 else None, names=["w"]).result
    bv = None if bias is None else g.emit(const, value=bias, names=["b"]).result
    op = Operation(opdef, [xv, wv, bv, rv], attrs)
    (t,) = (v.type for v in op.results)
    op.drop_operands()
    op = g.emit(opdef, xv, wv, bv, rv, types=[TensorType(t.shape, t.dtype, t.quant, order)], **attrs)
    g.emit(return_, op.result)
    return op


def lowered(op: Operation, family: str) -> Step:
    step = lower(op)
    assert step is not None and step.family == family
    return step


def check(
    family: str,
    opdef: OpDef,
    x: QArray,
    w: QArray,
    bias: Array | None = None,
    residual: QArray | None = None,
    *,
    threads: Sequence[int] = (1,),
    isas: Sequence[str] = ISAS,
    **attrs: Any,
) -> None:
    """The kernel's bits equal the reference's on every ISA level."""
    op = layer(opdef, x, w, bias, residual, **attrs)
    want = opdef.fn(x, w, bias, residual, **attrs)
    step = lowered(op, family)
    arrays: dict[Value, Array] = {op.operand("x"): x.data}
    if residual is not None:
        arrays[op.operand("residual")] = residual.data
    for isa in isas:
        for n in threads:
            (got,) = run_lowered(step, arrays, isa=isa, threads=n)
            assert got.dtype == want.dtype and got.shape == want.shape
            bad = np.argwhere(got != want)
            assert not len(bad), f"{isa}, {n} threads: {len(bad)} of {want.size} differ, first {bad[0].tolist()}"


def check_guarded(family: str, op: Operation, arrays: dict[Value, Array], want: Array, isa: str) -> None:
    """The same with every buffer, constants too, ending at an unreadable page."""
    step = lowered(op, family)
    inputs: list[Array | None] = []
    consts: list[int] = []
    for i, v in enumerate(step.inputs):
        if v is None:
            inputs.append(None)
            continue
        if isinstance(v, Value) and v in arrays:
            a = v.type.to_storage(arrays[v])
        elif isinstance(v, Value):
            assert v.producer is not None
            a = v.type.to_storage(v.producer.attrs["value"].array)
            consts.append(i)
        else:
            a = v.array
            consts.append(i)
        inputs.append(guarded(np.ascontiguousarray(a)))
    y = step.outputs[0].type
    shape = y.storage_shape
    before = [None if a is None else a.copy() for a in inputs]
    model, feed = load_step(step.family, inputs, [(shape, y.dtype.numpy)], step.attrs, isa=isa, consts=consts)
    (got,) = model.run(feed)
    assert np.array_equal(y.from_storage(got), want)
    for a, b in zip(inputs, before, strict=True):
        assert a is None or np.array_equal(a, b), "a kernel wrote to its input"
