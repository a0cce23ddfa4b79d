"""The verifier: structure by walking the graph, types by inferring them again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from irkit.errors import IRError
from irkit.ir.graph import Graph, Operation, Value, const_array, infer_types
from irkit.ir.opdef import REGISTRY
from irkit.ir.text import same_attr, type_text
from irkit.ir.types import DType, Encoding, Literal, Quant, TensorType

SPARSE_ENCODINGS = ("csr",)
WINOGRAD_TILES = (2, 4)
_ACC_OPS = ("qconv2d", "qlinear")
_INT32_MAX = 2**31 - 1


def verify(graph: Graph) -> None:
    """Check ``graph`` and the bodies in it; IRError naming operation and location of the first thing that is wrong."""
    work: list[tuple[Graph, str, int]] = [(graph, f"@{graph.name}", 0)]
    while work:
        g, path, depth = work.pop()
        _Checker(g, path).check()
        for op in g:
            if op.body is not None:
                if depth:
                    raise IRError(f"verify {path}: {op.name}{_loc(op)}: a body inside a body")
                work.append((op.body, f"{path}/{op.name}{_loc(op)}", depth + 1))


def _loc(op: Operation) -> str:
    return f" @{op.loc}" if op.loc else ""


class _Checker:
    def __init__(self, graph: Graph, path: str) -> None:
        self.g = graph
        self.path = path
        self.defined: set[Value] = set()
        self.names: dict[str, str] = {}

    def fail(self, op: Operation | None, message: str) -> None:
        if op is None:
            raise IRError(f"verify {self.path}: {message}")
        result = next((f" (%{r.name})" for r in op.results if r.name), "")
        raise IRError(f"verify {self.path}: {op.name}{result}{_loc(op)}: {message}")

    def check(self) -> None:
        ops = self.links()
        for i, v in enumerate(self.g.inputs):
            if v.owner is not self.g or v.index != i:
                self.fail(None, f"input {i} (%{v.name}) belongs elsewhere")
            self.define(None, v)
            self.type(None, f"input %{v.name}", v.type)
        if not ops or ops[-1].name != "return":
            self.fail(ops[-1] if ops else None, "the last operation is not return")
        for op in ops:
            if op.name == "return" and op is not ops[-1]:
                self.fail(op, "return is not the last operation")
            self.operation(op)
        members = set(ops)
        for v in self.defined:
            for user, pos in v.uses:
                if user not in members or pos >= len(user.operands) or user.operands[pos] is not v:
                    self.fail(v.producer, f"%{v.name} lists a use by {user.name}{_loc(user)} that is not there")

    def links(self) -> list[Operation]:
        """The operations; the linked list must be sound both ways."""
        out: list[Operation] = []
        seen: set[Operation] = set()
        prev: Operation | None = None
        op = self.g._first
        while op is not None:
            if op in seen:
                self.fail(op, "the list of operations has a cycle")
            if op.graph is not self.g:
                self.fail(op, "is in the list of a graph it does not belong to")
            if op._prev is not prev:
                self.fail(op, "the list of operations is broken (wrong predecessor)")
            seen.add(op)
            out.append(op)
            prev, op = op, op._next
        if self.g._last is not prev or len(self.g) != len(out):
            self.fail(prev, f"the list of operations is broken ({len(self.g)} counted, {len(out)} found)")
        return out

    def define(self, op: Operation | None, v: Value) -> None:
        if v in self.defined:
            self.fail(op, f"%{v.name} is defined twice")
        self.defined.add(v)
        if v.name:
            if v.name in self.names:
                self.fail(op, f"the name %{v.name} is already that of a result of {self.names[v.name]}")
            self.names[v.name] = "the graph (an input)" if op is None else op.name + _loc(op)

    def operation(self, op: Operation) -> None:
        if REGISTRY.get(op.name) is not op.opdef:
            self.fail(op, "is not an op of the registry")
        self.operands(op)
        self.attributes(op)
        if op.opdef.has_body != (op.body is not None):
            self.fail(op, "needs a body" if op.opdef.has_body else "takes no body")
        for i, r in enumerate(op.results):
            if r.owner is not op or r.index != i:
                self.fail(op, f"result {i} belongs elsewhere")
            self.define(op, r)
            self.type(op, f"result {i}", r.type)
        self.infer(op)
        if op.name == "const":
            self.constant(op)
        elif any(r.type.encoding.sparse is not None for r in op.results):
            self.fail(op, "only a const may have a sparse encoding")
        elif any(r.type.encoding.winograd is not None for r in op.results):
            self.fail(op, "only a const may be marked for Winograd's method")
        if op.name in _ACC_OPS:
            self.accumulator(op)

    def operands(self, op: Operation) -> None:
        params = op.opdef.operands
        fixed = [p for p in params if not p.variadic]
        if len(op.operands) < len(fixed) or (len(op.operands) > len(fixed) and not op.opdef.variadic):
            self.fail(op, f"expected {len(fixed)} operands, got {len(op.operands)}")
        for pos, v in enumerate(op.operands):
            p = params[min(pos, len(params) - 1)]
            if v is None:
                if not p.optional:
                    self.fail(op, f"operand {p.name} is missing")
                continue
            if v not in self.defined:
                owner = v.producer
                if owner is None:
                    where = "an input of another graph"
                else:
                    where = f"made by {owner.name}{_loc(owner)}, which does not come before it in this graph"
                self.fail(op, f"operand {p.name} (%{v.name}) is {where}")
            if (op, pos) not in v.uses:
                self.fail(op, f"operand {p.name} (%{v.name}) does not know of this use")

    def attributes(self, op: Operation) -> None:
        if set(op.attrs) != set(op.opdef.attrs):
            wrong = sorted(set(op.attrs) ^ set(op.opdef.attrs))
            self.fail(op, f"missing or unknown attribute(s) {', '.join(wrong)}")
        for key, value in op.attrs.items():
            if not _is_frozen(value):
                self.fail(op, f"attribute {key} is mutable or of an unknown kind: {type(value).__name__}")

    def type(self, op: Operation | None, what: str, t: TensorType) -> None:
        if not isinstance(t, TensorType):
            self.fail(op, f"{what} has no type: {t!r}")
        if not isinstance(t.dtype, DType) or any(type(d) is not int or d < 0 for d in t.shape):
            self.fail(op, f"{what} has a malformed type")
        order = t.encoding.order
        if order is not None and sorted(order) != list(range(t.rank)):
            self.fail(op, f"{what}: storage order {list(order)} is not a permutation of the axes of {type_text(t)}")
        if t.encoding.sparse is not None and t.encoding.sparse not in SPARSE_ENCODINGS:
            self.fail(op, f"{what}: unknown sparse encoding {t.encoding.sparse!r}")
        q = t.quant
        if q is None:
            return
        if t.dtype not in (DType.I8, DType.U8, DType.I16, DType.I32):
            self.fail(op, f"{what}: quantization on {t.dtype.value}, which is not an integer storage type")
        info = np.iinfo(t.dtype.numpy)
        if any(not info.min <= z <= info.max for z in q.zero):
            self.fail(op, f"{what}: a zero point does not fit {t.dtype.value}")
        if not all(math.isfinite(s) and s > 0 for s in q.scale) or len(q.scale) != len(q.zero):
            self.fail(op, f"{what}: scales must be finite and positive, one per zero point")
        count = 1 if q.axis is None else (t.shape[q.axis] if 0 <= q.axis < t.rank else -1)
        if len(q.scale) != count:
            self.fail(op, f"{what}: {len(q.scale)} scales on axis {q.axis} don't fit {type_text(t)}")

    def infer(self, op: Operation) -> None:
        types = [None if v is None else v.type for v in op.operands]
        try:
            expected = infer_types(op.opdef, types, op.attrs, op.body, op.loc)
        except IRError as e:
            message = str(e)
        except (TypeError, ValueError, IndexError, AttributeError, KeyError, ArithmeticError, AssertionError) as e:
            message = f"its type rule failed: {type(e).__name__}: {e}"  # a rule must reject, but a crash is no pass
        else:
            got = tuple(r.type for r in op.results)
            if len(expected) != len(got):
                self.fail(op, f"has {len(got)} results, but its type rule gives {len(expected)}")
            for i, (want, t) in enumerate(zip(expected, got, strict=True)):
                if want.logical() != t.logical():
                    same = type_text(want) == type_text(t)
                    shown = f"another quantization: {want.quant}" if same else type_text(want)
                    self.fail(op, f"result {i} is {type_text(t)}, but its type rule gives {shown}")
            return
        self.fail(op, message)

    def constant(self, op: Operation) -> None:
        literal, t = op.attrs["value"], op.result.type
        if (op.attrs["encoding"] or Encoding()) != t.encoding:
            self.fail(op, f"is stored as its encoding attribute says, which its type {type_text(t)} contradicts")
        if literal.array.flags.writeable:
            self.fail(op, "its array is writable")
        if t.encoding.sparse == "csr" and t.rank < 2:
            self.fail(op, f"csr needs rank 2 or more, got {type_text(t)}")
        if t.encoding.winograd is not None:
            if t.encoding.winograd not in WINOGRAD_TILES:
                self.fail(op, f"winograd: expected {' or '.join(map(str, WINOGRAD_TILES))}, got {t.encoding.winograd}")
            if t.dtype is not DType.F32 or t.shape[2:] != (3, 3) or t.encoding.sparse is not None:
                self.fail(op, f"winograd needs dense f32 filters of 3x3, got {type_text(t)}")

    def accumulator(self, op: Operation) -> None:
        """Prove that the int32 accumulator can't overflow: sum over k of |x - zero| * |w|, plus |bias|."""
        x, w, bias = op.operand("x"), op.operand("w"), op.get("bias")
        if x.type.quant is None:
            self.fail(op, "operand x is not quantized")
            return
        zero = x.type.quant.zero[0]
        reach = max(zero + 128, 127 - zero)  # largest |x - zero|
        channels = w.type.shape[0]
        bias_array = const_array(bias)
        if bias is not None and bias_array is None:
            self.fail(op, "the int32 accumulator may overflow: its bias is not a constant")
        b = np.zeros(channels, np.int64) if bias_array is None else np.abs(bias_array.astype(np.int64))
        worst = math.prod(w.type.shape[1:]) * 128 * reach + int(b.max(initial=0))
        if worst <= _INT32_MAX:
            return
        w_array = const_array(w)
        if w_array is not None:
            sums = np.abs(w_array.reshape(channels, -1).astype(np.int64)).sum(axis=1)
            worst = int((sums * reach + b).max(initial=0))
        if worst > _INT32_MAX:
            self.fail(op, f"the int32 accumulator may overflow: it can reach {worst}, the limit is {_INT32_MAX}")


