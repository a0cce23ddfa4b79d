"""Where values live: which operations only rename memory, and offsets of the others in one arena."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from irkit.ir.graph import Operation, Value
from irkit.ir.types import TensorType, reshape_groups

ALIGN = 64  # bytes; one cache line, and the widest vector


def is_row_major(t: TensorType) -> bool:
    """True when the bytes are those of the row-major array."""
    axes = t.memory_axes
    return axes == tuple(sorted(axes))


def is_alias(op: Operation) -> bool:
    """True when the result has the very bytes of the first operand, so that no kernel needs to run."""
    if op.name not in ("reshape", "permute", "relayout"):
        return False
    x = op.operands[0]
    assert x is not None
    src, dst = x.type, op.result.type
    if op.name == "relayout":
        return src.memory_axes == dst.memory_axes
    if op.name == "permute":
        perm = op.attrs["perm"]
        return src.memory_axes == tuple(perm[a] for a in dst.memory_axes)
    if is_row_major(src) and is_row_major(dst):
        return True
    if src.size == 0:
        return True
    groups = reshape_groups(src.shape, dst.shape)  # axes that the reshape splits or merges must be neighbours in memory
    at = {a: n for n, a in enumerate(src.memory_axes)}
    groups.sort(key=lambda g: at[g[0][0]])
    before, after = (tuple(a for g in groups for a in g[side]) for side in (0, 1))
    return src.memory_axes == before and dst.memory_axes == after


def root_of(value: Value) -> Value:
    """The value whose memory ``value`` shares."""
    while value.producer is not None and is_alias(value.producer):
        x = value.producer.operands[0]
        assert x is not None
        value = x
    return value


def is_dense(strides: Sequence[int], shape: Sequence[int]) -> bool:
    """True when these strides, in elements, walk an array of that shape in the order of its memory."""
    step = 1
    for s, d in zip(reversed(strides), reversed(shape), strict=True):
        if d not in (1, 0) and s != step:
            return False
        step *= d
    return True


@dataclass(eq=False)
class Lifetime:
    """A block of memory and the steps during which it holds something: one value, or one in place of the other."""

    size: int
    first: int
    last: int
    offset: int = -1


def round_up(n: int, align: int = ALIGN) -> int:
    """The next multiple of ``align``."""
    return (n + align - 1) // align * align


def plan_arena(blocks: Sequence[Lifetime]) -> int:
    """Set the offset of every block so that blocks alive together never overlap; the arena's size in bytes.

    Greedy by size (Pisarchyk and Lee, 2020, "Efficient memory management for deep neural net inference"), the
    better packing, up to a few thousand blocks; beyond, best fit in order of time, which stays near linear. Then
    blocks are moved to where two threads write to the fewest lines of each other; the arena grows by nothing.
    """
    if len(blocks) > 3000:
        return _by_time(blocks)
    total = _by_size(blocks)
    if len(blocks) <= 300:
        _stack_middles(blocks, total)
    return total


def _stack_middles(blocks: Sequence[Lifetime], total: int) -> None:
    """Move blocks within the arena so that their middles lie upon each other, as far as there is room.

    Of two threads one makes the first rows of each step's output, the other one the last. When the middle of a block
    is where that of an earlier one was, each thread writes to cache lines that its own core has; to get a line that
    the other core has written takes as long as to read it from there.
    """
    steps = range(1 + max((b.last for b in blocks), default=0))
    alive = [[b for b in blocks if b.first <= t <= b.last] for t in steps]
    middles, at = [], 0  # of the blocks of the step that needs most, beside each other
    for b in sorted(max(alive, key=lambda a: sum(_room(b) for b in a)), key=lambda b: -b.size):
        middles.append(at + _room(b) // 2)
        at += _room(b)
    order = sorted(blocks, key=lambda b: (-b.size, -b.first))
    for _ in range(30):
        placed: list[tuple[Lifetime, int]] = []
        for i, b in enumerate(order):
            offset = _nearest(b, placed, middles, total)
            if offset is None:  # next time it is the first to choose
                order.insert(0, order.pop(i))
                break
            placed.append((b, offset))
        else:
            for b, offset in placed:
                b.offset = offset
            return


def _nearest(b: Lifetime, placed: Sequence[tuple[Lifetime, int]], middles: Sequence[int], total: int) -> int | None:
    """The free offset at which the middle of ``b`` is nearest to one of ``middles``."""
    size = _room(b)
    begin = 0
    best: tuple[int, int] | None = None
    taken = sorted((at, at + _room(p)) for p, at in placed if p.first <= b.last and b.first <= p.last)
    for stop, next_begin in [*taken, (total, total)]:
        if stop - begin >= size:
            for m in middles:
                at = min(max((m - size // 2) // ALIGN * ALIGN, begin), stop - size)
                if best is None or abs(at + size // 2 - m) < best[0]:
                    best = (abs(at + size // 2 - m), at)
        begin = max(begin, next_begin)
    return None if best is None else best[1]


def _room(b: Lifetime) -> int:
    return round_up(max(b.size, 1))


def _by_size(blocks: Sequence[Lifetime]) -> int:
    placed: list[Lifetime] = []  # by offset
    total = 0
    for b in sorted(blocks, key=lambda b: (-b.size, b.first)):
        at, size = 0, _room(b)
        for p in placed:
            if p.last < b.first or b.last < p.first:
                continue
            if at + size <= p.offset:
                break
            at = max(at, p.offset + _room(p))
        b.offset = at
        bisect.insort(placed, b, key=lambda p: p.offset)
        total = max(total, at + size)
    return total


def _by_time(blocks: Sequence[Lifetime]) -> int:
    events: list[tuple[int, int, int]] = []  # (step, 0 allocate / 1 release after the step, block)
    for i, b in enumerate(blocks):
        events.append((b.first, 0, i))
        events.append((b.last, 1, i))
    free: list[tuple[int, int]] = []  # (offset, size), by offset, never adjacent
    total = 0
    for _, kind, i in sorted(events):
        size = _room(blocks[i])
        if kind == 0:
            fits = [(s, o, k) for k, (o, s) in enumerate(free) if s >= size]
            if fits:
                s, at, k = min(fits)
                if s == size:
                    free.pop(k)
                else:
                    free[k] = (at + size, s - size)
            else:
                at = total
                if free and free[-1][0] + free[-1][1] == total:
                    at = free.pop()[0]
                total = at + size
            blocks[i].offset = at
        else:
            at = blocks[i].offset
            k = bisect.bisect(free, (at, 0))
            if k < len(free) and at + size == free[k][0]:
                size += free.pop(k)[1]
            if k and free[k - 1][0] + free[k - 1][1] == at:
                at, prev = free.pop(k - 1)
                size += prev
                k -= 1
            free.insert(k, (at, size))
    return total
