"""The verifier accepts sound graphs and rejects broken ones with a message that names the operation.

The mutation test takes sound graphs and breaks each operation of them in every way it knows.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import MappingProxyType

import numpy as np
import pytest

from irkit import ops
from irkit.errors import IRError
from irkit.ir.graph import Graph, Operation
from irkit.ir.opdef import REGISTRY
from irkit.ir.types import DType, Encoding, Quant, TensorType
from irkit.ir.verify import difference, verify
from tests.ir.breakers import BREAKERS, retype
from tests.ir.graphs import SOURCES, fresh


def broken() -> Iterator[tuple[str, str, int, bool]]:
    for source in SOURCES:
        g = fresh(source)
        for i, op in enumerate(g):
            for name, fn in BREAKERS.items():
                g2 = fresh(source)
                if fn(g2, g2.ops[i] if i < len(g2) else next(iter(g2))):
                    yield source, name, i, False
            if op.body is not None:
                for j in range(len(op.body)):
                    for name, fn in BREAKERS.items():
                        inner = fresh(source).ops[i].body
                        assert inner is not None
                        if fn(inner, inner.ops[j]):
                            yield source, name, j, True


CASES = list(broken())


def test_there_are_many_broken_graphs() -> None:
    assert len(CASES) >= 300
    assert {name for _, name, _, _ in CASES} == set(BREAKERS)


@pytest.mark.parametrize(("source", "name", "index", "in_body"), CASES, ids=lambda v: str(v))
def test_broken_graph_is_rejected_naming_an_op(source: str, name: str, index: int, in_body: bool) -> None:
    g = fresh(source)
    inner = g
    if in_body:
        body = next(op.body for op in g if op.body is not None)
        assert body is not None
        inner = body
    op = inner.ops[index]
    known = {o.name for o in inner} | {o.name for o in g}
    BREAKERS[name](inner, op)
    with pytest.raises(IRError) as e:
        verify(g)
    message = str(e.value)
    assert message.startswith(f"verify @{source}")
    assert any(n in message for n in known), message


@pytest.mark.parametrize("source", SOURCES)
def test_sound_graphs_pass(source: str) -> None:
    g = fresh(source)
    verify(g)
    verify(g.clone())
    assert difference(g, g.clone()) is None


def test_messages_name_op_value_and_location() -> None:
    g = fresh("cnn")
    conv = g.ops[2]
    retype(conv.result, shape=(1, 4, 8, 9))
    expected = "verify @cnn: conv2d (%c) @features.0: result 0 is f32[1,4,8,9], but its type rule gives f32[1,4,8,8]"
    with pytest.raises(IRError) as e:
        verify(g)
    assert str(e.value) == expected


def test_message_of_a_body_names_the_fused_op() -> None:
    g = fresh("fused")
    body = g.ops[0].body
    assert body is not None
    body.ops[0].set_operand(1, None)
    with pytest.raises(IRError, match=r"verify @fused/fused @block: add \(%k\) @block\.add: operand b is missing"):
        verify(g)


def test_body_in_a_body_is_rejected() -> None:
    inner = Graph("inner", [("a", TensorType((1,)))])
    inner.emit(ops.return_, inner.inputs[0])
    outer = Graph("outer", [("a", TensorType((1,)))])
    outer.emit(ops.return_, outer.emit(ops.fused, outer.inputs[0], body=inner).result)
    g = Graph("main", [("a", TensorType((1,)))])
    g.emit(ops.return_, g.emit(ops.fused, g.inputs[0], body=outer, loc="here").result)
    with pytest.raises(IRError, match="fused: a body inside a body"):
        verify(g)


def test_long_chain_needs_no_recursion() -> None:
    g = Graph("main", [("x", TensorType((1,)))])
    v = g.inputs[0]
    for _ in range(20000):
        v = g.emit(ops.neg, v).result
    g.emit(ops.return_, v)
    verify(g)
    assert len(g.clone()) == 20001


def test_a_zero_point_of_an_input_must_fit_its_dtype() -> None:
    """Of an operation's result the type rule tells; an input has none."""
    for dtype, zero in ((DType.I8, 128), (DType.I8, -129), (DType.U8, -1)):
        g = Graph("main", [("x", TensorType((2,), dtype, Quant.per_tensor(0.5, zero)))])
        g.emit(ops.return_, g.inputs[0])
        with pytest.raises(IRError, match=f"input %x: a zero point does not fit {dtype.value}"):
            verify(g)


def test_a_use_by_an_operation_that_is_not_there() -> None:
    g = fresh("cnn")
    Operation(ops.neg, [g.inputs[0]], loc="nowhere")  # knows its operand, but stands in no graph
    with pytest.raises(IRError, match="lists a use by neg @nowhere that is not there"):
        verify(g)


