"""Runs one op through its lowering and native kernel, in any storage order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from irkit.backend import native  # noqa: F401  (registers the lowerings)
from irkit.backend.kernel import Step, lower
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import Case, OpDef
from irkit.ir.types import Array, DType, Encoding, QArray, TensorType
from irkit.ops import const
from tests.kernels.util import guarded, run_lowered

NHWC = (0, 2, 3, 1)
Order = tuple[int, ...] | None


def cases(opdef: OpDef) -> Iterator[Case]:
    """The op's own samples that hold at least one element everywhere."""
    for case in opdef.cases():
        arrays = [o.data if isinstance(o, QArray) else o for o in case.operands if o is not None]
        if all(np.size(a) for a in arrays):
            yield case


def make_op(
    opdef: OpDef,
    operands: Sequence[Any],
    attrs: Mapping[str, Any],
    *,
    consts: Sequence[int] = (),
    orders: Mapping[int, Order] | None = None,
    result_order: Order = None,
) -> tuple[Operation, dict[Value, Array]]:
    """The operation in a graph of its own, and the logical arrays of its variable operands.

    ``consts``: operands that are constants. ``orders``: storage order by operand; ``result_order``: of the result.
    """
    g = Graph()
    values: list[Value | None] = []
    given: dict[Value, Array] = {}
    for i, o in enumerate(operands):
        if o is None:
            values.append(None)
            continue
        data, quant = (o.data, o.quant) if isinstance(o, QArray) else (np.asarray(o), None)
        encoding = Encoding((orders or {}).get(i))
        if i in consts:
            values.append(g.emit(const, value=data, quant=quant, encoding=encoding).result)
            continue
        v = g.add_input(TensorType(data.shape, DType.of(data.dtype), quant, encoding), f"x{i}")
        given[v] = data
        values.append(v)
    op = Operation(opdef, values, attrs)
    if result_order is not None:
        op = Operation(opdef, values, attrs, types=[r.type.with_order(result_order) for r in op.results])
    return g.append(op), given


def reference(opdef: OpDef, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Array:
    """The op's meaning on these operands."""
    raw = [o.data if isinstance(o, QArray) and "int8" not in opdef.tags else o for o in operands]
    return np.asarray(opdef.fn(*raw, **attrs))


def run_step(step: Step, given: Mapping[Value, Array], **options: Any) -> Array:
    """The logical result of a step. Its inputs end right before an inaccessible page and must stay unchanged."""
    arrays = {v: v.type.from_storage(guarded(v.type.to_storage(a))) for v, a in given.items()}
    (result,) = run_lowered(step, arrays, **options)
    for v, a in given.items():
        assert arrays[v].tobytes() == a.tobytes(), "the kernel wrote to its input"
    return result


def run_op(
    opdef: OpDef,
    operands: Sequence[Any],
    attrs: Mapping[str, Any],
    *,
    isa: str | None = None,
    threads: int = 1,
    **how: Any,
) -> Array:
    """The op's native result as a logical array; AssertionError when no kernel takes it."""
    op, given = make_op(opdef, operands, attrs, **how)
    step = lower(op)
    assert step is not None, f"no native kernel takes {opdef.name}"
    return run_step(step, given, isa=isa, threads=threads)
