"""The rewrite driver: fixpoint, names, dead code, errors, and time on big graphs."""

from __future__ import annotations

import time

import numpy as np
import pytest

from irkit import ops
from irkit.errors import PassError
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.parse import parse_graph
from irkit.ir.rewrite import Rewriter, count_hits, pattern, rewrite, unique_names
from irkit.ir.text import print_graph
from irkit.ir.types import TensorType
from irkit.ir.verify import verify


@pattern(ops.neg)
def neg_neg(op: Operation, rw: Rewriter) -> Value | None:
    inner = op.operand("x").producer
    return inner.operand("x") if inner is not None and inner.opdef is ops.neg else None


@pattern(ops.relu)
def relu_to_clip(op: Operation, rw: Rewriter) -> Value | None:
    return rw.emit(ops.clip, op.operand("x"), lo=0.0, hi=float("inf"))


@pattern(ops.clip)
def clip_to_relu(op: Operation, rw: Rewriter) -> Value | None:
    return rw.emit(ops.relu, op.operand("x"))


def chain(n: int, *opdefs: object) -> Graph:
    g = Graph("main", [("x", TensorType((2,)))])
    v = g.inputs[0]
    for i in range(n):
        v = g.emit(opdefs[i % len(opdefs)], v, names=[f"v{i}"], loc=f"l{i}").result  # type: ignore[arg-type]
    g.emit(ops.return_, v)
    return g


def test_reaches_a_fixpoint_and_erases_what_is_dead() -> None:
    g = chain(7, ops.neg)
    assert rewrite(g, [neg_neg])
    verify(g)
    assert [o.name for o in g] == ["neg", "return"]
    assert not rewrite(g, [neg_neg])


def test_replacement_takes_name_and_loc() -> None:
    g = chain(1, ops.relu)
    rewrite(g, [relu_to_clip])
    first = next(iter(g))
    assert (first.name, first.result.name, first.loc) == ("clip", "v0", "l0")


def test_counts_hits() -> None:
    with count_hits() as hits:
        rewrite(chain(8, ops.neg), [neg_neg])
        rewrite(chain(3, ops.relu), [relu_to_clip])
    assert hits == {"neg_neg": 4, "relu_to_clip": 3}


def test_names_patterns_that_alternate() -> None:
    with pytest.raises(PassError, match=r"does not end: .* by clip_to_relu, relu_to_clip in turn"):
        rewrite(chain(3, ops.relu), [relu_to_clip, clip_to_relu])


def test_rejects_another_type() -> None:
    @pattern(ops.relu)
    def shrink(op: Operation, rw: Rewriter) -> Value | None:
        return rw.const(np.zeros(3, np.float32))

    with pytest.raises(PassError, match=r"pattern shrink on .*relu\(%x\).*: replaces f32\[2\] by f32\[3\]"):
        rewrite(chain(1, ops.relu), [shrink])


def test_rejects_itself_and_a_wrong_count() -> None:
    @pattern(ops.relu)
    def same(op: Operation, rw: Rewriter) -> Value | None:
        return op.result

    @pattern(ops.relu)
    def two(op: Operation, rw: Rewriter) -> tuple[Value, ...] | None:
        return (op.operand("x"), op.operand("x"))

    with pytest.raises(PassError, match="replaces a value by itself"):
        rewrite(chain(1, ops.relu), [same])
    with pytest.raises(PassError, match="1 results, 2 replacements"):
        rewrite(chain(1, ops.relu), [two])


def test_malformed_replacement_names_the_pattern() -> None:
    @pattern(ops.relu)
    def malformed(op: Operation, rw: Rewriter) -> Value | None:
        return rw.emit(ops.reshape, op.operand("x"), shape=(3,))

    with pytest.raises(PassError, match=r"pattern malformed on .*reshape @l0"):
        rewrite(chain(1, ops.relu), [malformed])


def test_what_a_declining_pattern_emitted_is_removed() -> None:
    @pattern(ops.relu)
    def second_thoughts(op: Operation, rw: Rewriter) -> Value | None:
        rw.emit(ops.neg, rw.emit(ops.neg, op.operand("x")))
        return None

    g = chain(2, ops.relu)
    before = print_graph(g)
    assert not rewrite(g, [second_thoughts])
    assert print_graph(g) == before
    assert len(g.inputs[0].uses) == 1


def test_revisits_an_op_when_its_producer_loses_the_other_use() -> None:
    @pattern(ops.neg)
    def through_single_abs(op: Operation, rw: Rewriter) -> Value | None:
        x = op.operand("x")
        return rw.emit(ops.relu, x) if x.is_op(ops.abs_) and x.has_one_use else None

    @pattern(ops.sigmoid)
    def drop(op: Operation, rw: Rewriter) -> Value | None:
        return rw.const(np.zeros(2, np.float32))

    g = parse_graph(
        "func @m(%x: f32[2]) {\n %a = abs(%x) : f32[2]\n %n = neg(%a) : f32[2]\n %s = sigmoid(%a) : f32[2]\n"
        " return(%n, %s)\n}"
    )
    rewrite(g, [through_single_abs, drop])
    assert [o.name for o in g] == ["abs", "relu", "const", "return"]


def test_results_of_several_values() -> None:
    g = parse_graph(
        "func @m(%x: f32[2]) {\n %a, %b = fused(%x) : f32[2], f32[2] func @body(%i: f32[2]) {\n"
        "  %n = neg(%i) : f32[2]\n  return(%i, %n)\n }\n return(%a, %b)\n}"
    )

    @pattern(ops.fused)
    def open_up(op: Operation, rw: Rewriter) -> tuple[Value, ...] | None:
        (x,) = op.operands
        assert x is not None
        return x, rw.emit(ops.neg, x)

    assert rewrite(g, [open_up])
    verify(g)
    assert [o.name for o in g] == ["neg", "return"]
    assert g.outputs[1].name == "b"


def test_unique_names_gives_later_values_a_suffix() -> None:
    g = chain(3, ops.neg)
    for o in g.ops[:-1]:
        o.results[0].name = "x"
    unique_names(g)
    assert [o.results[0].name for o in g.ops[:-1]] == ["x.1", "x.2", "x.3"]
    verify(g)


def seconds(n: int) -> float:
    best = float("inf")
    for _ in range(2):
        g = chain(n, ops.relu, ops.neg, ops.neg)
        start = time.process_time()
        rewrite(g, [neg_neg, relu_to_clip])
        best = min(best, time.process_time() - start)
        assert len(g) == n // 3 + 1 + (n % 3 > 0)
    return best


def test_time_grows_about_linearly() -> None:
    small, big = seconds(3000), seconds(24000)
    assert big < 8 * 3 * small + 0.2, f"{small:.3f} s for 3,000 operations, {big:.3f} s for 24,000"


def test_a_value_with_many_users_is_not_quadratic() -> None:
    g = Graph("main", [("x", TensorType((2,)))])
    outs = [g.emit(ops.neg, g.emit(ops.neg, g.inputs[0]).result).result for _ in range(20000)]
    g.emit(ops.return_, g.emit(ops.concat, *outs, axis=0).result)
    start = time.process_time()
    rewrite(g, [neg_neg])
    assert [o.name for o in g] == ["concat", "return"]
    assert time.process_time() - start < 10
