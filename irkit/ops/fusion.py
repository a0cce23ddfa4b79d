"""Which operations one kernel can do: the grammar that the fuse pass, calibration and the kernel families share.

    anchor (conv2d, linear) -> [add of a residual of the same type] -> [relu | clip | leaky_relu | prelu | hardswish]

Every value inside the chain has exactly one use. In float the chain becomes ``fused(x, w, bias, ...) { ... }``.
"""

from __future__ import annotations

from dataclasses import dataclass

from irkit.ir.graph import Graph, Operation, Value
from irkit.ops.conv import conv2d
from irkit.ops.elementwise import add, clip, hardswish, leaky_relu, prelu, relu
from irkit.ops.linear import linear

ANCHORS = (conv2d, linear)
ACTIVATIONS = (relu, clip, leaky_relu, prelu, hardswish)


@dataclass(frozen=True)
class AnchorEpilogue:
    """A fused body taken apart. Indices count the body's inputs (the operands of ``fused``)."""

    anchor: Operation
    x: int
    w: int
    bias: int | None
    residual: int | None
    act: Operation | None
    slope: int | None  # of prelu


def residual_of(op: Operation, value: Value) -> Value | None:
    """The other operand of ``op`` when it is an add of ``value`` and a residual of the same shape and dtype."""
    if op.opdef is not add:
        return None
    a, b = op.operand("a"), op.operand("b")
    other = b if a is value else a
    same = other is not value and other.type.shape == value.type.shape and other.type.dtype is value.type.dtype
    return other if same else None


def is_activation(op: Operation, value: Value) -> bool:
    """True when ``op`` is an activation of ``value`` that an anchor's epilogue can do."""
    if op.opdef not in ACTIVATIONS or op.operands[0] is not value:
        return False
    if op.opdef is not prelu:
        return True
    slope = op.operand("slope")
    return slope is not value and (slope.type.shape == (1,) or value.type.rank in (2, 4))


def _only_user(value: Value) -> Operation | None:
    return value.users[0] if value.has_one_use else None


def grow(anchor: Operation) -> list[Operation]:
    """The longest chain of the grammar that starts at ``anchor``: the anchor alone at least."""
    chain = [anchor]
    value = anchor.result
    user = _only_user(value)
    if user is not None and residual_of(user, value) is not None:
        chain.append(user)
        value = user.result
        user = _only_user(value)
    if user is not None and is_activation(user, value):
        chain.append(user)
    return chain


def match_body(body: Graph) -> AnchorEpilogue | None:
    """The parts of a fused body that follows the grammar; None when it does not."""
    ops = body.ops
    if not ops or ops[0].opdef not in ANCHORS:
        return None
    anchor = ops[0]
    chain = grow(anchor)
    if ops[:-1] != chain or body.outputs != [chain[-1].result]:
        return None
    index = {v: i for i, v in enumerate(body.inputs)}
    residual: Value | None = None
    for op in chain[1:]:
        if op.opdef is add:
            residual = residual_of(op, anchor.result)
    act = chain[-1] if chain[-1].opdef in ACTIVATIONS else None
    slope = act.operand("slope") if act is not None and act.opdef is prelu else None
    wanted = (*anchor.operands, residual, slope)
    if any(v is not None and v not in index for v in wanted):
        return None
    x, w, bias, r, s = (None if v is None else index[v] for v in wanted)
    assert x is not None and w is not None
    return AnchorEpilogue(anchor, x, w, bias, r, act, s)


def is_elementwise_body(body: Graph) -> bool:
    """True when every operation but ``return`` is elementwise."""
    ops = body.ops
    return len(ops) > 1 and all("elementwise" in op.opdef.tags for op in ops[:-1])
