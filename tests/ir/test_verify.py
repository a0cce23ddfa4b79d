"""The verifier accepts sound graphs and rejects broken ones with a message that names the operation.

The mutation test takes sound graphs and breaks each operation of them in every way it knows.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from irkit import ops
from irkit.errors import IRError
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import REGISTRY, OpDef
from irkit.ir.parse import parse_graph
from irkit.ir.types import DType, Encoding, Literal, Quant, TensorType
from irkit.ir.verify import difference, verify

CNN = """
func @cnn(%x: f32[1,3,8,8]) {
  %w = const() {value=@w} : f32[4,3,3,3]
  %b = const() {value=f32[4]<0.0, 1.0, 2.0, 3.0>} : f32[4]
  %c = conv2d(%x, %w, %b) {pads=[1,1,1,1]} : f32[1,4,8,8] loc("features.0")
  %r = relu(%c) : f32[1,4,8,8] loc("features.1")
  %p = max_pool2d(%r) {kernel=[2,2], strides=[2,2]} : f32[1,4,4,4] loc("features.2")
  %q = permute(%p) {perm=[0,2,3,1]} : f32[1,4,4,4] loc("perm")
  %f = reshape(%q) {shape=[1,64]} : f32[1,64] loc("flat")
  %s = softmax(%f) {axis=1} : f32[1,64] loc("prob")
  return(%s, %r)
}
"""
FUSED = """
func @fused(%x: f32[2,3], %y: f32[2,3]) {
  %a, %b = fused(%x, %y) : f32[2,3], f32[2,3] loc("block") func @body(%i: f32[2,3], %j: f32[2,3]) {
    %k = add(%i, %j) : f32[2,3] loc("block.add")
    %l = clip(%k) {lo=0.0, hi=6.0} : f32[2,3] loc("block.act")
    return(%k, %l)
  }
  %z = mul(%a, %b) : f32[2,3] loc("mul")
  %m = concat(%z, %a, %b) {axis=1} : f32[2,9] loc("cat")
  return(%m)
}
"""
QUANT = """
#q0 = quant {scale=[0.5], zero=[3]}
#q1 = quant {scale=[0.25], zero=[-7]}
func @quant(%x: i8[1,4]{q=#q0}, %y: i8[4,1]{q=#q1}) {
  %c = copy(%x) : i8[1,4]{q=#q0} loc("copy")
  %p = permute(%c) {perm=[1,0]} : i8[4,1]{q=#q0} loc("perm")
  %k = concat(%y, %y) {axis=1} : i8[4,2]{q=#q1} loc("cat")
  return(%p, %k)
}
"""
SIDECAR = {"w": np.ones((4, 3, 3, 3), np.float32)}
SOURCES = {"cnn": CNN, "fused": FUSED, "quant": QUANT}


def fresh(name: str) -> Graph:
    return parse_graph(SOURCES[name], SIDECAR)


def retype(v: Value, **changes: object) -> None:
    v.type = replace(v.type, **changes)  # type: ignore[arg-type]


def forced(t: TensorType, **changes: object) -> TensorType:
    """A type that its own constructor would refuse."""
    out = replace(t)
    for key, value in changes.items():
        object.__setattr__(out, key, value)
    return out


Breaker = Callable[[Graph, Operation], bool]
BREAKERS: dict[str, Breaker] = {}


def breaker(fn: Breaker) -> Breaker:
    BREAKERS[fn.__name__] = fn
    return fn


@breaker
def wrong_shape(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        retype(r, shape=(*r.type.shape[:-1], r.type.shape[-1] + 1), quant=None)
    return bool(op.results)


@breaker
def wrong_rank(g: Graph, op: Operation) -> bool:
    for r in op.results[-1:]:
        retype(r, shape=(1, *r.type.shape), encoding=Encoding())
    return bool(op.results)


@breaker
def wrong_dtype(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        retype(r, dtype=DType.I32 if r.type.dtype is not DType.I32 else DType.I8)
    return bool(op.results)


@breaker
def quant_on_float(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        retype(r, quant=Quant.per_tensor(0.5), dtype=DType.F32)
    return bool(op.results)


@breaker
def other_quant(g: Graph, op: Operation) -> bool:
    if not op.results or op.results[0].type.quant is None:
        return False
    retype(op.results[0], quant=Quant.per_tensor(0.125))
    return True


@breaker
def zero_point_out_of_range(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        retype(r, quant=Quant.per_tensor(0.5, 1000), dtype=DType.I8)
    return bool(op.results)


@breaker
def negative_dimension(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.type = forced(r.type, shape=(-1, *r.type.shape[1:]))
    return bool(op.results)


@breaker
def order_is_no_permutation(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        encoding = Encoding()
        object.__setattr__(encoding, "order", (0,) * r.type.rank)
        r.type = forced(r.type, encoding=encoding)
    return bool(op.results)


@breaker
def unknown_sparse_encoding(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.type = replace(r.type, encoding=Encoding(None, "ellpack"))
    return bool(op.results)


@breaker
def sparse_activation(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.type = replace(r.type, encoding=Encoding(None, "csr"))
    return bool(op.results)


@breaker
def winograd_activation(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.type = replace(r.type, encoding=Encoding(winograd=4))
    return bool(op.results)


@breaker
def scales_do_not_fit(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        q = Quant((0.5,) * 99, (0,) * 99, 0)
        r.type = forced(r.type, quant=q, dtype=DType.I8)
    return bool(op.results)


@breaker
def operand_dropped(g: Graph, op: Operation) -> bool:
    if not op.operands or op.operands[0] is None:
        return False
    op.set_operand(0, None)
    return True


@breaker
def extra_operand(g: Graph, op: Operation) -> bool:
    if op.opdef.variadic:
        return False
    v = g.inputs[0]
    op.operands.append(v)
    v.uses[(op, len(op.operands) - 1)] = None
    return True


@breaker
def operand_defined_later(g: Graph, op: Operation) -> bool:
    if not op.operands or not op.results:
        return False
    op.set_operand(0, op.results[0])
    return True


@breaker
def moved_to_the_front(g: Graph, op: Operation) -> bool:
    first = next(iter(g))
    if op is first or not any(v is not None and v.producer for v in op.operands):
        return False
    g.unlink(op)
    g.insert_before(first, op)
    return True


@breaker
def moved_behind_return(g: Graph, op: Operation) -> bool:
    if op.name == "return":
        return False
    g.unlink(op)
    g.append(op)
    return True


@breaker
def unlinked_but_used(g: Graph, op: Operation) -> bool:
    if not any(r.uses for r in op.results):
        return False
    g.unlink(op)
    return True


@breaker
def operand_of_another_graph(g: Graph, op: Operation) -> bool:
    if not op.operands or op.operands[0] is None:
        return False
    other = Graph("other")
    op.set_operand(0, other.add_input(op.operands[0].type, "foreign"))
    return True


@breaker
def use_forgotten(g: Graph, op: Operation) -> bool:
    if not op.operands or op.operands[0] is None:
        return False
    del op.operands[0].uses[(op, 0)]
    return True


@breaker
def use_invented(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.uses[(op, 0)] = None
    return bool(op.results)


@breaker
def result_of_another_op(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.owner = g
    return bool(op.results)


@breaker
def wrong_result_index(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.index = 7
    return bool(op.results)


@breaker
def result_missing(g: Graph, op: Operation) -> bool:
    if not op.results:
        return False
    for user, pos in list(op.results[-1].uses):
        user.set_operand(pos, g.inputs[0])
    op.results = op.results[:-1]
    return True


@breaker
def result_twice(g: Graph, op: Operation) -> bool:
    op.results = op.results + op.results[:1]
    return bool(op.results)


@breaker
def name_taken(g: Graph, op: Operation) -> bool:
    for r in op.results[:1]:
        r.name = g.inputs[0].name
    return bool(op.results)


@breaker
def unknown_attribute(g: Graph, op: Operation) -> bool:
    op.attrs = MappingProxyType({**op.attrs, "color": 1})
    return True


@breaker
def attribute_missing(g: Graph, op: Operation) -> bool:
    op.attrs = MappingProxyType(dict(list(op.attrs.items())[1:]))
    return bool(op.opdef.attrs)


@breaker
def attribute_mutable(g: Graph, op: Operation) -> bool:
    if not op.attrs:
        return False
    key = next(iter(op.attrs))
    op.attrs = MappingProxyType({**op.attrs, key: [1, 2]})
    return True


@breaker
def attribute_of_the_wrong_kind(g: Graph, op: Operation) -> bool:
    if not op.attrs or op.name == "return":
        return False
    key = next(iter(op.attrs))
    op.attrs = MappingProxyType({**op.attrs, key: "nonsense"})
    return True


@breaker
def attribute_out_of_range(g: Graph, op: Operation) -> bool:
    bad = {"axis": 17, "perm": (0, 0, 1, 2), "kernel": (0, 2), "shape": (3, 3), "pads": (-1, 0, 0, 0), "groups": 5}
    keys = [k for k in bad if k in op.attrs]
    if not keys:
        return False
    op.attrs = MappingProxyType({**op.attrs, keys[-1]: bad[keys[-1]]})
    return True


@breaker
def op_not_registered(g: Graph, op: Operation) -> bool:
    d = op.opdef
    op.opdef = OpDef(d.name, d.fn, d.infer, d.operands, d.attrs, d.tags, d.cases, d.has_body)
    return True


@breaker
def body_where_none_belongs(g: Graph, op: Operation) -> bool:
    if op.body is not None:
        op.body = None
    else:
        op.body = Graph("stray")
    return True


@breaker
def predecessor_link_wrong(g: Graph, op: Operation) -> bool:
    op._prev = op
    return True


@breaker
def list_has_a_cycle(g: Graph, op: Operation) -> bool:
    op._next = op
    return True


@breaker
def graph_link_wrong(g: Graph, op: Operation) -> bool:
    op.graph = Graph("elsewhere")
    return True


@breaker
def count_wrong(g: Graph, op: Operation) -> bool:
    if op.name != "return":
        return False
    g._count += 1
    return True


@breaker
def return_twice(g: Graph, op: Operation) -> bool:
    if op.name == "return":
        return False
    g.emit(ops.return_, before=op, loc="early")
    return True


@breaker
def return_removed(g: Graph, op: Operation) -> bool:
    if op.name != "return":
        return False
    g.erase(op)
    return True


@breaker
def operation_repeated(g: Graph, op: Operation) -> bool:
    """A copy of the operation whose results claim the same names."""
    if not op.results or not any(r.name for r in op.results):
        return False
    types = [r.type for r in op.results]
    body = None if op.body is None else op.body.clone()
    names = [r.name for r in op.results]
    g.insert_before(op, Operation(op.opdef, op.operands, op.attrs, types=types, body=body, loc=op.loc, names=names))
    return True


@breaker
def constant_writable(g: Graph, op: Operation) -> bool:
    if op.name != "const":
        return False
    literal = Literal(np.zeros_like(op.attrs["value"].array))
    literal.array = literal.array.copy()
    op.attrs = MappingProxyType({**op.attrs, "value": literal})
    return True


@breaker
def constant_of_another_shape(g: Graph, op: Operation) -> bool:
    if op.name != "const":
        return False
    op.attrs = MappingProxyType({**op.attrs, "value": Literal(np.zeros((1, 2, 3), np.float32))})
    return True


@breaker
def constant_stored_otherwise(g: Graph, op: Operation) -> bool:
    if op.name != "const" or op.result.type.rank < 2:
        return False
    op.attrs = MappingProxyType({**op.attrs, "encoding": Encoding((3, 2, 1, 0))})
    return True


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