def test_storage_order_is_not_part_of_the_meaning() -> None:
    g = fresh("cnn")
    relu = g.ops[3]
    relu.results[0].type = relu.result.type.with_order((0, 2, 3, 1))
    verify(g)


@pytest.mark.parametrize("what", ["attrs", "loc", "type", "operand", "name", "body"])
def test_difference_sees(what: str) -> None:
    a, b = fresh("fused"), fresh("fused")
    mul = b.ops[1]
    body = b.ops[0].body
    assert body is not None
    if what == "attrs":
        body.ops[1].attrs = MappingProxyType({"lo": 0.0, "hi": 7.0})
    elif what == "loc":
        mul.loc = "elsewhere"
    elif what == "type":
        mul.results[0].type = mul.result.type.with_order((1, 0))
    elif what == "operand":
        mul.set_operand(0, mul.operands[1])
    elif what == "name":
        mul.results[0].name = "zz"
    else:
        body.terminator.set_operand(0, body.inputs[0])
    found = difference(a, b)
    assert found is not None
    assert ("clip" if what == "attrs" else "return" if what == "body" else "mul") in found
    if what in ("name", "loc"):
        assert difference(a, b, names=False, locs=False) is None


def test_registry_ops_have_literal_defaults() -> None:
    for d in REGISTRY.values():
        for value in d.attrs.values():
            text = repr(value)
            assert text == "REQUIRED" or ast.literal_eval(text) == value


def accumulating(k: int, weight: int, zero: int, bias: int | None, *, const_w: bool = True) -> Graph:
    """qlinear over ``k`` inputs with equal weights."""
    qx, qw = Quant.per_tensor(0.5, zero), Quant((0.25,), (0,), 0)
    g = Graph("main", [("x", TensorType((1, k), DType.I8, qx))])
    if const_w:
        w = g.emit(ops.const, value=np.full((1, k), weight, np.int8), quant=qw).result
    else:
        w = g.add_input(TensorType((1, k), DType.I8, qw), "w")
    b = None if bias is None else g.emit(ops.const, value=np.array([bias], np.int32)).result
    y = g.emit(ops.qlinear, g.inputs[0], w, b, quant=qx, loc="fc").result
    g.emit(ops.return_, y)
    return g


REACH = 2**31 - 1


@pytest.mark.parametrize(
    ("k", "weight", "zero", "bias"),
    [
        (4608, 127, 127, 0),
        (REACH // (127 * 255), 127, 127, 0),
        (REACH // (127 * 128), 127, 0, None),
        (100, 127, -128, REACH - 100 * 127 * 255),
        (200_000, 1, 127, None),
    ],
)
def test_accumulators_that_fit(k: int, weight: int, zero: int, bias: int | None) -> None:
    verify(accumulating(k, weight, zero, bias))


@pytest.mark.parametrize(
    ("k", "weight", "zero", "bias"),
    [
        (REACH // (127 * 255) + 1, 127, 127, 0),
        (REACH // (127 * 128) + 1, -127, 0, None),
        (100, 127, -128, REACH - 100 * 127 * 255 + 1),
        (100, 127, -128, -REACH),
    ],
)
def test_accumulators_that_may_overflow(k: int, weight: int, zero: int, bias: int | None) -> None:
    with pytest.raises(IRError, match=r"qlinear @fc: the int32 accumulator may overflow: it can reach \d+"):
        verify(accumulating(k, weight, zero, bias))


def test_unknown_weights_count_as_the_largest() -> None:
    verify(accumulating(4000, 0, 0, None, const_w=False))
    with pytest.raises(IRError, match="may overflow"):
        verify(accumulating(140_000, 0, 0, None, const_w=False))


@pytest.mark.parametrize(
    ("shape", "dtype", "encoding", "message"),
    [
        ((2, 2, 3, 3), np.float32, Encoding(winograd=3), "winograd: expected 2 or 4, got 3"),
        ((2, 2, 5, 5), np.float32, Encoding(winograd=2), "winograd needs dense f32 filters of 3x3"),
        ((2, 2, 3, 3), np.float64, Encoding(winograd=2), "winograd needs dense f32 filters of 3x3"),
        ((2, 2, 3, 3), np.float32, Encoding(None, "csr", 2), "winograd needs dense f32 filters of 3x3"),
    ],
)
def test_winograd_filters(shape: tuple[int, ...], dtype: type, encoding: Encoding, message: str) -> None:
    g = Graph()
    g.emit(ops.const, value=np.zeros(shape, dtype), encoding=encoding)
    g.emit(ops.return_)
    with pytest.raises(IRError, match=message):
        verify(g)
