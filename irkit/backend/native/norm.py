"""Layer normalisation. (Batch norm that stays in the graph is an elementwise program, see eltwise.py.)"""

from __future__ import annotations

import numpy as np

from irkit.backend.kernel import Const, Step, StepInput, lowering
from irkit.ir.graph import Operation, Value, const_array
from irkit.ir.types import DType
from irkit.ops import layer_norm


def _factor(value: Value | None, axes: tuple[int, ...], name: str) -> StepInput | bool:
    """gamma or beta in the order of the normalised axes in memory; False when that takes a copy at run time."""
    if value is None:
        return None
    if value.type.order == axes:
        return value
    held = const_array(value)
    return False if held is None else Const(np.ascontiguousarray(np.transpose(held, axes)), name)


@lowering(layer_norm)
def lower_layer_norm(op: Operation) -> Step | None:
    """f32; the normalised axes must be the innermost ones in memory, in any order."""
    x = op.operand("x")
    t = x.type
    first = op.attrs["axis"] % t.rank if t.rank else 0
    inner = t.order[first:]
    if t.dtype is not DType.F32 or t.size == 0 or t.order != op.result.type.order or min(inner, default=0) < first:
        return None
    axes = tuple(a - first for a in inner)
    name = op.loc or "layer_norm"
    gamma = _factor(op.get("gamma"), axes, f"{name}.gamma")
    beta = _factor(op.get("beta"), axes, f"{name}.beta")
    if isinstance(gamma, bool) or isinstance(beta, bool):
        return None
    n = int(np.prod([t.shape[a] for a in inner]))
    return Step("norm", [x, gamma, beta], [op.result], {"n": n, "eps": float(op.attrs["eps"])})
