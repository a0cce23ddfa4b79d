"""Ops that only move elements, as strided copies of the ``move`` family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irkit.backend.kernel import Step, lowering
from irkit.backend.storage import is_row_major
from irkit.ir.graph import Operation
from irkit.ir.types import TensorType
from irkit.ops import concat, copy, expand, pad, permute, relayout, reshape, slice_
from irkit.ops.shape import MAX_JOINED

MAX_RANK = 8


def axis_strides(t: TensorType) -> list[int]:
    """Elements between neighbours along each logical axis."""
    strides = [0] * t.rank
    step = 1
    for a in reversed(t.order):
        strides[a] = step
        step *= t.shape[a]
    return strides


def image_axis(x: TensorType, y: TensorType) -> int | None:
    """Where H stands in memory when both store NCHW tensors alike with W right after H; else None."""
    at = x.order.index(2) if x.rank == 4 and x.order == y.order else -1
    return at if 0 <= at < 3 and x.order[at + 1] == 3 else None


def broadcast_strides(t: TensorType, result: TensorType) -> list[int]:
    """Element strides of ``t`` along the memory axes of ``result``; 0 where it is repeated to its shape."""
    own = axis_strides(t)
    grow = result.rank - t.rank
    strides = [0] * grow + [0 if t.shape[i] == 1 else own[i] for i in range(t.rank)]
    return [strides[a] for a in result.order]


def common_shape(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """The coarsest shape of which both are row-major merges; None when there is none."""
    cuts: set[int] = set()
    for shape in (a, b):
        step = 1
        for d in reversed(shape):
            step *= d
            cuts.add(step)
    cuts.discard(1)
    out: list[int] = []
    last = 1
    for c in sorted(cuts):
        if c % last:
            return None
        out.append(c // last)
        last = c
    return out[::-1]


def refine(t: TensorType, shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """``t`` seen with the finer ``shape``: element strides of the fine axes, and the fine axes in memory order."""
    own = axis_strides(t)
    strides = [0] * len(shape)
    parts: dict[int, list[int]] = {a: [] for a in range(t.rank)}
    k = len(shape) - 1
    for a in range(t.rank - 1, -1, -1):
        left, step = t.shape[a], own[a]
        while left > 1:
            strides[k] = step
            parts[a].insert(0, k)
            step *= shape[k]
            left //= shape[k]
            k -= 1
    return strides, [k for a in t.order for k in parts[a]]


def _step(op: Operation, kind: str, dims: list[int], **attrs: Any) -> Step | None:
    if op.result.type.size == 0 or len(dims) > MAX_RANK:
        return None
    return Step("move", list(op.operands), [op.result], {"op": kind, "dims": dims, **attrs})


@lowering(relayout, copy, permute, expand, slice_)
def lower_copy(op: Operation) -> Step | None:
    """One strided copy: where the element at each index of the result comes from."""
    x, y = op.operand("x").type, op.result.type
    strides, offset = axis_strides(x), 0
    if op.opdef is permute:
        strides = [strides[p] for p in op.attrs["perm"]]
    elif op.opdef is expand:
        strides = [0] * (y.rank - x.rank) + [0 if d == 1 else s for d, s in zip(x.shape, strides, strict=True)]
    elif op.opdef is slice_:
        offset = sum(s * b for s, b in zip(strides, op.attrs["starts"], strict=True))
        strides = [s * st for s, st in zip(strides, op.attrs["steps"], strict=True)]
    return _step(op, "copy", list(y.storage_shape), strides=[strides[a] for a in y.order], offset=offset)


@lowering(reshape)
def lower_reshape(op: Operation) -> Step | None:
    """A reshape that changes the order in memory: a copy over the axes that both shapes are made of."""
    x, y = op.operand("x").type, op.result.type
    if is_row_major(x) and is_row_major(y):
        return _step(op, "copy", [x.size], strides=[1], offset=0)
    fine = common_shape(x.shape, y.shape)
    if fine is None:
        return None
    strides, _ = refine(x, fine)
    _, order = refine(y, fine)
    return _step(op, "copy", [fine[k] for k in order], strides=[strides[k] for k in order], offset=0)


@lowering(concat)
def lower_concat(op: Operation) -> Step | None:
    """Each input copied into its slice of the result."""
    y = op.result.type
    if len(op.operands) > MAX_JOINED or y.rank > MAX_RANK or any(v is None or v.type.size == 0 for v in op.operands):
        return None
    strides: list[int] = []
    for v in op.operands:
        assert v is not None
        own = axis_strides(v.type)
        strides += [own[a] for a in y.order]
    axis = y.order.index(op.attrs["axis"] % y.rank)
    return _step(op, "concat", list(y.storage_shape), axis=axis, strides=strides)


@lowering(pad)
def lower_pad(op: Operation) -> Step | None:
    """Border and inside as regions; the fill value travels as the bits of one element."""
    x, y = op.operand("x").type, op.result.type
    if x.size == 0:
        return None
    pads, own = op.attrs["pads"], axis_strides(x)
    attrs: dict[str, Any] = {
        "strides": [own[a] for a in y.order],
        "before": [pads[a][0] for a in y.order],
        "after": [pads[a][1] for a in y.order],
        "mode": op.attrs["mode"],
    }
    if op.attrs["mode"] == "constant":
        value = np.array([op.attrs["value"]]).astype(y.dtype.numpy)
        attrs["fill"] = int.from_bytes(value.tobytes(), "little", signed=True)
    return _step(op, "pad", list(y.storage_shape), **attrs)
