"""One form for what means the same, so that later passes and kernels meet fewer shapes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irkit.ir.graph import Graph
from irkit.ir.passes import Effect, Pass
from irkit.ir.rewrite import rewrite
from irkit.passes.fold_bn import fold_shift
from irkit.passes.rules import arithmetic, convolution, pooling, shape

PATTERNS = (*shape.PATTERNS, *arithmetic.PATTERNS, *pooling.PATTERNS, *convolution.PATTERNS, fold_shift)


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Drops identities, merges neighbours, and puts operations into the form that kernels know.

    Meant for graphs whose values are still row-major (before ``layout``). Rounding may move: a constant added to a
    convolution's result becomes its bias, written-out activations become the operation that rounds once.
    """

    effect: ClassVar[Effect] = Effect.ROUNDING

    def run(self, graph: Graph) -> bool:
        """See the class."""
        return rewrite(graph, PATTERNS)
