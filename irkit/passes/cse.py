"""Common subexpression elimination."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from irkit.ir.graph import Graph
from irkit.ir.passes import Effect, Pass
from irkit.ops import copy


def _key(attr: Any) -> Hashable:
    """Equal exactly for attributes that mean the same: 1, 1.0 and True differ, as do 0.0 and -0.0."""
    if isinstance(attr, tuple):
        return tuple(_key(a) for a in attr)
    if isinstance(attr, float):
        return ("float", repr(attr))
    return (type(attr).__name__, attr)


@dataclass(frozen=True)
class Cse(Pass):
    """Computes equal things once: same op, operands, attributes and result types (constants too: same bytes).

    The first one stays, with its location; it takes the name of a later one when it has none. ``copy`` stays, since
    it is there to give a value memory of its own.
    """

    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = False
        seen: dict[Hashable, Any] = {}
        for op in graph.ops:
            if not op.results or op.body is not None or op.opdef is copy:
                continue
            attrs = tuple(_key(a) for a in op.attrs.values())
            key = (op.opdef, tuple(op.operands), attrs, tuple(r.type for r in op.results))
            first = seen.setdefault(key, op)
            if first is op:
                continue
            for old, new in zip(op.results, first.results, strict=True):
                old.replace_all_uses(new)
                if not new.name:
                    new.name = old.name
            graph.erase(op)
            changed = True
        return changed
