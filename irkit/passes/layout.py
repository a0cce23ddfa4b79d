"""Storage orders: channels-last where kernels want it, carried along by what does not care, relayouts where needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.passes import Effect, Pass
from irkit.ir.rewrite import erase_dead, unique_names
from irkit.ir.types import TensorType, reshape_groups
from irkit.ir.verify import difference
from irkit.ops import (
    concat,
    const,
    copy,
    dequantize,
    expand,
    fused,
    log_softmax,
    pad,
    permute,
    qadd,
    qlut,
    qmean,
    qmul,
    qsoftmax,
    quantize,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_sum,
    relayout,
    requantize,
    reshape,
    return_,
    slice_,
    softmax,
)
from irkit.ops.fusion import is_elementwise_body, match_body

Order = tuple[int, ...]
CHANNELS_LAST: Order = (0, 2, 3, 1)

# Kernels of these read and write any storage order.
_ANY_ORDER = {
    concat,
    copy,
    dequantize,
    log_softmax,
    pad,
    qadd,
    qlut,
    qmul,
    qsoftmax,
    quantize,
    requantize,
    slice_,
    softmax,
}
_REDUCTIONS = {qmean, reduce_max, reduce_mean, reduce_min, reduce_sum}


class _Layout:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made: dict[tuple[Value, Order], Value] = {}  # constants and relayouts by source and order

    def run(self) -> None:
        erase_dead(self.graph)  # what is not needed must not ask for an order
        for op in self.graph.ops:
            if op.opdef is const:
                continue
            if op.opdef is relayout:  # only its users know whether it is still wanted
                x = op.operand("x")
                op.result.replace_all_uses(x)
                self.graph.erase(op)
                continue
            self.visit(op)
        self.quantize_turned()
        erase_dead(self.graph)
        unique_names(self.graph)

    # ---- values in the order that is wanted

    def stored(self, v: Value, order: Order, user: Operation) -> Value:
        """``v`` in exactly this storage order: itself, a constant encoded anew, or a relayout before ``user``."""
        if v.type.order == order:
            return v
        source = v.producer.operand("x") if v.is_op(relayout) and v.producer is not None else v
        if source.type.order == order:
            return source
        key = (source, order)
        if key not in self.made:
            self.made[key] = self._store(source, order, user)
        return self.made[key]

    def _store(self, v: Value, order: Order, user: Operation) -> Value:
        t = v.type.with_order(order)
        p = v.producer
        if p is not None and p.opdef is const:
            new = self.graph.emit(
                const,
                before=p,
                loc=p.loc,
                names=[v.name],
                value=p.attrs["value"],
                quant=p.attrs["quant"],
                encoding=replace(v.type.encoding, order=order),
            )
            return new.result
        loc = user.loc or (p.loc if p is not None else "")
        return self.graph.emit(relayout, v, before=user, loc=loc, types=[t]).result

    def row_major(self, v: Value, user: Operation) -> Value:
        """``v`` in row-major order."""
        return self.stored(v, tuple(range(v.type.rank)), user)

    # ---- operations

    def visit(self, op: Operation) -> None:
        if op.opdef is return_:
            for pos, v in enumerate(op.operands):
                if v is not None:
                    op.set_operand(pos, self.row_major(v, op))
            return
        if op.opdef is permute:
            x = op.operand("x")
            at = {old: new for new, old in enumerate(op.attrs["perm"])}
            self.emit(op, [x], [tuple(at[a] for a in x.type.order)])
        elif op.opdef is reshape:
            self.reshape(op)
        elif self.is_channels_last(op):
            self.channels_last(op)
        elif op.opdef in _REDUCTIONS:
            self.reduction(op)
        elif self.takes_any_order(op):
            self.any_order(op)
        else:
            operands = [None if v is None else self.row_major(v, op) for v in op.operands]
            self.emit(op, operands, [tuple(range(r.type.rank)) for r in op.results])

    def emit(self, op: Operation, operands: Sequence[Value | None], orders: Sequence[Order]) -> None:
        """Put ``op`` anew, with these operands and orders of results."""
        types = [r.type.with_order(o) for r, o in zip(op.results, orders, strict=True)]
        if list(operands) == op.operands and types == [r.type for r in op.results]:
            return
        names = [r.name for r in op.results]
        new = self.graph.emit(
            op.opdef, *operands, before=op, loc=op.loc, names=names, types=types, body=op.body, **op.attrs
        )
        for old, r in zip(op.results, new.results, strict=True):
            old.replace_all_uses(r)
        self.graph.erase(op)

    def is_channels_last(self, op: Operation) -> bool:
        anchor = op
        if op.opdef is fused and op.body is not None:
            match = match_body(op.body)
            if match is None:
                return False
            anchor = match.anchor
        return "channels_last" in anchor.opdef.tags and anchor.result.type.rank == 4

    def channels_last(self, op: Operation) -> None:
        """All rank-4 operands (weights as well) and the result are stored (0, 2, 3, 1)."""
        operands = [v if v is None or v.type.rank != 4 else self.stored(v, CHANNELS_LAST, op) for v in op.operands]
        self.emit(op, operands, [CHANNELS_LAST])

    def takes_any_order(self, op: Operation) -> bool:
        if op.opdef is expand:
            return op.operand("x").type.rank == op.result.type.rank
        if op.opdef is fused and op.body is not None:
            return is_elementwise_body(op.body)
        return op.opdef in _ANY_ORDER or "elementwise" in op.opdef.tags

    def any_order(self, op: Operation) -> None:
        """All operands of the result's rank in one order: the commonest that is not row-major, if any."""
        rank = op.results[0].type.rank
        shape = op.results[0].type.shape
        plain = tuple(range(rank))
        table = 1 if op.opdef in (qlut, qsoftmax) else None  # an operand that is no tensor of the picture
        votes: Counter[Order] = Counter()
        for i, v in enumerate(op.operands):
            if v is not None and i != table and v.type.rank == rank and v.type.order != plain and not v.is_op(const):
                votes[v.type.order] += 1 + len(op.operands) * (v.type.shape == shape)  # broadcast ones count less
        order = votes.most_common(1)[0][0] if votes else plain
        operands = []
        for i, v in enumerate(op.operands):
            if v is None or i == table:
                operands.append(v)
            elif v.type.rank == rank:
                operands.append(self.stored(v, order, op))
            else:
                operands.append(self.row_major(v, op))
        self.emit(op, operands, [order] * len(op.results))

    def quantize_turned(self) -> None:
        """Quantize makes channels-last pixels of an image of three planes on its way (kernels/qeltwise/quantize.h)."""
        for op in self.graph.ops:
            q = op.operands[0].producer if op.opdef is relayout and op.operands[0] is not None else None
            if q is None or q.opdef is not quantize or not q.result.has_one_use:
                continue
            t = q.result.type
            if t.order == (0, 1, 2, 3) and t.shape[1] == 3 and op.result.type.order == CHANNELS_LAST:
                self.emit(q, q.operands, [CHANNELS_LAST])
                op.result.replace_all_uses(op.operand("x"))

    def reduction(self, op: Operation) -> None:
        x = op.operand("x")
        order = x.type.order
        if not op.attrs["keepdims"]:
            axes = {a % x.type.rank for a in op.attrs["axes"]}
            at = {old: new for new, old in enumerate(a for a in range(x.type.rank) if a not in axes)}
            order = tuple(at[a] for a in order if a not in axes)
        self.emit(op, [x], [order])

    def reshape(self, op: Operation) -> None:
        """Splits and merges of axes carry the order along where the axes they concern are neighbours in memory."""
        x = op.operand("x")
        before, after = reshape_orders(x.type, op.result.type)
        self.emit(op, [self.stored(x, before, op)], [after])


