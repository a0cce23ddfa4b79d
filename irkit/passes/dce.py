"""Dead code elimination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irkit.ir.graph import Graph
from irkit.ir.passes import Effect, Pass
from irkit.ir.rewrite import erase_dead


@dataclass(frozen=True)
class Dce(Pass):
    """Erases operations whose results nobody uses, in the graph and in fused bodies. Graph inputs stay."""

    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = erase_dead(graph)
        for op in graph:
            if op.body is not None:
                changed |= erase_dead(op.body)
        return changed
