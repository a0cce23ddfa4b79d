"""Fusion: what one kernel does becomes one ``fused`` operation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.passes import Effect, Pass
from irkit.ir.types import DType
from irkit.ops import fused, return_
from irkit.ops.fusion import ANCHORS, grow

MAX_OPS = 32  # of an elementwise program; kernels keep one row of temporaries for each
MAX_INPUTS = 12


def make_fused(graph: Graph, ops: Sequence[Operation], loc: str) -> Operation:
    """Replace ``ops`` (in order of the graph, only the last one's results used elsewhere) by one fused operation.

    It stands where the last one stood. Body inputs are the distinct outer values, in order of first use.
    """
    last = ops[-1]
    inside = {r for op in ops for r in op.results}
    outer: dict[Value, None] = {}
    for op in ops:
        for v in op.operands:
            if v is not None and v not in inside:
                outer[v] = None
    body = Graph("body")
    env: dict[Value, Value] = {}
    taken = {r.name for r in inside if r.name}
    for v in outer:
        name = v.name if v.name and v.name not in taken else ""
        taken.add(name)
        env[v] = body.add_input(v.type.logical())
        env[v].name = name
    for op in ops:
        operands = [None if v is None else env[v] for v in op.operands]
        types = [r.type.logical() for r in op.results]
        names = [r.name for r in op.results]
        new = Operation(op.opdef, operands, op.attrs, types=types, loc=op.loc, names=names)
        body.append(new)
        env.update(zip(op.results, new.results, strict=True))
    body.emit(return_, *(env[r] for r in last.results))
    types = [r.type for r in last.results]
    result = graph.emit(
        fused, *outer, before=last, loc=loc, types=types, body=body, names=[r.name for r in last.results]
    )
    for old, made in zip(last.results, result.results, strict=True):
        old.replace_all_uses(made)
    for op in reversed(ops):
        graph.erase(op)
    return result


def _is_pointwise(op: Operation) -> bool:
    """An elementwise operation on plain float32 tensors."""
    types = [v.type for v in (*op.operands, *op.results) if v is not None]
    return "elementwise" in op.opdef.tags and all(t.dtype is DType.F32 and t.quant is None for t in types)


def _outer(group: Iterable[Operation]) -> set[Value]:
    members = set(group)
    return {v for op in members for v in op.operands if v is not None and v.producer not in members}


def grow_pointwise(root: Operation) -> set[Operation]:
    """The elementwise operations of ``root``'s shape that only lead to ``root``, with it (diamonds included)."""
    group = {root}
    shape = root.result.type.shape
    work = [root]
    while work:
        op = work.pop()
        producers = [v.producer for v in op.operands if v is not None and v.producer is not None]
        for p in dict.fromkeys(producers):
            if p in group or not _is_pointwise(p) or p.result.type.shape != shape:
                continue
            if not all(u in group for u in p.result.users):
                continue  # it comes up again when the last of its users joins
            if len(group) < MAX_OPS and len(_outer({*group, p})) <= MAX_INPUTS:
                group.add(p)
                work.append(p)
    return group


@dataclass(frozen=True)
class Fuse(Pass):
    """Grows ``fused`` bodies, and only such as a kernel takes.

    A conv2d or linear takes in the residual add and the activation that follow it (``irkit.ops.fusion``); where two
    anchors meet in an add, the later one takes it. Then chains and diamonds of elementwise operations of one shape
    become elementwise programs. The fused operation has the location of the anchor, or of the last elementwise one.
    """

    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph) -> bool:
        """See the class."""
        changed = False
        for op in reversed(graph.ops):
            if op.opdef in ANCHORS and op.graph is graph:
                chain = grow(op)
                if len(chain) > 1:
                    make_fused(graph, chain, op.loc)
                    changed = True
        position = {op: i for i, op in enumerate(graph)}
        for op in reversed(graph.ops):
            if op.graph is graph and _is_pointwise(op):
                group = grow_pointwise(op)
                if len(group) > 1:
                    make_fused(graph, sorted(group, key=position.__getitem__), op.loc)
                    changed = True
        return changed
