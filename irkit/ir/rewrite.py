"""Rewriting by patterns: typed functions ``(operation, rewriter) -> replacement | None``, indexed by root op."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from irkit.errors import IRError, PassError
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import OpDef, lookup
from irkit.ir.text import print_op, type_text
from irkit.ir.types import Encoding, Literal, Quant

Replacement = Value | tuple[Value, ...] | None
PatternFn = Callable[[Operation, "Rewriter"], Replacement]

_hits: ContextVar[Counter[str] | None] = ContextVar("irkit_pattern_hits", default=None)


@contextmanager
def count_hits() -> Iterator[Counter[str]]:
    """Counts, by pattern name, the rewrites done while it is open."""
    hits: Counter[str] = Counter()
    token = _hits.set(hits)
    try:
        yield hits
    finally:
        _hits.reset(token)


@dataclass(frozen=True, eq=False)
class Pattern:
    """A rewrite of operations of certain ops; made by :func:`pattern`."""

    fn: PatternFn
    roots: tuple[OpDef, ...]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.fn.__name__

    def __repr__(self) -> str:
        return f"<pattern {self.name}>"


def pattern(*roots: OpDef) -> Callable[[PatternFn], Pattern]:
    """Make the decorated function a pattern, tried on each operation of one of ``roots``.

    It returns None (nothing to do), the value that replaces the root's result, or a tuple with one value per result.
    It must not change the graph other than through its rewriter, and emits nothing when it returns None.
    """
    if not roots:
        raise IRError("a pattern needs at least one root op")

    def wrap(fn: PatternFn) -> Pattern:
        return Pattern(fn, roots)

    return wrap


class Rewriter:
    """What a pattern builds its replacement with; new operations go just before the root."""

    def __init__(self, graph: Graph, root: Operation) -> None:
        self.graph = graph
        self.root = root
        self.emitted: list[Operation] = []

    def emit_op(
        self, opdef: OpDef, *operands: Value | None, loc: str | None = None, body: Graph | None = None, **attrs: Any
    ) -> Operation:
        """Make an operation; ``loc`` is the root's unless given."""
        where = self.root.loc if loc is None else loc
        op = self.graph.emit(opdef, *operands, before=self.root, loc=where, body=body, **attrs)
        self.emitted.append(op)
        return op

    def emit(
        self, opdef: OpDef, *operands: Value | None, loc: str | None = None, body: Graph | None = None, **attrs: Any
    ) -> Value:
        """Make an operation and return its only result."""
        return self.emit_op(opdef, *operands, loc=loc, body=body, **attrs).result

    def const(
        self,
        array: npt.ArrayLike | Literal,
        name: str = "",
        quant: Quant | None = None,
        encoding: Encoding | None = None,
        loc: str | None = None,
    ) -> Value:
        """Make a constant; ``array`` is in logical order. A name that another value keeps gets a suffix at the end."""
        value = array if isinstance(array, Literal) else Literal(array)
        v = self.emit(lookup("const"), value=value, quant=quant, encoding=encoding, loc=loc)
        v.name = name
        return v


