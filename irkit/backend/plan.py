"""Makes the plan of a graph: steps, tensors and arena offsets."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from irkit.backend.kernel import Const, Step, StepInput
from irkit.backend.select import select
from irkit.backend.storage import Lifetime, plan_arena, root_of
from irkit.backend.table import Plan, Row, join
from irkit.ir.graph import Graph, Value, const_array
from irkit.ir.types import Array, DType, TensorType
from irkit.ops import const, copy
from irkit.target import Target, host_arch

VERSION = 1


def own_outputs(graph: Graph) -> None:
    """Give each output memory of its own: one that is an input, a constant or returned twice is copied."""
    ret = graph.terminator
    seen: set[Value] = set()
    for pos, v in enumerate(ret.operands):
        assert v is not None
        root = root_of(v)
        if root.producer is None or const_array(root) is not None or root in seen:
            op = graph.emit(copy, v, before=ret, loc=v.name, types=[v.type.with_order(None)])
            ret.set_operand(pos, op.result)
            root = op.result
        seen.add(root)


def name_values(graph: Graph) -> None:
    """Give every value a name of its own: constants are found by name in the artifact."""
    taken: set[str] = set()
    results = [r for op in graph for r in op.results]
    results.sort(key=lambda r: not r.is_op(const))  # stable: constants keep their module names
    for v in (*graph.inputs, *results):
        op = v.producer
        name = base = v.name or (op.loc if op is not None and op.loc else op.name if op is not None else "arg")
        n = 1
        while name in taken:
            n += 1
            name = f"{base}.{n}"
        v.name = name
        taken.add(name)


def make_plan(
    graph: Graph,
    target: Target | None = None,
    notes: Sequence[tuple[str, str]] = (),
    bands: bool = True,
    apart: Collection[str] = (),
    remarks: Mapping[str, str] | None = None,
) -> Plan:
    """Select kernels and place every tensor. The graph must have its storage orders set (``layout``).

    ``target``: default this machine's architecture. ``bands``: let steps run band by band together,
    except those that make values of the names in ``apart``. ``remarks``: notes on steps by the name of what they make.
    """
    own_outputs(graph)
    name_values(graph)
    steps = select(graph, target.arch if target else host_arch(), bands, apart, remarks)
    b = _Builder(graph, steps)
    document = b.build()
    rows = [_row(s, b.over.get(i)) for i, s in enumerate(steps)]
    return Plan(document, b.consts, rows, list(notes), str(target or ""))


class _Builder:
    def __init__(self, graph: Graph, steps: Sequence[Step]) -> None:
        self.graph = graph
        self.steps = steps
        self.consts: dict[str, Array] = {}
        self.tensors: list[dict[str, Any]] = []
        self.index: dict[Value | Const, int] = {}
        self.place: dict[Value, list[Any]] = {}
        self.over: dict[int, Value] = {}  # by step: what its output is in place of

    def build(self) -> dict[str, Any]:
        arena = self._place_values()
        for s in self.steps:  # the graph's constants first: they keep their names
            for x in s.inputs:
                if isinstance(x, Value):
                    self._tensor(x)
        inputs = [{"name": v.name, "tensor": self._tensor(v)} for v in self.graph.inputs]
        outputs = [{"name": v.name, "tensor": self._tensor(v)} for v in self.graph.outputs]
        doc_steps = [
            {
                "family": s.family,
                "in": [-1 if v is None else self._tensor(v) for v in s.inputs],
                "out": [self._tensor(v) for v in s.outputs],
                "attrs": {k: _json_value(v) for k, v in sorted(s.attrs.items())},
                "name": s.loc,
            }
            for s in self.steps
        ]
        return {
            "version": VERSION,
            "inputs": inputs,
            "outputs": outputs,
            "tree": self.graph.terminator.attrs["tree"],
            "tensors": self.tensors,
            "arena": arena,
            "steps": doc_steps,
        }

    def _place_values(self) -> int:
        for i, v in enumerate(self.graph.inputs):
            self.place[v] = ["in", i]
        for i, v in enumerate(self.graph.outputs):
            root = root_of(v)
            self.place[root] = ["out", i]
        lives, self.over = self._lifetimes(True)
        arena = plan_arena(list(dict.fromkeys(lives.values())))
        if self.over:
            # Blocks of long life are hard to place: now and then there is more room for two short ones.
            apart, _ = self._lifetimes(False)
            if (least := plan_arena(list(apart.values()))) < arena:
                lives, self.over, arena = apart, {}, least
        for v, life in lives.items():
            self.place[v] = ["arena", life.offset]
        return arena

    def _lifetimes(self, in_place: bool) -> tuple[dict[Value, Lifetime], dict[int, Value]]:
        """The block of memory of each value in the arena, and, by step, the value that its output is in place of."""
        ends = {root_of(x): t for t, s in enumerate(self.steps) for x in s.inputs if isinstance(x, Value)}
        lives: dict[Value, Lifetime] = {}
        over: dict[int, Value] = {}
        for t, s in enumerate(self.steps):
            for v in s.outputs:
                if v in self.place:
                    continue
                old = next((r for r in _replaced(s) if r in lives and ends[r] == t), None) if in_place else None
                if old is None:
                    lives[v] = Lifetime(v.type.nbytes, t, t)
                else:
                    lives[v] = lives[old]
                    over[t] = old
                lives[v].last = ends.get(v, t)
        return lives, over

    def _tensor(self, v: StepInput) -> int:
        assert v is not None
        if v in self.index:
            return self.index[v]
        if isinstance(v, Const):
            array = v.array
            row: dict[str, Any] = {
                "dtype": DType.of(array.dtype).value,
                "shape": list(array.shape),
                "loc": ["const", self._key(v.name, array)],
            }
        else:
            row = {"dtype": v.type.dtype.value, "shape": list(v.type.storage_shape)}
            q = v.type.quant
            if q is not None and q.axis is None:
                row["scale"], row["zero"] = q.scale[0], q.zero[0]
            root = root_of(v)
            value = const_array(root)
            if value is not None:
                stored = root.type.to_storage(value) if value.ndim else value
                row["loc"] = ["const", self._key(root.name, stored)]
            else:
                row["loc"] = self.place[root]
        self.tensors.append(row)
        self.index[v] = len(self.tensors) - 1
        return self.index[v]

    def _key(self, name: str, array: Array) -> str:
        key, n = name or "const", 1
        while key in self.consts:
            old = self.consts[key]
            if old is array or (
                old.dtype == array.dtype and old.shape == array.shape and old.tobytes() == array.tobytes()
            ):
                return key
            n += 1
            key = f"{name or 'const'}.{n}"
        self.consts[key] = array
        return key


def _replaced(s: Step) -> Iterator[Value]:
    """The values in whose place the step could put its only output, if nothing reads them later; best first."""
    if len(s.outputs) != 1:
        return
    out = s.outputs[0].type
    for k in s.in_place:
        x = s.inputs[k]
        if not isinstance(x, Value) or x.type.dtype is not out.dtype or x.type.nbytes != out.nbytes:
            continue
        root = root_of(x)
        readers = (i for i, v in enumerate(s.inputs) if isinstance(v, Value) and root_of(v) is root)
        if all(i in s.in_place for i in readers):
            yield root


def _json_value(v: Any) -> Any:
    """Attributes as JSON: tuples are lists, infinities strings, floats exact."""
    if isinstance(v, dict):
        return {k: _json_value(x) for k, x in sorted(v.items())}
    if isinstance(v, (list, tuple)):
        return [_json_value(x) for x in v]
    if isinstance(v, (bool, np.bool_)):
        return int(v)
    if isinstance(v, np.generic):
        v = v.item()
    if isinstance(v, float) and math.isinf(v):
        return "inf" if v > 0 else "-inf"
    return v


def _row(s: Step, over: Value | None) -> Row:
    values = [v for v in (*s.inputs, *s.outputs) if v is not None]
    nbytes = sum(v.array.nbytes if isinstance(v, Const) else v.type.nbytes for v in values)
    op = s.outputs[0].producer if s.outputs else None
    name = op.name if op is not None else s.family
    if op is not None and op.body is not None:
        name = "+".join(o.name for o in op.body if o.name != "return")
    saves = f"saves {s.saved / 1e3:.1f} KB" if s.saved else ""
    note = join(s.note, saves, f"in place of {over.name}" if over is not None else "")
    return Row(s.loc, name, _precision(s), s.family, s.macs, nbytes, note)


def _precision(s: Step) -> str:
    types: list[TensorType] = [v.type for v in (*s.inputs, *s.outputs) if isinstance(v, Value)]
    return (
        "int8" if any(t.quant is not None for t in types) else "fp32" if any(t.dtype.is_float for t in types) else "int"
    )
