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


@pytest.mark.parametrize("place", [storage._by_size, storage._by_time])
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