class _Driver:
    def __init__(self, graph: Graph, patterns: Sequence[Pattern]) -> None:
        self.graph = graph
        self.by_root: dict[OpDef, list[Pattern]] = {}
        for p in patterns:
            for r in p.roots:
                self.by_root.setdefault(r, []).append(p)
        self.queue: deque[Operation] = deque()
        self.queued: set[Operation] = set()
        # Legitimate rewriting makes each operation's share of changes few; only alternating patterns get this far.
        self.limit = 200 + 16 * len(graph)
        self.done = 0
        self.recent: deque[str] = deque(maxlen=64)

    def push(self, op: Operation | None) -> None:
        if op is not None and op not in self.queued and op.opdef in self.by_root and op.graph is self.graph:
            self.queued.add(op)
            self.queue.append(op)

    def run(self) -> bool:
        while True:
            before = self.done
            for op in self.graph:
                self.push(op)
            while self.queue:
                op = self.queue.popleft()
                self.queued.discard(op)
                if op.graph is self.graph:
                    self.visit(op)
            if self.done == before:  # a whole sweep without a change: a fixpoint, however far patterns look
                return self.done > 0

    def visit(self, op: Operation) -> None:
        for p in self.by_root[op.opdef]:
            rw = Rewriter(self.graph, op)
            try:
                new = p.fn(op, rw)
            except IRError as e:
                raise PassError(f"pattern {p.name} on {print_op(op)}: {e}") from e
            if new is None:
                for made in reversed(rw.emitted):
                    self.graph.erase(made)
                continue
            self.count(p)
            self.replace(p, op, (new,) if isinstance(new, Value) else new, rw)
            return

    def count(self, p: Pattern) -> None:
        self.done += 1
        self.recent.append(p.name)
        hits = _hits.get()
        if hits is not None:
            hits[p.name] += 1
        if self.done > self.limit:
            names = ", ".join(sorted(set(self.recent)))
            raise PassError(
                f"rewriting graph @{self.graph.name} does not end: {self.done} rewrites, the last by {names} in turn"
            )

    def replace(self, p: Pattern, op: Operation, new: tuple[Value, ...], rw: Rewriter) -> None:
        if len(new) != len(op.results):
            raise PassError(f"pattern {p.name} on {print_op(op)}: {len(op.results)} results, {len(new)} replacements")
        for old, n in zip(op.results, new, strict=True):
            if n.producer is op:
                raise PassError(f"pattern {p.name} on {print_op(op)}: replaces a value by itself")
            if n.type.logical() != old.type.logical():
                raise PassError(
                    f"pattern {p.name} on {print_op(op)}: "
                    f"replaces {type_text(old.type)} by {type_text(n.type)}; the type must stay"
                )
        for old, n in zip(op.results, new, strict=True):
            for user in old.users:
                self.push(user)
            old.replace_all_uses(n)
            if old.name and not n.name:
                n.name = old.name
        self.erase(op)
        for made in rw.emitted:
            if made.graph is self.graph and not any(r.uses for r in made.results):
                self.erase(made)
            self.push(made)

    def erase(self, op: Operation) -> None:
        """Erase ``op`` and whatever only it needed."""
        dead = [op]
        while dead:
            d = dead.pop()
            if d.graph is not self.graph:
                continue
            operands = list(dict.fromkeys(v for v in d.operands if v is not None))
            self.graph.erase(d)
            for v in operands:
                producer = v.producer
                if producer is not None and not any(r.uses for r in producer.results):
                    dead.append(producer)
                    continue
                self.push(producer)
                if v.has_one_use:  # patterns ask for this
                    self.push(next(iter(v.uses))[0])


def rewrite(graph: Graph, patterns: Sequence[Pattern]) -> bool:
    """Apply ``patterns`` until none has anything to do; True when the graph changed.

    A replacement takes the name of the value it replaces when it has none; operations that only the replaced one
    needed are erased. PassError when patterns undo each other's work (naming them), when a replacement's type
    differs, or when a pattern builds something malformed.
    """
    changed = _Driver(graph, patterns).run()
    if changed:
        unique_names(graph)
    return changed


def unique_names(graph: Graph) -> None:
    """Give later values a suffix where two have one name (a replacement may keep the name of what it replaces)."""
    taken = {v.name for v in graph.inputs}
    named = [r for op in graph for r in op.results if r.name]
    clashes = []
    for r in named:
        if r.name in taken:
            clashes.append(r)
        taken.add(r.name)
    counts: dict[str, int] = {}
    for r in clashes:
        base = r.name
        n = counts.get(base, 0) + 1
        while f"{base}.{n}" in taken:
            n += 1
        counts[base] = n
        r.name = f"{base}.{n}"
        taken.add(r.name)


def erase_dead(graph: Graph) -> bool:
    """Erase all operations whose results nobody uses; True when there were any."""
    changed = False
    dead = [op for op in graph if op.results and not any(r.uses for r in op.results)]
    while dead:
        op = dead.pop()
        if op.graph is not graph:
            continue
        producers = [v.producer for v in op.operands if v is not None and v.producer is not None]
        graph.erase(op)
        changed = True
        dead += [p for p in producers if p.graph is graph and not any(r.uses for r in p.results)]
    return changed
