"""Values, operations and graphs: SSA with use lists, operations in a linked list so that edits cost O(1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from irkit.errors import IRError
from irkit.ir.opdef import REQUIRED, OpDef
from irkit.ir.types import Array, Literal, TensorType


class Value:
    """The result of an operation or an input of a graph. Its type never changes; a new type needs a new value."""

    __slots__ = ("index", "name", "owner", "type", "uses")

    def __init__(self, type: TensorType, owner: Operation | Graph, index: int, name: str = "") -> None:
        self.type = type
        self.owner = owner
        self.index = index
        self.name = name
        self.uses: dict[tuple[Operation, int], None] = {}  # ordered set of (user, operand position)

    @property
    def producer(self) -> Operation | None:
        """The operation that makes it; None for a graph input."""
        return self.owner if isinstance(self.owner, Operation) else None

    @property
    def users(self) -> list[Operation]:
        """Distinct operations that use it, in order of first use."""
        return list(dict.fromkeys(u for u, _ in self.uses))

    @property
    def has_one_use(self) -> bool:
        """True when exactly one operand position refers to it."""
        return len(self.uses) == 1

    def replace_all_uses(self, new: Value) -> None:
        """Let every user refer to ``new``."""
        if new is self:
            return
        for user, pos in list(self.uses):
            user.set_operand(pos, new)

    def is_op(self, *defs: OpDef) -> bool:
        """True when it is produced by one of these ops."""
        p = self.producer
        return p is not None and p.opdef in defs

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type.dtype.value}{list(self.type.shape)}"


class Operation:
    """One operation. Operand links and position in its graph are mutable, all else is fixed at creation."""

    __slots__ = ("_next", "_prev", "attrs", "body", "graph", "loc", "opdef", "operands", "results")

    def __init__(
        self,
        opdef: OpDef,
        operands: Sequence[Value | None],
        attrs: Mapping[str, Any] | None = None,
        *,
        types: Sequence[TensorType] | None = None,
        body: Graph | None = None,
        loc: str = "",
        names: Sequence[str] = (),
    ) -> None:
        given = dict(attrs or {})
        full: dict[str, Any] = {}
        for key, default in opdef.attrs.items():
            if key in given:
                full[key] = freeze(given.pop(key))
            elif default is REQUIRED:
                raise IRError(f"{opdef.name}: attribute {key} is missing")
            else:
                full[key] = freeze(default)
        if given:
            raise IRError(f"{opdef.name}: unknown attribute(s) {', '.join(sorted(given))}")
        ops = list(operands)
        fixed = [p for p in opdef.operands if not p.variadic]
        if len(ops) < len(fixed):
            ops += [None] * (len(fixed) - len(ops))
        if len(ops) > len(fixed) and not opdef.variadic:
            raise IRError(f"{opdef.name}: takes {len(fixed)} operands, got {len(ops)}")
        for p, v in zip(fixed, ops, strict=False):
            if v is None and not p.optional:
                raise IRError(f"{opdef.name}: operand {p.name} is missing")
        if opdef.has_body != (body is not None):
            raise IRError(f"{opdef.name}: {'needs' if opdef.has_body else 'takes no'} body")
        self.opdef = opdef
        self.attrs: Mapping[str, Any] = MappingProxyType(full)
        self.body = body
        self.loc = loc
        self.graph: Graph | None = None
        self._prev: Operation | None = None
        self._next: Operation | None = None
        self.operands: list[Value | None] = []
        if types is None:
            types = infer_types(opdef, [v.type if v is not None else None for v in ops], full, body, loc)
        self.results = tuple(Value(t, self, i, names[i] if i < len(names) else "") for i, t in enumerate(types))
        for pos, v in enumerate(ops):
            self.operands.append(v)
            if v is not None:
                v.uses[(self, pos)] = None

    @property
    def name(self) -> str:
        """Name of its op."""
        return self.opdef.name

    @property
    def result(self) -> Value:
        """Its only result."""
        if len(self.results) != 1:
            raise IRError(f"{self.name} has {len(self.results)} results")
        return self.results[0]

    def operand(self, name: str) -> Value:
        """The operand of that name; IRError when absent."""
        v = self.get(name)
        if v is None:
            raise IRError(f"{self.name}: operand {name} is absent")
        return v

    def get(self, name: str) -> Value | None:
        """The operand of that name, or None when absent."""
        for i, p in enumerate(self.opdef.operands):
            if p.name == name:
                return self.operands[i]
        raise IRError(f"{self.name} has no operand {name}")

    def set_operand(self, pos: int, value: Value | None) -> None:
        """Let operand ``pos`` refer to ``value``."""
        old = self.operands[pos]
        if old is not None:
            del old.uses[(self, pos)]
        self.operands[pos] = value
        if value is not None:
            value.uses[(self, pos)] = None

    def drop_operands(self) -> None:
        """Unlink from all operands (before the operation is thrown away)."""
        for pos in range(len(self.operands)):
            self.set_operand(pos, None)

    def __repr__(self) -> str:
        return f"<{self.name}{' @' + self.loc if self.loc else ''}>"


class Graph:
    """A function: inputs and operations in order; its outputs are the operands of its last operation, ``return``."""

    def __init__(self, name: str = "main", inputs: Iterable[tuple[str, TensorType]] = ()) -> None:
        self.name = name
        self.inputs: list[Value] = []
        self._first: Operation | None = None
        self._last: Operation | None = None
        self._count = 0
        for n, t in inputs:
            self.add_input(t, n)

    def add_input(self, type: TensorType, name: str = "") -> Value:
        """Append an input."""
        v = Value(type, self, len(self.inputs), name or f"arg{len(self.inputs)}")
        self.inputs.append(v)
        return v

    def __iter__(self) -> Iterator[Operation]:
        op = self._first
        while op is not None:
            yield op
            op = op._next

    def __len__(self) -> int:
        return self._count

    @property
    def ops(self) -> list[Operation]:
        """Snapshot of the operations, in order: safe to edit the graph while going through it."""
        return list(self)

    @property
    def terminator(self) -> Operation:
        """The ``return`` operation."""
        if self._last is None or self._last.name != "return":
            raise IRError(f"graph @{self.name} does not end in return")
        return self._last

    @property
    def outputs(self) -> list[Value]:
        """The values it returns."""
        return [v for v in self.terminator.operands if v is not None]

    def append(self, op: Operation) -> Operation:
        """Put ``op`` at the end."""
        return self._link(op, self._last, None)

    def insert_before(self, anchor: Operation, op: Operation) -> Operation:
        """Put ``op`` just before ``anchor``."""
        return self._link(op, anchor._prev, anchor)

    def _link(self, op: Operation, prev: Operation | None, nxt: Operation | None) -> Operation:
        if op.graph is not None:
            raise IRError(f"{op} is already in a graph")
        op.graph, op._prev, op._next = self, prev, nxt
        if prev is None:
            self._first = op
        else:
            prev._next = op
        if nxt is None:
            self._last = op
        else:
            nxt._prev = op
        self._count += 1
        return op

    def unlink(self, op: Operation) -> None:
        """Take ``op`` out of the list; its links to operands stay (for moving it)."""
        if op.graph is not self:
            raise IRError(f"{op} is not in graph @{self.name}")
        if op._prev is None:
            self._first = op._next
        else:
            op._prev._next = op._next
        if op._next is None:
            self._last = op._prev
        else:
            op._next._prev = op._prev
        op.graph = op._prev = op._next = None
        self._count -= 1

    def erase(self, op: Operation) -> None:
        """Remove ``op``, whose results must be unused."""
        if any(r.uses for r in op.results):
            raise IRError(f"{op} is still used")
        self.unlink(op)
        op.drop_operands()

    def emit(
        self,
        opdef: OpDef,
        *operands: Value | None,
        before: Operation | None = None,
        loc: str = "",
        names: Sequence[str] = (),
        types: Sequence[TensorType] | None = None,
        body: Graph | None = None,
        **attrs: Any,
    ) -> Operation:
        """Make an operation and put it at the end, or before ``before``."""
        op = Operation(opdef, operands, attrs, types=types, body=body, loc=loc, names=names)
        return self.append(op) if before is None else self.insert_before(before, op)

    def clone(self, mapping: dict[Value, Value] | None = None) -> Graph:
        """Deep copy (literals are shared). ``mapping`` is filled with old -> new values."""
        m: dict[Value, Value] = {} if mapping is None else mapping
        g = Graph(self.name)
        for v in self.inputs:
            m[v] = g.add_input(v.type)
            m[v].name = v.name
        for op in self:
            new = Operation(
                op.opdef,
                [None if v is None else m[v] for v in op.operands],
                op.attrs,
                types=[r.type for r in op.results],
                body=None if op.body is None else op.body.clone(),
                loc=op.loc,
                names=[r.name for r in op.results],
            )
            g.append(new)
            m.update(zip(op.results, new.results, strict=True))
        return g

    def __repr__(self) -> str:
        return f"<graph @{self.name}: {len(self.inputs)} inputs, {self._count} ops>"


def freeze(attr: Any) -> Any:
    """Attributes are immutable: lists become tuples, arrays Literals, NumPy scalars Python ones."""
    import numpy as np

    if isinstance(attr, (list, tuple)):
        return tuple(freeze(a) for a in attr)
    if isinstance(attr, np.ndarray):
        return Literal(attr)
    if isinstance(attr, np.generic):
        return attr.item()
    return attr


def infer_types(
    opdef: OpDef, operands: Sequence[TensorType | None], attrs: Mapping[str, Any], body: Graph | None, loc: str
) -> tuple[TensorType, ...]:
    """Result types by the op's rule; IRError naming op and location when the operands don't fit."""
    try:
        extra = {"body": body} if opdef.has_body else {}
        logical = [None if t is None else t.logical() for t in operands]
        r = opdef.infer(*logical, **attrs, **extra)
    except IRError as e:
        raise IRError(f"{opdef.name}{' @' + loc if loc else ''}: {e}") from None
    return (r,) if isinstance(r, TensorType) else tuple(r)


def const_array(value: Value | None) -> Array | None:
    """The array of a value made by a ``const`` op, else None."""
    if value is None or value.producer is None or value.producer.name != "const":
        return None
    lit = value.producer.attrs["value"]
    assert isinstance(lit, Literal)
    return lit.array
