"""The text form: what it looks like, that it parses back to an equal graph, and what its errors say."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit import ops
from irkit.errors import ParseError
from irkit.ir.graph import Graph, Value
from irkit.ir.parse import Parser, parse_graph
from irkit.ir.text import print_graph, same_attr
from irkit.ir.types import Array, DType, Encoding, Literal, Quant, TensorType
from irkit.ir.verify import difference, verify


def example() -> Graph:
    g = Graph("main", [("x", TensorType((1, 4)))])
    x = g.inputs[0]
    w = g.emit(ops.const, value=np.arange(20, dtype=np.float32).reshape(5, 4), names=["fc1.weight"]).result
    b = g.emit(ops.const, value=np.float32([1, 0.1, math.inf, -0.0, math.nan])).result
    y = g.emit(ops.linear, x, w, b, loc="fc1", names=["y"]).result
    g.emit(ops.return_, g.emit(ops.clip, y, lo=0.0, hi=math.inf).result)
    return g


def test_example_looks_like_this() -> None:
    assert print_graph(example()) == (
        "func @main(%x: f32[1,4]) {\n"
        "  %fc1.weight = const() {value=@fc1.weight} : f32[5,4]\n"
        "  %2 = const() {value=f32[5]<1.0, 0.1, inf, -0.0, nan>} : f32[5]\n"
        '  %y = linear(%x, %fc1.weight, %2) : f32[1,5] loc("fc1")\n'
        "  %4 = clip(%y) {lo=0.0, hi=inf} : f32[1,5]\n"
        "  return(%4)\n"
        "}\n"
    )


def round_trip(g: Graph) -> Graph:
    sidecar: dict[str, Array] = {}
    text = print_graph(g, sidecar)
    back = parse_graph(text, sidecar)
    assert difference(g, back) is None, text
    again: dict[str, Array] = {}
    assert print_graph(back, again) == text
    assert list(again) == list(sidecar)
    return back


def test_round_trip_with_sidecar_and_body() -> None:
    g = example()
    body = Graph("body", [("a", TensorType((1, 5)))])
    c = body.emit(ops.const, value=np.array(2, np.float32)).result
    body.emit(ops.return_, body.emit(ops.mul, body.inputs[0], c, loc="act").result)
    last = g.terminator
    y = last.operands[0]
    last.set_operand(0, g.emit(ops.fused, y, body=body, before=last, loc="act").result)
    verify(g)
    round_trip(g)


def test_optional_operands_quant_encoding_and_odd_names() -> None:
    q = Quant((0.5, 0.25, 1e-7), (0, 0, 0), 0)
    g = Graph(
        "a graph", [("7", TensorType((1, 3), DType.I8, Quant.per_tensor(0.1, -3))), ('q"uo te', TensorType((2, 3)))]
    )
    w = g.emit(ops.const, value=np.zeros((3, 40, 1, 1), np.int8), quant=q, encoding=Encoding((0, 2, 3, 1))).result
    g.emit(ops.const, value=np.zeros((20, 3), np.float32), encoding=Encoding(None, "csr"))
    g.emit(ops.const, value=np.zeros((2, 4, 3, 3), np.float32), encoding=Encoding((0, 2, 3, 1), winograd=4))
    g.emit(ops.const, value=np.zeros((3, 0), bool))
    g.emit(ops.const, value=np.array([True, False]))
    g.emit(ops.const, value=np.arange(17), quant=None)
    big = Quant(tuple(0.01 * (i + 1) for i in range(40)), (0,) * 40, 1)
    g.emit(ops.const, value=np.ones((2, 40), np.int8), quant=big)
    g.emit(ops.return_, *g.inputs, w, tree='{"a": [0]}', loc='x\n"y"')
    text = print_graph(round_trip(g))
    assert '%"7"' in text
    assert 'sparse="csr"' in text
    assert "order=[0,2,3,1], winograd=4" in text
    assert "order=[0,2,3,1]" in text
    assert "@q2.scale" in text


def test_equal_constants_share_a_key_and_names_do_not_clash() -> None:
    g = Graph("main")
    a = np.arange(100, dtype=np.float32)
    g.emit(ops.const, value=a, names=["w"])
    g.emit(ops.const, value=a.copy(), names=["v"])
    h = {"w": np.zeros(1)}
    g.emit(ops.return_)
    text = print_graph(g, h)
    assert set(h) == {"w", "w.1"}
    assert text.count("@w.1") == 2


FLOATS32 = st.floats(width=32, allow_nan=True, allow_infinity=True)
ATTRS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@given(ATTRS)
def test_every_attribute_parses_back(value: object) -> None:
    from irkit.ir.text import _Printer

    p = Parser(_Printer(None).attr(value))
    assert same_attr(p.attr(), value)
    assert p.kind == "end"


@given(st.lists(st.integers(0, 2**32 - 1), max_size=16))
def test_every_float32_keeps_its_bits_inline(bits: list[int]) -> None:
    a = np.array(bits, np.uint32).view(np.float32)
    g = Graph("m")
    g.emit(ops.return_, g.emit(ops.const, value=a).result)
    out = parse_graph(print_graph(g))
    literal = next(iter(out)).attrs["value"]
    assert literal.array.view(np.uint32).tolist() == bits


@given(st.lists(st.integers(0, 2**64 - 1), max_size=4))
def test_every_float64_keeps_its_bits_inline(bits: list[int]) -> None:
    a = np.array(bits, np.uint64).view(np.float64)
    g = Graph("m")
    g.emit(ops.return_, g.emit(ops.const, value=a).result)
    literal = next(iter(parse_graph(print_graph(g)))).attrs["value"]
    assert literal.array.view(np.uint64).tolist() == bits


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    name = st.text(max_size=6) | st.from_regex(r"[A-Za-z0-9_.$/-]{1,8}", fullmatch=True)
    g = Graph(draw(name))
    used: set[str] = set()

    def fresh() -> str:
        n = draw(name)
        if n in used:
            return ""
        used.add(n)
        return n

    quants = [None, Quant.per_tensor(0.5, 1), Quant.per_tensor(draw(st.floats(1e-20, 1e20)), 0)]
    values: list[Value] = []
    for _ in range(draw(st.integers(1, 3))):
        q = draw(st.sampled_from(quants))
        v = g.add_input(TensorType((2, 3), DType.F32 if q is None else DType.I8, q))
        v.name = fresh()
        values.append(v)
    for _ in range(draw(st.integers(0, 6))):
        v = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["copy", "relayout", "reshape", "const", "concat", "relu"]))
        loc = draw(st.text(max_size=4))
        if kind == "copy":
            r = g.emit(ops.copy, v, loc=loc).result
        elif kind == "relayout":
            order = tuple(draw(st.permutations(range(v.type.rank))))
            r = g.emit(ops.relayout, v, types=[v.type.with_order(order)], loc=loc).result
        elif kind == "reshape":
            shapes = [(6,), (3, 2), (1, 6), (2, 3)] if v.type.size == 6 else [(v.type.size, 1), (1, v.type.size, 1)]
            r = g.emit(ops.reshape, v, shape=draw(st.sampled_from(shapes)), loc=loc).result
        elif kind == "concat":
            same = [u for u in values if u.type.logical() == v.type.logical()]
            r = g.emit(ops.concat, v, *draw(st.lists(st.sampled_from(same), max_size=3)), axis=0, loc=loc).result
        elif kind == "const":
            dtype = draw(st.sampled_from(list(DType))).numpy
            n = draw(st.integers(0, 20))
            r = g.emit(ops.const, value=np.arange(n).astype(dtype), loc=loc).result
        else:
            if v.type.quant is not None or v.type.dtype is DType.BOOL:
                continue
            r = g.emit(ops.relu, v, loc=loc).result
        r.name = fresh()
        values.append(r)
    g.emit(ops.return_, *draw(st.lists(st.sampled_from(values), max_size=3)), tree=draw(st.text(max_size=3)))
    return g


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_graphs_parse_back_to_equal_graphs(g: Graph) -> None:
    verify(g)
    round_trip(g)


BAD = [
    ("", "line 1, column 1: expected 'func', got the end of the text"),
    ("func @m() {\n  return()\n", "line 3, column 1: expected an operation, got the end of the text"),
    ("func @m() {\n  return()\n} x", "line 3, column 3: expected the end of the text, got 'x'"),
    ("func @m() {\n  %y = what() : f32[1]\n}", "line 2, column 8: unknown op 'what'"),
    ("func @m() {\n  return(%x)\n}", "line 2, column 10: %x is not defined"),
    ("func @m(%x: f32[1], %x: f32[1]) {\n}", "line 1, column 21: %x is defined twice"),
    ("func @m(%x: f33[1]) {\n}", "line 1, column 13: expected a type, got 'f33'"),
    ("func @m(%x: f32[-1]) {\n}", "line 1, column 13: negative dimension"),
    ("func @m(%x: f32[1.5]) {\n}", "line 1, column 17: expected an integer, got '1.5'"),
    ("func @m(%x: i8[1]{q=#q0}) {\n}", "line 1, column 21: #q0 is not defined"),
    ("#q0 = quant {scale=[0.5]}\n#q0 = quant {scale=[0.5]}", "line 2, column 1: #q0 is defined twice"),
    ("#q0 = quant {scale=[0.0]}", "line 1, column 1: #q0: quant: scales must be finite and positive"),
    ("#q0 = quant {scale=[0.5], sale=1}", "#q0: expected scale, zero and axis, got scale, sale"),
    ("#q0 = quant {scale=3}", "#q0: expected a list of numbers, got 3"),
    ("func @m(%x: f32[2]{order=[1,0]}) {\n}", "line 1, column 13: storage order (1, 0) is not a permutation"),
    ("func @m(%x: f32[2]{odor=[0]}) {\n}", "expected q, order, sparse and winograd, got odor"),
    (
        "func @m() {\n  %c = const() {value=f32[2]<1.0>} : f32[2]\n}",
        "line 2, column 23: f32[2] takes 2 elements, got 1",
    ),
    ("func @m() {\n  %c = const() {value=i8[1]<128>} : i8[1]\n}", "line 2, column 29: 128 does not fit i8"),
    ("func @m() {\n  %c = const() {value=bool[1]<1>} : bool[1]\n}", "expected true or false, got '1'"),
    ("func @m() {\n  %c = const() {value=@w} : f32[2]\n}", "line 2, column 23: the sidecar has no constant 'w'"),
    ("func @m(%x: f32[1]) {\n  %y = relu(%x)\n}", "line 2, column 3: relu: 1 results but 0 types"),
    ("func @m(%x: f32[1]) {\n  %y = relu(%x) {a=1} : f32[1]\n}", "line 2, column 8: relu: unknown attribute(s) a"),
    ("func @m(%x: f32[1]) {\n  %y = relu(_) : f32[1]\n}", "line 2, column 8: relu: operand x is missing"),
    ("func @m(%x: f32[1]) {\n  %y = clip(%x) {lo=0.0} : f32[1]\n}", "line 2, column 8: clip: attribute hi is missing"),
    ("func @m(%x: f32[1]) {\n  %y = clip(%x) {lo=0.0, lo=1.0} : f32[1]\n}", "attribute lo is given twice"),
    ("func @m() {\n  return() {tree=?}\n}", "line 2, column 18: unexpected character '?'"),
    ('func @m() {\n  return() {tree="\\q"}\n}', "bad string"),
    ("func @m() {\n  return() {tree=" + "[" * 100 + "}\n}", "nested deeper than 16"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_errors_tell_line_and_column(text: str, message: str) -> None:
    with pytest.raises(ParseError) as e:
        parse_graph(text)
    assert message in str(e.value)
    assert str(e.value).startswith("line ")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_text_parses_or_raises_parse_error(data: st.DataObject) -> None:
    sidecar: dict[str, Array] = {}
    text = print_graph(example(), sidecar)
    at = data.draw(st.integers(0, len(text) - 1))
    n = data.draw(st.integers(0, 5))
    junk = data.draw(st.text(alphabet='%@#[]{}()<>=,:"0a-._ \n', max_size=3))
    with contextlib.suppress(ParseError):
        parse_graph(text[:at] + junk + text[at + n :], sidecar)


def test_comments_and_shared_literals() -> None:
    g = parse_graph(
        "// RUN: dce\nfunc @m(%x: f32[1]) { // inputs\n  %a = const() {value=@k} : f32[1]\n"
        "  %b = const() {value=@k} : f32[1]\n  return(%x)\n}\n",
        {"k": np.float32([1])},
    )
    a, b, _ = g
    assert isinstance(a.attrs["value"], Literal)
    assert a.attrs["value"] is b.attrs["value"]
