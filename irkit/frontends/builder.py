"""What both frontends share: a graph under construction, and the report of what can't be converted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from irkit import ops
from irkit.errors import IRError, Unsupported, UnsupportedModelError
from irkit.ir.graph import Graph, Value, const_array
from irkit.ir.opdef import OpDef
from irkit.ir.rewrite import unique_names
from irkit.ir.types import Array, DType, TensorType


class NotSupportedError(Exception):
    """Raised by a handler for settings that irkit can't express; becomes one entry of the report."""


class Builder:
    """Appends operations to a graph. ``loc`` is the path of the module whose operations are being emitted."""

    def __init__(self, name: str = "main") -> None:
        self.graph = Graph(name)
        self.loc = ""
        self.expected: TensorType | None = None  # what the framework says the current node returns
        self._unsupported: dict[tuple[str, str], list[Any]] = {}

    # ---- emitting
    def emit(self, opdef: OpDef, *operands: Value | None, **attrs: Any) -> Value:
        """Append one operation and return its result."""
        return self.graph.emit(opdef, *operands, loc=self.loc, **attrs).result

    def const(self, array: Any, name: str = "") -> Value:
        """A constant of the array's own dtype."""
        return self.graph.emit(ops.const, loc=self.loc, names=[name], value=np.asarray(array)).result

    def like(self, value: float, x: Value) -> Value:
        """A scalar constant of ``x``'s dtype."""
        return self.const(np.asarray(value, x.type.dtype.numpy))

    def cast(self, x: Value, dtype: DType) -> Value:
        """``x`` in another dtype."""
        return x if x.type.dtype is dtype else self.emit(ops.cast, x, dtype=dtype.value)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """``x`` in another shape; at most one entry may be -1. Constants are reshaped in place."""
        dims = list(shape)
        if -1 in dims:
            rest = -math.prod(dims)
            dims[dims.index(-1)] = x.type.size // rest if rest else 0
        if tuple(dims) == x.type.shape:
            return x
        array = const_array(x)
        if array is not None:
            return self.const(array.reshape(dims), x.name)
        return self.emit(ops.reshape, x, shape=tuple(dims))

    def permute(self, x: Value, perm: Sequence[int]) -> Value:
        """``x`` with its axes in another order. Constants are permuted in place, permutes of permutes are merged."""
        axes = tuple(p % x.type.rank for p in perm)
        before = permutation(x)
        if before is not None:
            x, axes = before[0], tuple(before[1][a] for a in axes)
        if axes == tuple(range(x.type.rank)):
            return x
        array = const_array(x)
        if array is not None:
            return self.const(np.transpose(array, axes), x.name)
        return self.emit(ops.permute, x, perm=axes)

    def unsqueeze(self, x: Value, axis: int) -> Value:
        """``x`` with a new axis of length 1 before ``axis`` (negative: counted in the result)."""
        axis %= x.type.rank + 1
        return self.reshape(x, (*x.type.shape[:axis], 1, *x.type.shape[axis:]))

    def squeeze(self, x: Value, axis: int) -> Value:
        """``x`` without an axis of length 1."""
        axis %= x.type.rank
        return self.reshape(x, (*x.type.shape[:axis], *x.type.shape[axis + 1 :]))

    def slice(self, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
        """Elements ``start:end:step`` along one axis, 0 <= start <= end <= length."""
        shape = x.type.shape
        axis %= len(shape)
        if (start, end, step) == (0, shape[axis], 1):
            return x
        starts, ends, steps = [0] * len(shape), list(shape), [1] * len(shape)
        starts[axis], ends[axis], steps[axis] = start, end, step
        return self.emit(ops.slice_, x, starts=tuple(starts), ends=tuple(ends), steps=tuple(steps))

    def split(self, x: Value, sizes: Sequence[int], axis: int) -> list[Value]:
        """Consecutive pieces of the given lengths along one axis."""
        ends = np.cumsum(sizes).tolist()
        return [self.slice(x, axis, e - s, e) for s, e in zip(sizes, ends, strict=True)]

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        """The operands joined along one axis."""
        return xs[0] if len(xs) == 1 else self.emit(ops.concat, *xs, axis=axis % xs[0].type.rank)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        """``x`` broadcast to ``shape``."""
        return x if x.type.shape == tuple(shape) else self.emit(ops.expand, x, shape=tuple(shape))

    def finish(self, outputs: Sequence[Value], tree: str) -> Graph:
        """Close the graph, or raise the report when something could not be converted."""
        if self._unsupported:
            items = [
                Unsupported(what, where, n, "; ".join(dict.fromkeys(hints)))
                for (what, where), (n, hints) in self._unsupported.items()
            ]
            raise UnsupportedModelError(items)
        self.graph.emit(ops.return_, *outputs, tree=tree)
        for op in reversed(self.graph.ops[:-1]):
            if not any(r.uses for r in op.results):
                self.graph.erase(op)
        unique_names(self.graph)  # several constants may come from one parameter
        return self.graph

    # ---- what can't be converted
    def reject(self, what: str, hint: str = "") -> None:
        """Put one operation at the current location on the report."""
        entry = self._unsupported.setdefault((what, self.loc), [0, []])
        entry[0] += 1
        if hint:
            entry[1].append(hint)

    @property
    def rejected(self) -> bool:
        """True when the report has entries."""
        return bool(self._unsupported)

    @property
    def rejected_count(self) -> int:
        """Number of operations on the report."""
        return sum(n for n, _ in self._unsupported.values())

    def phantom(self, type: TensorType) -> Value:
        """Stands for the result of something unsupported, so that the rest of the model is examined too."""
        return self.graph.add_input(type)


def permutation(x: Value) -> tuple[Value, tuple[int, ...]] | None:
    """(source, axes) when ``x`` is made by a permute."""
    op = x.producer
    if op is None or op.opdef is not ops.permute or op.operands[0] is None:
        return None
    return op.operands[0], op.attrs["perm"]


def canonical_dims(dims: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Non-negative axes, ascending; None or nothing means all."""
    if dims is None:
        return tuple(range(rank))
    listed = [dims] if isinstance(dims, int) else list(dims)
    return tuple(sorted(d % rank for d in listed)) if listed else tuple(range(rank))


def window_pads(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Rows to add at the far side so that the last window of a ceil-mode pool fits (PyTorch's rule: a window must
    start inside the input or the near padding)."""
    span = dilation * (kernel - 1) + 1
    out = -(-(size + 2 * pad - span) // stride) + 1
    if (out - 1) * stride >= size + pad:
        out -= 1
    return max(0, (out - 1) * stride + span - size - pad)


def as_array(x: Any) -> Array:
    """A NumPy array of an array-like or a tensor of a framework."""
    if hasattr(x, "detach"):
        return np.asarray(x.detach().cpu().numpy())
    return np.asarray(x)


def need_dtype(array_dtype: Any, what: str) -> DType:
    """The DType of a framework's dtype name; NotSupportedError when irkit has none."""
    try:
        return DType.of(str(array_dtype).removeprefix("torch."))
    except IRError:
        raise NotSupportedError(f"{what} has dtype {array_dtype}; convert the model to float32") from None