def _is_frozen(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_frozen(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str, Literal, Quant, Encoding, TensorType))


def difference(a: Graph, b: Graph, *, names: bool = True, locs: bool = True) -> str | None:
    """The first structural difference of two graphs, or None when they are equal."""
    work = [(a, b, f"@{a.name}")]
    while work:
        x, y, path = work.pop()
        if (x.name, len(x.inputs), len(x)) != (y.name, len(y.inputs), len(y)):
            return f"{path}: {x!r} against {y!r}"
        number: dict[Value, int] = {}
        other: dict[Value, int] = {}
        for i, (v, u) in enumerate(zip(x.inputs, y.inputs, strict=True)):
            if v.type != u.type or (names and v.name != u.name):
                return f"{path}: input {i}: {v!r} against {u!r}"
            number[v] = other[u] = len(number)
        for i, (p, q) in enumerate(zip(x, y, strict=True)):
            where = f"{path}: operation {i} ({p.name}{_loc(p)})"
            if p.opdef is not q.opdef:
                return f"{where}: {p.name} against {q.name}"
            mine = [None if v is None else number.get(v, -1) for v in p.operands]
            its = [None if v is None else other.get(v, -1) for v in q.operands]
            if mine != its:
                return f"{where}: operands {p.operands} against {q.operands}"
            for key in p.attrs:
                if not same_attr(p.attrs[key], q.attrs[key]):
                    return f"{where}: {key}={p.attrs[key]!r} against {q.attrs[key]!r}"
            if locs and p.loc != q.loc:
                return f"{where}: loc {p.loc!r} against {q.loc!r}"
            if [r.type for r in p.results] != [r.type for r in q.results]:
                return f"{where}: results {[r.type for r in p.results]} against {[r.type for r in q.results]}"
            if names and [r.name for r in p.results] != [r.name for r in q.results]:
                return f"{where}: names {[r.name for r in p.results]} against {[r.name for r in q.results]}"
            for r, s in zip(p.results, q.results, strict=True):
                number[r] = other[s] = len(number)
            if (p.body is None) != (q.body is None):
                return f"{where}: only one has a body"
            if p.body is not None and q.body is not None:
                work.append((p.body, q.body, where))
    return None
