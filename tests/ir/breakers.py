"""Every way to break an operation of a sound graph: BREAKERS, by name; each tells whether it could."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from irkit import ops
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.opdef import OpDef
from irkit.ir.types import DType, Encoding, Literal, Quant, TensorType


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
