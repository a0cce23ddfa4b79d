"""Arena offsets never overlap; renaming operations are told from copying ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.backend import storage
from irkit.backend.storage import ALIGN, Lifetime, is_alias
from irkit.ir.graph import Graph
from irkit.ir.types import TensorType
from irkit.ops import permute, relayout, reshape

NHWC = (0, 2, 3, 1)


@pytest.mark.parametrize("place", [storage._by_size, storage._by_time, storage.plan_arena])
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 8)), max_size=60))
def test_blocks_alive_together_never_overlap(place, rows) -> None:  # type: ignore[no-untyped-def]
    blocks = [Lifetime(size, first, first + length) for size, first, length in rows]
    total = place(blocks)
    for i, a in enumerate(blocks):
        assert a.offset % ALIGN == 0 and a.offset >= 0 and a.offset + a.size <= total
        for b in blocks[:i]:
            together = a.first <= b.last and b.first <= a.last
            apart = a.offset + max(a.size, 1) <= b.offset or b.offset + max(b.size, 1) <= a.offset
            assert apart or not together
    lower = max((sum(b.size for b in blocks if b.first <= t <= b.last) for t in range(40)), default=0)
    assert total >= lower


def test_a_chain_needs_two_blocks() -> None:
    blocks = [Lifetime(1000, t, t + 1) for t in range(50)]
    assert storage.plan_arena(blocks) == 2 * 1024


def crossing_bytes(blocks: list[Lifetime]) -> int:
    """Bytes that one of two threads writes where the other one wrote last; call after call, one block a step."""
    lines = np.zeros(max(b.offset + b.size for b in blocks) // ALIGN + 1, np.int8)
    for _ in range(2):
        crossing = 0
        for b in sorted(blocks, key=lambda b: b.first):
            begin, middle, end = (n // ALIGN for n in (b.offset, b.offset + b.size // 2, b.offset + b.size))
            crossing += int((lines[begin:middle] == 2).sum() + (lines[middle:end] == 1).sum()) * ALIGN
            lines[begin:middle], lines[middle:end] = 1, 2
    return crossing


def test_halves_of_a_chain_stay_with_their_threads() -> None:
    sizes = [3, 8, 8, 16, 4, 8, 8, 8, 2, 4, 4, 4, 1, 2, 2, 2]  # as in MobileNetV1
    blocks = [Lifetime(100 * 1024 * n, t, t + 1) for t, n in enumerate(sizes)]
    packed = storage._by_size(blocks)
    assert crossing_bytes(blocks) > sum(b.size for b in blocks) // 8
    assert storage.plan_arena(blocks) == packed
    assert crossing_bytes(blocks) == 0


def test_halves_stay_with_their_threads_where_there_is_room() -> None:
    blocks = []
    for i, n in enumerate([48, 48, 16, 16, 16, 8, 8, 8, 8, 12, 12, 12, 5, 5, 5]):  # inverted residual blocks
        t, n = 3 * i, n * 1024
        blocks += [Lifetime(n * 6, t, t + 1), Lifetime(n * 6, t + 1, t + 2), Lifetime(n, t + 2, t + 5)]
    packed = storage._by_size(blocks)
    before = crossing_bytes(blocks)
    assert storage.plan_arena(blocks) == packed
    assert crossing_bytes(blocks) < before / 2


def test_many_blocks_stay_fast_and_tight() -> None:
    blocks = [Lifetime(640, t, t + 1) for t in range(20000)]
    assert storage.plan_arena(blocks) == 2 * 640


def alias(opdef, extent, order, result_order, **attrs) -> bool:  # type: ignore[no-untyped-def]
    g = Graph()
    x = g.add_input(TensorType(extent).with_order(order), "x")
    plain = g.emit(opdef, x, **attrs)
    op = g.emit(opdef, x, types=[plain.result.type.with_order(result_order)], **attrs)
    a = np.arange(int(np.prod(extent)))
    same_bytes = np.array_equal(
        x.type.to_storage(a.reshape(extent)).ravel(),
        op.result.type.to_storage(np.asarray(_apply(opdef, a.reshape(extent), attrs))).ravel(),
    )
    assert is_alias(op) <= same_bytes  # an alias must have the same bytes
    return is_alias(op)


def _apply(opdef, a, attrs):  # type: ignore[no-untyped-def]
    return opdef.fn(a, **attrs)


def test_which_operations_only_rename() -> None:
    assert alias(permute, (1, 4, 5, 3), None, NHWC, perm=(0, 3, 1, 2))  # a Keras image enters channels-first logic
    assert not alias(permute, (1, 4, 5, 3), None, None, perm=(0, 3, 1, 2))
    assert alias(permute, (2, 1, 5), None, None, perm=(1, 0, 2))
    assert not alias(relayout, (1, 3, 4, 5), None, NHWC)
    assert alias(relayout, (1, 1, 4, 5), None, NHWC)  # one channel: both orders are the same bytes
    assert alias(relayout, (1, 7, 1, 1), NHWC, None)
    assert alias(reshape, (1, 7, 1, 1), NHWC, None, shape=(1, 7))
    assert not alias(reshape, (1, 7, 2, 1), NHWC, None, shape=(1, 14))
    assert alias(reshape, (2, 3, 9), (0, 2, 1), (0, 2, 3, 1), shape=(2, 3, 1, 9))
    assert alias(reshape, (2, 3, 4), None, None, shape=(6, 4))


@given(st.permutations(range(4)), st.permutations(range(4)), st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_aliases_have_the_same_bytes(a, b, shape) -> None:  # type: ignore[no-untyped-def]
    alias(relayout, tuple(shape), tuple(a), tuple(b))
    alias(permute, tuple(shape), tuple(a), tuple(b), perm=(3, 1, 0, 2))
