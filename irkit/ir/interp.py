"""The NumPy interpreter: runs each op's reference function. What it computes is what a graph means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from irkit.errors import InputError, IRError
from irkit.ir.graph import Graph, Operation, Value
from irkit.ir.text import type_text
from irkit.ir.types import Array, QArray, TensorType

Observer = Callable[[Value, Array], None]


def call(op: Operation, args: Sequence[Array | None]) -> tuple[Array, ...]:
    """Run one operation's reference on raw arrays (storage integers where quantized), and check what it returns.

    IRError naming the op when a result's shape or dtype is not what its type says.
    """
    given: list[Any] = list(args)
    if "int8" in op.opdef.tags:
        given = [
            QArray(a, v.type.quant) if v is not None and a is not None and v.type.quant is not None else a
            for a, v in zip(args, op.operands, strict=True)
        ]
    extra = {"body": op.body} if op.body is not None else {}
    try:
        r = op.opdef.fn(*given, **op.attrs, **extra)
    except IRError as e:
        raise IRError(f"{_where(op)}: {e}") from e
    results = tuple(np.asarray(a) for a in (r if isinstance(r, tuple) else (r,)))
    if len(results) != len(op.results):
        raise IRError(f"{_where(op)}: expected {len(op.results)} results, its reference gave {len(results)}")
    for v, a in zip(op.results, results, strict=True):
        if not _fits(v.type, a):
            raise IRError(f"{_where(op)}: expected {type_text(v.type)}, its reference gave {a.dtype}{list(a.shape)}")
    return results


def _where(op: Operation) -> str:
    name = op.results[0].name if op.results else ""
    return f"{op.name}{' %' + name if name else ''}{' @' + op.loc if op.loc else ''}"


def _fits(t: TensorType, a: Array) -> bool:
    return t.shape == a.shape and t.dtype.numpy == a.dtype


class Interpreter:
    """Runs one graph; keeps only values that are still needed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.terminator = graph.terminator

    def __call__(self, *inputs: Array, observe: Observer | None = None) -> list[Array]:
        """Outputs for these inputs; ``observe`` is called with each value (inputs and bodies too) as it is made.

        InputError when count, shape or dtype of the inputs don't fit.
        """
        g = self.graph
        if len(inputs) != len(g.inputs):
            raise InputError(f"graph @{g.name}: expected {len(g.inputs)} inputs, got {len(inputs)}")
        env: dict[Value, Array] = {}
        left: dict[Value, int] = {}  # uses still to come
        for v, given in zip(g.inputs, inputs, strict=True):
            a = np.asarray(given)
            if not _fits(v.type, a):
                raise InputError(f"input %{v.name}: expected {type_text(v.type)}, got {a.dtype}{list(a.shape)}")
            env[v], left[v] = a, len(v.uses)
            if observe is not None:
                observe(v, a)
        with np.errstate(all="ignore"):  # NaN and infinities are values like others
            for op in g:
                if op is self.terminator:
                    break
                args = [None if v is None else env[v] for v in op.operands]
                if op.body is not None and op.opdef.name == "fused":
                    results: Sequence[Array] = Interpreter(op.body)(
                        *(a for a in args if a is not None), observe=observe
                    )
                else:
                    results = call(op, args)
                for r, a in zip(op.results, results, strict=True):
                    if observe is not None:
                        observe(r, a)
                    if r.uses:
                        env[r], left[r] = a, len(r.uses)
                for used in op.operands:
                    if used is not None:
                        left[used] -= 1
                        if not left[used]:
                            del env[used]
        return [env[v] for v in g.outputs]


def run(graph: Graph, *inputs: Array, observe: Observer | None = None) -> list[Array]:
    """Interpret ``graph`` once; see :class:`Interpreter`."""
    return Interpreter(graph)(*inputs, observe=observe)