def reshape_orders(x: TensorType, y: TensorType) -> tuple[Order, Order]:
    """Orders of ``x`` and of its reshape ``y`` in which both have the same bytes, the first as close to x's as may be.

    Groups of axes may stand in any order in memory; the axes of one group must be neighbours, outermost first.
    """
    if x.size == 0:
        return tuple(range(x.rank)), tuple(range(y.rank))
    groups = reshape_groups(x.shape, y.shape)
    at = {a: n for n, a in enumerate(x.memory_axes)}
    groups.sort(key=lambda g: max(at[a] for a in g[0]))
    before = tuple(a for left, _ in groups for a in left)
    after = tuple(a for _, right in groups for a in right)
    return x.order if before == x.memory_axes else full_order(x, before), full_order(y, after)


def full_order(t: TensorType, memory: Order) -> Order:
    """An order of all axes whose axes above one stand as in ``memory``; channels-last where that is one."""
    for candidate in (CHANNELS_LAST, tuple(range(t.rank))):
        if len(candidate) == t.rank and tuple(a for a in candidate if t.shape[a] != 1) == memory:
            return candidate
    return tuple(a for a in range(t.rank) if t.shape[a] == 1) + memory


@dataclass(frozen=True)
class Layout(Pass):
    """Chooses the storage order of every value; what the graph means stays.

    Convolutions, pools and resizes work channels-last, their weights are stored [O, KH, KW, I]. Elementwise
    operations, concat, slice, pad, reductions and softmax take the commonest order of their operands that is not
    row-major; permutes, and reshapes of neighbours in memory, rename memory and move nothing. Everything else, and
    what the graph returns, is row-major. Constants are encoded anew; other values go through one relayout per order
    (which moves nothing when only axes of extent one change places), and images of three planes that are quantized
    first are turned around by that quantize.
    """

    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph) -> bool:
        """See the class."""
        before = graph.clone()
        _Layout(graph).run()
        return difference(before, graph) is not None
