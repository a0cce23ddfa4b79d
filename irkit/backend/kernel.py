"""What a step of a plan is, and how kernel families claim operations.

A family's module in ``irkit/backend/native`` registers one or more lowerings; ``select`` asks them in order of
priority and takes the first step offered. Shapes and axes in a step are those of memory order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from irkit.ir.graph import Operation, Value, const_array
from irkit.ir.opdef import OpDef
from irkit.ir.types import Array


@dataclass(frozen=True, eq=False)
class Const:
    """A constant that a lowering derives (multipliers, tables, encoded weights): contiguous, in memory order."""

    array: Array
    name: str  # key in the artifact; made unique by the plan


StepInput = Value | Const | None


@dataclass
class Step:
    """One call of a kernel: the family's prepare function gets these inputs, outputs and attributes.

    ``attrs`` holds ints, floats (inf allowed), strings and flat lists of these. ``macs`` counts multiply-accumulates
    of the dense operation. ``note`` is shown in the plan (why this kernel, what was fused), and so is ``saved``: the
    bytes of tensors inside the step that would be written and read again if each operation were a step of its own.
    ``in_place``: inputs whose memory the output may take over, as they have its type and the kernel reads each of their
    elements before it writes the same one, and not again (PreparedStep::in_place, kernels/runtime/family.h).
    """

    family: str
    inputs: list[StepInput]
    outputs: list[Value]
    attrs: dict[str, Any] = field(default_factory=dict)
    macs: int = 0
    note: str = ""
    loc: str = ""
    saved: int = 0
    in_place: tuple[int, ...] = ()


Lowering = Callable[[Operation], Step | None]
_LOWERINGS: dict[OpDef, list[tuple[int, Lowering]]] = {}


def lowering(*opdefs: OpDef, priority: int = 0) -> Callable[[Lowering], Lowering]:
    """Register a function that turns one of these ops into a step, or returns None when it can't."""

    def wrap(fn: Lowering) -> Lowering:
        for d in opdefs:
            rows = _LOWERINGS.setdefault(d, [])
            rows.append((priority, fn))
            rows.sort(key=lambda r: -r[0])
        return fn

    return wrap


def lower(op: Operation) -> Step | None:
    """The first step that a family offers for ``op``; None when no native kernel takes it."""
    for _, fn in _LOWERINGS.get(op.opdef, ()):
        step = fn(op)
        if step is not None:
            step.loc = step.loc or op.loc
            if op.body is not None:
                inside = {v for o in op.body for v in o.results} - set(op.body.outputs)
                step.saved += sum(2 * v.type.nbytes for v in inside if const_array(v) is None)
            return step
    return None
