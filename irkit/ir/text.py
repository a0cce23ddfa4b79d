"""The text form: one grammar for all ops, which :mod:`irkit.ir.parse` reads back to an equal graph.

::

    #q0 = quant {scale=[0.5], zero=[3]}
    func @main(%x: f32[1,784]) {
      %xq = quantize(%x) {quant=#q0} : i8[1,784]{q=#q0}
      %w = const() {quant=#q1, value=@w} : i8[128,784]{q=#q1}
      %y = qlinear(%xq, %w, _) {quant=#q0} : i8[1,128]{q=#q0} loc("fc1")
      return(%y)
    }

Attributes that have their default are left out. Values without a name print as numbers. Constants of more than 16
elements live in a sidecar, a dict from key to array, and print as ``@key``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np

from irkit.errors import IRError
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import REQUIRED
from irkit.ir.types import Array, DType, Encoding, Literal, Quant, TensorType

INLINE_LIMIT = 16  # elements of a constant that is written in the text
MAX_DEPTH = 16  # of nested lists and bodies in a text

_PLAIN = re.compile(r"[A-Za-z0-9_.$/-]+\Z")
NUMBER_NAME = re.compile(r"[0-9]+\Z")


def _name(text: str) -> str:
    return text if _PLAIN.match(text) else json.dumps(text)


def same_attr(a: Any, b: Any) -> bool:
    """Equality of attributes that tells 1 from 1.0 and True, 0.0 from -0.0, and holds for NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same_attr(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return repr(a) == repr(b)
    return bool(a == b)


def type_text(t: TensorType, quant: str | None = None) -> str:
    """``f32[1,2]{order=[1,0]}``; ``quant`` is what stands for the type's quantization."""
    extra = []
    if t.quant is not None:
        extra.append(f"q={quant if quant is not None else 'quant'}")
    if t.encoding.order is not None:
        extra.append(f"order=[{','.join(map(str, t.encoding.order))}]")
    if t.encoding.sparse is not None:
        extra.append(f"sparse={json.dumps(t.encoding.sparse)}")
    if t.encoding.winograd is not None:
        extra.append(f"winograd={t.encoding.winograd}")
    return f"{t.dtype.value}[{','.join(map(str, t.shape))}]" + (f"{{{', '.join(extra)}}}" if extra else "")


def _element(x: Any) -> str:
    """One array element, such that parsing gives the same bits."""
    if isinstance(x, (np.bool_, bool)):
        return "true" if x else "false"
    if isinstance(x, np.floating):
        if np.isnan(x):
            bits = int(x.view(np.dtype(f"u{x.itemsize}")))
            plain = int(x.dtype.type(np.nan).view(np.dtype(f"u{x.itemsize}")))
            return "nan" if bits == plain else f"nan({bits})"
        short = repr(float(str(x)))
        with np.errstate(over="ignore"):
            return short if x.dtype.type(float(short)) == x else repr(float(x))
    return str(int(x))


class _Printer:
    def __init__(self, sidecar: MutableMapping[str, Array] | None, inline: int = INLINE_LIMIT) -> None:
        self.inline = inline
        self.sidecar: MutableMapping[str, Array] = {} if sidecar is None else sidecar
        self.quants: dict[Quant, str] = {}
        self.keys: dict[Literal, str] = {}
        self.lines: list[str] = []

    def key(self, literal: Literal, hint: str) -> str:
        key = self.keys.get(literal)
        if key is None:
            base = hint or f"c{len(self.keys)}"
            key, n = base, 1
            while key in self.sidecar:
                key, n = f"{base}.{n}", n + 1
            self.keys[literal] = key
            self.sidecar[key] = literal.array
        return "@" + _name(key)

    def quant(self, q: Quant) -> str:
        if q not in self.quants:
            self.quants[q] = f"#q{len(self.quants)}"
        return self.quants[q]

    def quant_line(self, q: Quant) -> str:
        alias = self.quants[q]
        if len(q.scale) > self.inline:
            scale = self.key(Literal(q.scale_array()), alias[1:] + ".scale")
            zero = self.key(Literal(np.asarray(q.zero, np.int64)), alias[1:] + ".zero") if any(q.zero) else None
        else:
            scale = f"[{', '.join(_element(np.float32(s)) for s in q.scale)}]"
            zero = f"[{', '.join(map(str, q.zero))}]" if any(q.zero) else None
        parts = [f"scale={scale}"]
        if zero is not None:
            parts.append(f"zero={zero}")
        if q.axis is not None:
            parts.append(f"axis={q.axis}")
        return f"{alias} = quant {{{', '.join(parts)}}}"

    def type(self, t: TensorType) -> str:
        return type_text(t, None if t.quant is None else self.quant(t.quant))

    def attr(self, x: Any, hint: str = "") -> str:
        if x is None:
            return "none"
        if isinstance(x, bool):
            return "true" if x else "false"
        if isinstance(x, int):
            return str(x)
        if isinstance(x, float):
            return repr(x)
        if isinstance(x, str):
            return json.dumps(x)
        if isinstance(x, tuple):
            return f"[{', '.join(self.attr(e, hint) for e in x)}]"
        if isinstance(x, Quant):
            return self.quant(x)
        if isinstance(x, Encoding):
            parts = [] if x.order is None else [f"order=[{','.join(map(str, x.order))}]"]
            parts += [] if x.sparse is None else [f"sparse={json.dumps(x.sparse)}"]
            parts += [] if x.winograd is None else [f"winograd={x.winograd}"]
            return f"{{{', '.join(parts)}}}"
        if isinstance(x, TensorType):
            return self.type(x)
        if isinstance(x, Literal):
            a = x.array
            if a.size > self.inline:
                return self.key(x, hint)
            shape = ",".join(map(str, a.shape))
            return f"{DType.of(a.dtype).value}[{shape}]<{', '.join(_element(e) for e in a.ravel())}>"
        raise IRError(f"an attribute of type {type(x).__name__} has no text form")

    def graph(self, g: Graph, indent: str, lead: str) -> None:
        names: dict[Value, str] = {}
        taken: set[str] = set()

        def declare(v: Value) -> str:
            if not v.name or v.name in taken:
                names[v] = f"%{len(names)}"
            else:
                taken.add(v.name)
                plain = _PLAIN.match(v.name) and not NUMBER_NAME.match(v.name)
                names[v] = "%" + (v.name if plain else json.dumps(v.name))
            return names[v]

        params = ", ".join(f"{declare(v)}: {self.type(v.type)}" for v in g.inputs)
        self.lines.append(f"{lead}func @{_name(g.name)}({params}) {{")
        for op in g:
            self.operation(op, indent + "  ", names, declare)
        self.lines.append(indent + "}")

    def operation(self, op: Operation, indent: str, names: Mapping[Value, str], declare: Any) -> None:
        args = ", ".join("_" if v is None else names.get(v, "%?") for v in op.operands)
        hint = op.results[0].name if op.results else ""
        shown = [
            f"{k}={self.attr(v, hint)}"
            for k, v in op.attrs.items()
            if op.opdef.attrs.get(k, REQUIRED) is REQUIRED or not same_attr(v, op.opdef.attrs[k])
        ]
        results = ", ".join(declare(r) for r in op.results)
        line = f"{indent}{results} = {op.name}({args})" if results else f"{indent}{op.name}({args})"
        if shown:
            line += f" {{{', '.join(shown)}}}"
        if results:
            line += " : " + ", ".join(self.type(r.type) for r in op.results)
        if op.loc:
            line += f" loc({json.dumps(op.loc)})"
        if op.body is None:
            self.lines.append(line)
        else:
            self.graph(op.body, indent, line + " ")


def print_graph(graph: Graph, sidecar: MutableMapping[str, Array] | None = None, inline: int = INLINE_LIMIT) -> str:
    """The text of a graph. Constants of more than ``inline`` elements are put into ``sidecar`` (when given) under the
    keys that the text names."""
    p = _Printer(sidecar, inline)
    p.graph(graph, "", "")
    head = [p.quant_line(q) for q in p.quants]
    return "\n".join(head + p.lines) + "\n"


def print_op(op: Operation) -> str:
    """One operation's line (and its body), with the names its graph's text gives only where values are named."""
    p = _Printer(None)
    names: dict[Value, str] = {v: "%" + (_name(v.name) if v.name else "?") for v in op.operands if v is not None}
    p.operation(op, "", names, lambda r: "%" + (_name(r.name) if r.name else "?"))
    return "\n".join(p.lines)
