"""Handlers of PyTorch operations that move data: views, slices, joins, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from irkit import ops
from irkit.frontends.builder import Builder, NotSupportedError
from irkit.frontends.torch_registry import handles
from irkit.ir.graph import Value, const_array
from irkit.ir.types import Array

_PIECES = 64  # gathers by constant indices become at most this many slices


def shape_of(b: Builder) -> tuple[int, ...]:
    """The shape PyTorch gives the current operation."""
    if b.expected is None:
        raise NotSupportedError("unexpected kind of result")
    return b.expected.shape


# ---- the same elements
@handles(
    "aten.clone.default", "aten.contiguous.default", "aten.detach.default", "aten.detach_.default",
    "aten.alias.default", "aten.lift_fresh_copy.default", "aten.dropout.default", "aten.feature_dropout.default",
    "aten.alpha_dropout.default", "aten.feature_alpha_dropout.default", "aten.lift_fresh.default",
    "aten.resolve_conj.default",
)  # fmt: skip
def identity(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
    if len(args) == 2 and args[1] is True:
        raise NotSupportedError("dropout in training mode; call model.eval() before exporting")
    return x


@handles(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
    "aten.unflatten.int", "aten.unsqueeze.default", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims",
    "aten.view_as.default", "aten.reshape_as.default",
)  # fmt: skip
def reshape(b: Builder, x: Value, *_: Any) -> Value:
    return b.reshape(x, shape_of(b))


@handles("aten.permute.default")
def permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    return b.permute(x, dims)


@handles("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default")
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    perm = list(range(x.type.rank))
    if perm:
        perm[dim0], perm[dim1] = perm[dim1], perm[dim0]
    return b.permute(x, perm)


@handles("aten.t.default", "aten.numpy_T.default")
def reverse_axes(b: Builder, x: Value) -> Value:
    return b.permute(x, tuple(reversed(range(x.type.rank))))


@handles("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default")
def expand(b: Builder, x: Value, *_: Any, **__: Any) -> Value:
    return b.expand(x, shape_of(b))


@handles("aten.repeat.default", "aten.tile.default")
def repeat(b: Builder, x: Value, repeats: Sequence[int]) -> Value:
    """Broadcast over a new axis before each repeated one, then merge the two."""
    lead = max(0, len(repeats) - x.type.rank)
    counts = [1] * (x.type.rank - len(repeats)) + list(repeats)
    x = b.reshape(x, (1,) * lead + x.type.shape)
    split: list[int] = []
    wide: list[int] = []
    for n, d in zip(counts, x.type.shape, strict=True):
        split += [1, d] if n != 1 else [d]
        wide += [n, d] if n != 1 else [d]
    merged = [n * d for n, d in zip(counts, x.type.shape, strict=True)]
    return b.reshape(b.expand(b.reshape(x, split), wide), merged)


@handles("aten.pixel_shuffle.default")
def pixel_shuffle(b: Builder, x: Value, r: int) -> Value:
    *lead, c, h, w = x.type.shape
    n = math.prod(lead)
    y = b.permute(b.reshape(x, (n, c // (r * r), r, r, h, w)), (0, 1, 4, 2, 5, 3))
    return b.reshape(y, shape_of(b))


@handles("aten.pixel_unshuffle.default")
def pixel_unshuffle(b: Builder, x: Value, r: int) -> Value:
    *lead, c, h, w = x.type.shape
    y = b.permute(b.reshape(x, (math.prod(lead), c, h // r, r, w // r, r)), (0, 1, 3, 5, 2, 4))
    return b.reshape(y, shape_of(b))


@handles("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(b: Builder, x: Value, groups: int) -> Value:
    n, c, *rest = x.type.shape
    y = b.permute(b.reshape(x, (n, groups, c // groups, math.prod(rest))), (0, 2, 1, 3))
    return b.reshape(y, x.type.shape)


# ---- parts
def clamp_index(i: int | None, size: int, default: int) -> int:
    """A Python slice bound as an index in 0..size."""
    if i is None:
        return default
    return min(max(i + size if i < 0 else i, 0), size)


@handles("aten.slice.Tensor")
def slice_(
    b: Builder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    size = x.type.shape[dim]
    first = clamp_index(start, size, 0)
    return b.slice(x, dim, first, max(first, clamp_index(end, size, size)), step)


@handles("aten.narrow.default")
def narrow(b: Builder, x: Value, dim: int, start: int, length: int) -> Value:
    start = clamp_index(start, x.type.shape[dim], 0)
    return b.slice(x, dim, start, start + length)


@handles("aten.select.int")
def select(b: Builder, x: Value, dim: int, index: int) -> Value:
    index %= x.type.shape[dim]
    return b.squeeze(b.slice(x, dim, index, index + 1), dim)


@handles("aten.unbind.int")
def unbind(b: Builder, x: Value, dim: int = 0) -> list[Value]:
    return [select(b, x, dim, i) for i in range(x.type.shape[dim])]


@handles("aten.split.Tensor")
def split(b: Builder, x: Value, size: int, dim: int = 0) -> list[Value]:
    total = x.type.shape[dim]
    return b.split(x, [min(size, total - i) for i in range(0, total, size)], dim)


@handles("aten.split_with_sizes.default", "aten.split.sizes")
def split_with_sizes(b: Builder, x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    return b.split(x, sizes, dim)


@handles("aten.chunk.default")
def chunk(b: Builder, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    return split(b, x, -(-x.type.shape[dim] // chunks), dim)


@handles("aten.tensor_split.sections")
def tensor_split(b: Builder, x: Value, sections: int, dim: int = 0) -> list[Value]:
    small, extra = divmod(x.type.shape[dim], sections)
    return b.split(x, [small + (i < extra) for i in range(sections)], dim)


def take(b: Builder, x: Value, dim: int, index: Array) -> Value:
    """Elements at constant positions along one axis: one slice for each evenly spaced run."""
    pos = [int(i) % x.type.shape[dim] for i in index]
    pieces: list[Value] = []
    while pos:
        step = pos[1] - pos[0] if len(pos) > 1 and pos[1] > pos[0] else 1
        run = 1
        while run < len(pos) and pos[run] == pos[0] + run * step:
            run += 1
        pieces.append(b.slice(x, dim, pos[0], pos[0] + (run - 1) * step + 1, step))
        pos = pos[run:]
        if len(pieces) > _PIECES:
            raise NotSupportedError(f"indexing with more than {_PIECES} separate runs")
    return b.concat(pieces, dim)


@handles("aten.index_select.default")
def index_select(b: Builder, x: Value, dim: int, index: Value) -> Value:
    array = const_array(index)
    if array is None:
        raise NotSupportedError("indices that are computed at run time")
    return take(b, x, dim, array.reshape(-1))


@handles("aten.index.Tensor")
def index(b: Builder, x: Value, indices: Sequence[Value | None]) -> Value:
    given = [(dim, i) for dim, i in enumerate(indices) if i is not None]
    array = const_array(given[0][1]) if len(given) == 1 else None
    if array is None or array.ndim != 1 or array.dtype == np.bool_:
        raise NotSupportedError("indexing other than by one constant vector of integers")
    return take(b, x, given[0][0], array)


@handles("aten.flip.default")
def flip(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    for dim in dims:
        x = take(b, x, dim % x.type.rank, np.arange(x.type.shape[dim])[::-1])
    return x


@handles("aten.roll.default")
def roll(b: Builder, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    if not dims:
        return b.reshape(roll(b, b.reshape(x, (-1,)), shifts, (0,)), x.type.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.type.shape[dim]
        cut = -shift % size if size else 0
        x = b.concat([b.slice(x, dim, cut, size), b.slice(x, dim, 0, cut)], dim) if cut else x
    return x


# ---- joins and writes
@handles("aten.cat.default", "aten.concat.default")
def cat(b: Builder, xs: Sequence[Value], dim: int = 0) -> Value:
    if b.expected is not None:
        xs = [b.cast(x, b.expected.dtype) for x in xs if x.type.shape != (0,)]  # PyTorch skips legacy empty tensors
    return b.concat(xs, dim)


@handles("aten.stack.default")
def stack(b: Builder, xs: Sequence[Value], dim: int = 0) -> Value:
    dim %= xs[0].type.rank + 1
    return cat(b, [b.unsqueeze(x, dim) for x in xs], dim)


@handles("aten.slice_scatter.default")
def slice_scatter(
    b: Builder, x: Value, src: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    size = x.type.shape[dim]
    first = clamp_index(start, size, 0)
    last = clamp_index(end, size, size)
    if step != 1:
        raise NotSupportedError(f"assignment to a slice with step {step}")
    if last <= first:
        return x
    parts = [b.slice(x, dim, 0, first), b.cast(src, x.type.dtype), b.slice(x, dim, last, size)]
    return b.concat([p for p in parts if p.type.size], dim)


@handles("aten.select_scatter.default")
def select_scatter(b: Builder, x: Value, src: Value, dim: int, index: int) -> Value:
    index %= x.type.shape[dim]
    return slice_scatter(b, x, b.unsqueeze(src, dim % x.type.rank), dim, index, index + 1)


@handles("aten.copy.default")
def copy(b: Builder, x: Value, src: Value, non_blocking: bool = False) -> Value:
    return b.expand(b.cast(src, x.type.dtype), x.type.shape)


@handles("aten.fill.Scalar", "aten.full_like.default")
def fill(b: Builder, x: Value, value: float, **_: Any) -> Value:
    shape = shape_of(b)
    assert b.expected is not None
    return b.expand(b.const(np.asarray(value, b.expected.dtype.numpy)), shape)


@handles("aten.fill.Tensor")
def fill_tensor(b: Builder, x: Value, value: Value) -> Value:
    return copy(b, x, value)


@handles("aten.zeros_like.default")
def zeros_like(b: Builder, x: Value, **_: Any) -> Value:
    return fill(b, x, 0)


@handles("aten.ones_like.default")
def ones_like(b: Builder, x: Value, **_: Any) -> Value:
    return fill(b, x, 1)


# ---- padding
def pairs(x: Value, pad: Sequence[int]) -> list[tuple[int, int]]:
    """PyTorch's list (last axis first) as (before, after) for every axis."""
    out = [(0, 0)] * x.type.rank
    for i in range(len(pad) // 2):
        out[-1 - i] = (pad[2 * i], pad[2 * i + 1])
    return out


@handles("aten.pad.default")
def pad(b: Builder, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    amounts = pairs(x, pad)
    if mode == "circular":
        for dim, (before, after) in enumerate(amounts):
            size = x.type.shape[dim]
            if before < 0 or after < 0:
                raise NotSupportedError("negative circular padding")
            if not before and not after:
                continue
            parts = [b.slice(x, dim, size - before, size), x, b.slice(x, dim, 0, after)]
            x = b.concat([p for p in parts if p.type.shape[dim]], dim)
        return x
    for dim, (before, after) in enumerate(amounts):
        if before < 0 or after < 0:  # PyTorch crops
            x = b.slice(x, dim, max(0, -before), x.type.shape[dim] + min(0, after))
    amounts = [(max(0, p), max(0, q)) for p, q in amounts]
    if not any(p or q for p, q in amounts):
        return x
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    return b.emit(ops.pad, x, pads=tuple(amounts), value=0.0 if value is None else float(value), mode=names[mode])


@handles("aten.constant_pad_nd.default")
def constant_pad(b: Builder, x: Value, amounts: Sequence[int], value: float = 0) -> Value:
    return pad(b, x, amounts, "constant", value)


@handles("aten.reflection_pad1d.default", "aten.reflection_pad2d.default")
def reflection_pad(b: Builder, x: Value, amounts: Sequence[int]) -> Value:
    return pad(b, x, amounts, "reflect")


@handles("aten.replication_pad1d.default", "aten.replication_pad2d.default")
def replication_pad(b: Builder, x: Value, amounts: Sequence[int]) -> Value:
    return pad(b, x, amounts, "replicate")
