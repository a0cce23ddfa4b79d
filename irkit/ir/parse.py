"""Reads the text form of :mod:`irkit.ir.text`; a ParseError tells line and column of what can't be read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from irkit.errors import IRError, ParseError
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import OpDef, lookup
from irkit.ir.text import MAX_DEPTH, NUMBER_NAME, type_text
from irkit.ir.types import Array, DType, Encoding, Literal, Quant, TensorType

_ENCODING = {"order", "sparse", "winograd"}
_TOKEN = re.compile(
    r"""(?P<skip>(?:\s+|//[^\n]*)+)
      | (?P<value>%(?:[A-Za-z0-9_.$/-]+|"(?:[^"\\\n]|\\.)*"))
      | (?P<key>@(?:[A-Za-z0-9_.$/-]+|"(?:[^"\\\n]|\\.)*"))
      | (?P<alias>\#[A-Za-z0-9_]+)
      | (?P<number>-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf\b))
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<ident>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<punct>[()\[\]{}<>=,:])""",
    re.VERBOSE,
)


class Parser:
    """Recursive descent over one text; ParseError tells line and column."""

    def __init__(self, text: str, sidecar: Mapping[str, Array] | None = None) -> None:
        self.text = text
        self.sidecar = sidecar or {}
        self.literals: dict[str, Literal] = {}
        self.quants: dict[str, Quant] = {}
        self.pos = 0
        self.depth = 0
        self.next()

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raise ParseError at ``at``, or at the current token."""
        at = self.start if at is None else at
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        raise ParseError(f"line {line}, column {column}: {message}")

    def next(self) -> None:
        """Go to the next token."""
        while True:
            self.start = self.pos
            if self.pos == len(self.text):
                self.kind, self.token = "end", ""
                return
            m = _TOKEN.match(self.text, self.pos)
            if m is None:
                self.fail(f"unexpected character {self.text[self.pos]!r}")
            self.pos = m.end()
            if m.lastgroup != "skip":
                self.kind, self.token = str(m.lastgroup), m.group()
                return

    def shown(self) -> str:
        """The current token, for messages."""
        return "the end of the text" if self.kind == "end" else repr(self.token)

    def accept(self, token: str) -> bool:
        """Skip this punctuation or word if it comes next."""
        if self.token == token and self.kind in ("punct", "ident"):
            self.next()
            return True
        return False

    def expect(self, token: str) -> None:
        """Skip this punctuation or word; an error when something else comes."""
        if not self.accept(token):
            self.fail(f"expected {token!r}, got {self.shown()}")

    def take(self, kind: str, what: str) -> str:
        """Return a token of this kind."""
        if self.kind != kind:
            self.fail(f"expected {what}, got {self.shown()}")
        token = self.token
        self.next()
        return token

    def unquote(self, token: str) -> str:
        """The string that a quoted or plain name stands for."""
        if not token.startswith('"'):
            return token
        try:
            return str(json.loads(token))
        except ValueError:
            self.fail(f"bad string {token}")

    def integer(self) -> int:
        """An int."""
        at, token = self.start, self.take("number", "an integer")
        try:
            return int(token)
        except ValueError:
            self.fail(f"expected an integer, got {token!r}", at)

    def integers(self) -> tuple[int, ...]:
        """``[1, 2]``."""
        self.expect("[")
        out: list[int] = []
        while not self.accept("]"):
            if out:
                self.expect(",")
            out.append(self.integer())
        return tuple(out)

    def literal(self, token: str, at: int) -> Literal:
        """The constant of the sidecar that ``@key`` names."""
        key = self.unquote(token[1:])
        if key not in self.literals:
            if key not in self.sidecar:
                self.fail(f"the sidecar has no constant {key!r}", at)
            self.literals[key] = Literal(self.sidecar[key])
        return self.literals[key]

    def quant_alias(self) -> Quant:
        """``#q0``, which must have been defined."""
        at, token = self.start, self.take("alias", "a quantization alias like #q0")
        if token not in self.quants:
            self.fail(f"{token} is not defined", at)
        return self.quants[token]

    def quant_definition(self) -> None:
        """``#q0 = quant {scale=[0.5], zero=[3], axis=0}``."""
        at, alias = self.start, self.take("alias", "an alias")
        self.expect("=")
        self.expect("quant")
        fields = self.attrs()
        if alias in self.quants:
            self.fail(f"{alias} is defined twice", at)
        unknown = set(fields) - {"scale", "zero", "axis"}
        if unknown or "scale" not in fields:
            self.fail(f"{alias}: expected scale, zero and axis, got {', '.join(fields) or 'nothing'}", at)
        try:
            scale = self.numbers(fields["scale"])
            zero = self.numbers(fields["zero"]) if "zero" in fields else (0,) * len(scale)
            self.quants[alias] = Quant(scale, zero, fields.get("axis"))
        except (IRError, TypeError, ValueError) as e:
            self.fail(f"{alias}: {e}", at)

    def numbers(self, value: Any) -> tuple[Any, ...]:
        """The numbers of a list or of a constant in the sidecar."""
        if isinstance(value, Literal):
            return tuple(value.array.ravel().tolist())
        if not isinstance(value, tuple):
            raise IRError(f"expected a list of numbers, got {value!r}")
        return value

    def encoding(self) -> Encoding:
        """``{order=[0,2,3,1], sparse="csr"}``."""
        at = self.start
        fields = self.attrs()
        if set(fields) - _ENCODING:
            self.fail(f"expected order, sparse and winograd, got {', '.join(fields)}", at)
        return self.make_encoding(fields, at)

    def make_encoding(self, fields: Mapping[str, Any], at: int) -> Encoding:
        """Check the fields of an encoding."""
        order, sparse, winograd = (fields.get(k) for k in ("order", "sparse", "winograd"))
        if order is not None and not (isinstance(order, tuple) and all(type(a) is int for a in order)):
            self.fail("order: expected a list of axes", at)
        if sparse is not None and not isinstance(sparse, str):
            self.fail("sparse: expected a string", at)
        if winograd is not None and type(winograd) is not int:
            self.fail("winograd: expected an integer", at)
        return Encoding(order, sparse, winograd)

    def type(self) -> TensorType:
        """``i8[1,784]{q=#q0, order=[1,0]}``."""
        at, word = self.start, self.take("ident", "a type")
        try:
            dtype = DType(word)
        except ValueError:
            self.fail(f"expected a type, got {word!r}", at)
        shape = self.integers()
        fields = self.attrs() if self.token == "{" else {}
        quant = fields.pop("q", None)
        if quant is not None and not isinstance(quant, Quant):
            self.fail("q: expected a quantization alias", at)
        if set(fields) - _ENCODING:
            self.fail(f"expected q, order, sparse and winograd, got {', '.join(fields)}", at)
        try:
            return TensorType(shape, dtype, quant, self.make_encoding(fields, at))
        except IRError as e:
            self.fail(str(e), at)

    def array(self, t: TensorType, at: int) -> Literal:
        """The elements of an inline constant, between ``<`` and ``>``."""
        self.expect("<")
        values: list[Any] = []
        while not self.accept(">"):
            if values:
                self.expect(",")
            values.append(self.element(t.dtype))
        if len(values) != t.size:
            self.fail(f"{type_text(t)} takes {t.size} elements, got {len(values)}", at)
        a = np.empty(t.size, t.dtype.numpy)
        for i, v in enumerate(values):
            if isinstance(v, bytes):
                a[i] = np.frombuffer(v, t.dtype.numpy)[0]
            else:
                a[i] = v
        return Literal(a.reshape(t.shape))

    def element(self, dtype: DType) -> Any:
        """One element of an inline constant."""
        at, token = self.start, self.token
        if dtype is DType.BOOL:
            if token not in ("true", "false"):
                self.fail(f"expected true or false, got {self.shown()}")
            self.next()
            return token == "true"
        if dtype.is_float:
            if self.accept("nan"):
                if not self.accept("("):
                    return np.nan
                bits = self.integer()
                self.expect(")")
                if not 0 <= bits < 1 << (8 * dtype.itemsize):
                    self.fail(f"nan payload out of range: {bits}", at)
                return bits.to_bytes(dtype.itemsize, "little")
            if self.accept("inf"):
                return np.inf
            self.take("number", "a number")
            with np.errstate(over="ignore"):
                return dtype.numpy.type(float(token))
        value = self.integer()
        info = np.iinfo(dtype.numpy)
        if not info.min <= value <= info.max:
            self.fail(f"{value} does not fit {dtype.value}", at)
        return value

    def attrs(self) -> dict[str, Any]:
        """``{name=value, ...}``."""
        self.expect("{")
        out: dict[str, Any] = {}
        while not self.accept("}"):
            if out:
                self.expect(",")
            at, name = self.start, self.take("ident", "an attribute's name")
            if name in out:
                self.fail(f"attribute {name} is given twice", at)
            self.expect("=")
            out[name] = self.attr()
        return out

    def attr(self) -> Any:
        """One attribute value."""
        at, token, kind = self.start, self.token, self.kind
        if kind == "number":
            self.next()
            try:
                return float(token) if re.search(r"[.eEinf]", token) else int(token)
            except ValueError:
                self.fail(f"bad number {token!r}", at)
        if kind == "string":
            self.next()
            return self.unquote(token)
        if kind == "key":
            self.next()
            return self.literal(token, at)
        if kind == "alias":
            return self.quant_alias()
        if token == "[":
            return self.sequence()
        if token == "{":
            return self.encoding()
        words = {"none": None, "true": True, "false": False, "inf": float("inf"), "nan": float("nan")}
        if kind == "ident" and token in words:
            self.next()
            return words[token]
        if kind == "ident":
            t = self.type()
            return self.array(t, at) if self.token == "<" else t
        self.fail(f"expected an attribute value, got {self.shown()}")

    def sequence(self) -> tuple[Any, ...]:
        """``[a, b]``."""
        self.deeper()
        self.expect("[")
        out: list[Any] = []
        while not self.accept("]"):
            if out:
                self.expect(",")
            out.append(self.attr())
        self.depth -= 1
        return tuple(out)

    def deeper(self) -> None:
        """Count nesting, which a text must not drive into Python's recursion limit."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH}")

    def value_name(self) -> tuple[str, str]:
        """The token that names a value in this text, and the value's name ("" for a numbered one)."""
        token = self.take("value", "a value like %x")
        return token, "" if NUMBER_NAME.match(token[1:]) else self.unquote(token[1:])

    def graph(self) -> Graph:
        """``func @name(%x: f32[1]) { ... }``."""
        self.deeper()
        self.expect("func")
        g = Graph(self.unquote(self.take("key", "a name like @main")[1:]))
        env: dict[str, Value] = {}
        self.expect("(")
        while not self.accept(")"):
            if env:
                self.expect(",")
            at = self.start
            token, name = self.value_name()
            if token in env:
                self.fail(f"{token} is defined twice", at)
            self.expect(":")
            env[token] = g.add_input(self.type(), name)
            env[token].name = name
        self.expect("{")
        while not self.accept("}"):
            self.operation(g, env)
        self.depth -= 1
        return g

    def operation(self, g: Graph, env: dict[str, Value]) -> None:
        """One line of a body."""
        start = self.start
        results: list[tuple[str, str, int]] = []
        if self.kind == "value":
            while True:
                results.append((*self.value_name(), start))
                if not self.accept(","):
                    break
            self.expect("=")
        at = self.start
        opdef = self.opdef()
        operands = self.operands(env)
        attrs = self.attrs() if self.token == "{" else {}
        types: list[TensorType] = []
        if self.accept(":"):
            types.append(self.type())
            while self.accept(","):
                types.append(self.type())
        if len(types) != len(results):
            self.fail(f"{opdef.name}: {len(results)} results but {len(types)} types", start)
        loc = ""
        if self.accept("loc"):
            self.expect("(")
            loc = self.unquote(self.take("string", "a string"))
            self.expect(")")
        body = self.graph() if self.token == "func" else None
        try:
            names = [name for _, name, _ in results]
            op = Operation(opdef, operands, attrs, types=types, body=body, loc=loc, names=names)
        except IRError as e:
            self.fail(str(e), at)
        for (token, _, where), v in zip(results, op.results, strict=True):
            if token in env:
                self.fail(f"{token} is defined twice", where)
            env[token] = v
        g.append(op)

    def opdef(self) -> OpDef:
        """The name of an op."""
        at, word = self.start, self.take("ident", "an operation")
        try:
            return lookup(word)
        except IRError as e:
            self.fail(str(e), at)

    def operands(self, env: Mapping[str, Value]) -> list[Value | None]:
        """``(%x, _)``."""
        self.expect("(")
        out: list[Value | None] = []
        while not self.accept(")"):
            if out:
                self.expect(",")
            if self.accept("_"):
                out.append(None)
                continue
            at, token = self.start, self.take("value", "a value like %x, or _")
            if token not in env:
                self.fail(f"{token} is not defined", at)
            out.append(env[token])
        return out


def parse_graph(text: str, sidecar: Mapping[str, Array] | None = None) -> Graph:
    """The graph that ``text`` stands for; ``sidecar`` holds its large constants. The result is not verified.

    ParseError tells line and column of what can't be read.
    """
    p = Parser(text, sidecar)
    while p.kind == "alias":
        p.quant_definition()
    g = p.graph()
    if p.kind != "end":
        p.fail(f"expected the end of the text, got {p.shown()}")
    return g


def parse_type(text: str) -> TensorType:
    """The type that ``text`` stands for (without quantization)."""
    p = Parser(text)
    t = p.type()
    if p.kind != "end":
        p.fail(f"expected the end of the text, got {p.shown()}")
    return replace(t)
