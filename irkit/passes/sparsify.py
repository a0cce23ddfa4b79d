"""Sparse storage of weights, where a sparse kernel takes them and is predicted to win."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from irkit.ir.graph import Graph, Operation, const_array
from irkit.ir.passes import Effect, Pass
from irkit.ir.types import DType, Encoding
from irkit.ops import const, conv2d, linear
from irkit.sparse.cost import sparse_wins


def claimed_by_kernel(op: Operation) -> bool:
    """True for what the sparse kernel computes: float linear, and 1x1 conv2d of stride 1 without padding or groups."""
    if op.opdef not in (conv2d, linear) or op.result.type.dtype is not DType.F32:
        return False
    if op.opdef is linear:
        return True
    a = op.attrs
    one = op.operand("w").type.shape[2:] == (1, 1)
    return one and a["strides"] == (1, 1) and not any(a["pads"]) and a["groups"] == 1


@dataclass(frozen=True)
class Sparsify(Pass):
    """Sets the storage of constant weights to CSR where that is predicted to be faster (``irkit.sparse.cost``).

    ``density``, when given, is the highest fraction of non-zeros that is still encoded, whatever the prediction says.
    Weights named in ``sparse`` and ``dense`` are stored so whatever the prediction says: what has been measured.
    Weights that any other kind of operation uses stay dense. The numbers don't change.
    """

    effect: ClassVar[Effect] = Effect.EXACT
    density: float | None = None
    sparse: tuple[str, ...] = field(default=(), repr=False)
    dense: tuple[str, ...] = field(default=(), repr=False)

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = False
        for op in graph.ops:
            if op.opdef is not const or op.result.type.encoding.sparse is not None:
                continue
            w = op.result
            a = const_array(w)
            users = w.users
            if a is None or not users or w.type.dtype is not DType.F32:
                continue
            if not all(claimed_by_kernel(u) and u.operand("w") is w and u.operands.count(w) == 1 for u in users):
                continue
            rows = min(u.result.type.size // w.type.shape[0] for u in users)
            density = 1.0 if w.name in self.sparse else 0.0 if w.name in self.dense else self.density
            if not sparse_wins(rows, a.size, int(np.count_nonzero(a)), density):
                continue
            encoding = replace(op.attrs["encoding"] or Encoding(), sparse="csr")
            new = graph.emit(const, before=op, loc=op.loc, names=[w.name], **{**op.attrs, "encoding": encoding})
            w.replace_all_uses(new.result)
            graph.erase(op)
            changed = True
        return changed
