"""Constant folding, by the interpreter: an op folds because it has a reference, not because someone wrote a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irkit.ir.graph import Graph, Operation, const_array
from irkit.ir.interp import Interpreter, call
from irkit.ir.passes import Effect, Pass
from irkit.ir.rewrite import erase_dead
from irkit.ir.types import ROW_MAJOR, Array, Literal
from irkit.ops import const, copy, dequantize, fused, return_

_KEPT = (const, return_, copy, dequantize)  # dequantize of weights is how the graph says that they are int8


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Computes operations whose operands are all constants.

    A result of more than ``limit`` elements is folded only when it is no larger than the constants it is made of, so
    that an artifact does not grow by what is cheap to compute.
    """

    effect: ClassVar[Effect] = Effect.EXACT
    limit: int = 1 << 16

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = False
        for op in graph.ops:
            arrays = self._operands(op)
            if arrays is None:
                continue
            with np.errstate(all="ignore"):
                results: Sequence[Array]
                if op.opdef is fused and op.body is not None:
                    results = Interpreter(op.body)(*(a for a in arrays if a is not None))
                else:
                    results = call(op, arrays)
            for old, value in zip(op.results, results, strict=True):
                t = old.type
                encoding = None if t.encoding == ROW_MAJOR else t.encoding
                new = graph.emit(
                    const,
                    before=op,
                    loc=op.loc,
                    names=[old.name],
                    value=Literal(value),
                    quant=t.quant,
                    encoding=encoding,
                )
                old.replace_all_uses(new.result)
            graph.erase(op)
            changed = True
        if changed:
            erase_dead(graph)
        return changed

    def _operands(self, op: Operation) -> list[Array | None] | None:
        """The operands' arrays when ``op`` is to be folded."""
        if op.opdef in _KEPT:
            return None
        arrays: list[Array | None] = []
        for v in op.operands:
            a = const_array(v)
            if v is not None and a is None:
                return None
            arrays.append(a)
        size = sum(r.type.size for r in op.results)
        if size > self.limit and size > sum(a.size for a in arrays if a is not None):
            return None
        return arrays
