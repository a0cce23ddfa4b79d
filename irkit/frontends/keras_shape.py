"""Handlers of the ``keras.ops`` operations that move data: views, slices, joins, padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from irkit import ops
from irkit.frontends.builder import NotSupportedError, permutation
from irkit.frontends.keras_registry import Importer, operation
from irkit.ir.graph import Value, const_array


@operation("Reshape")
def reshape(k: Importer, op: Any, x: Value) -> Value:
    newshape = (op.newshape,) if isinstance(op.newshape, int) else op.newshape
    return k.b.reshape(x, [-1 if d is None else int(d) for d in newshape])


@operation("Ravel")
def ravel(k: Importer, op: Any, x: Value) -> Value:
    return k.b.reshape(x, (-1,))


@operation("Transpose")
def transpose(k: Importer, op: Any, x: Value) -> Value:
    return k.b.permute(x, op.axes if op.axes is not None else tuple(reversed(range(x.type.rank))))


@operation("Swapaxes")
def swapaxes(k: Importer, op: Any, x: Value) -> Value:
    perm = list(range(x.type.rank))
    perm[op.axis1], perm[op.axis2] = perm[op.axis2], perm[op.axis1]
    return k.b.permute(x, perm)


@operation("Moveaxis")
def moveaxis(k: Importer, op: Any, x: Value) -> Value:
    source = [op.source] if isinstance(op.source, int) else list(op.source)
    target = [op.destination] if isinstance(op.destination, int) else list(op.destination)
    source, target = [s % x.type.rank for s in source], [t % x.type.rank for t in target]
    rest = [a for a in range(x.type.rank) if a not in source]
    for t, s in sorted(zip(target, source, strict=True)):
        rest.insert(t, s)
    return k.b.permute(x, rest)


@operation("ExpandDims")
def expand_dims(k: Importer, op: Any, x: Value) -> Value:
    axes = [op.axis] if isinstance(op.axis, int) else list(op.axis)
    rank = x.type.rank + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = k.b.unsqueeze(x, axis)
    return x


@operation("Squeeze")
def squeeze(k: Importer, op: Any, x: Value) -> Value:
    shape = x.type.shape
    axes = range(len(shape)) if op.axis is None else [op.axis] if isinstance(op.axis, int) else op.axis
    gone = {a % len(shape) for a in axes if op.axis is not None or shape[a] == 1}
    return k.b.reshape(x, [d for i, d in enumerate(shape) if i not in gone])


@operation("BroadcastTo")
def broadcast_to(k: Importer, op: Any, x: Value) -> Value:
    return k.b.expand(x, tuple(op.shape))


@operation("Repeat")
def repeat(k: Importer, op: Any, x: Value) -> Value:
    repeats = op.repeats
    if isinstance(repeats, (list, tuple)) and len(repeats) == 1:
        repeats = repeats[0]
    if not isinstance(repeats, (int, np.integer)):
        raise NotSupportedError("repeat with a count per element")
    if op.axis is None:
        x, axis = k.b.reshape(x, (-1,)), 0
    else:
        axis = op.axis % x.type.rank
    shape = list(x.type.shape)
    wide = k.b.expand(k.b.unsqueeze(x, axis + 1), [*shape[: axis + 1], int(repeats), *shape[axis + 1 :]])
    shape[axis] *= int(repeats)
    return k.b.reshape(wide, shape)


@operation("Tile")
def tile(k: Importer, op: Any, x: Value) -> Value:
    counts = [op.repeats] if isinstance(op.repeats, int) else list(op.repeats)
    counts = [1] * (x.type.rank - len(counts)) + counts
    x = k.b.reshape(x, (1,) * (len(counts) - x.type.rank) + x.type.shape)
    shape = x.type.shape
    split = [n for d in shape for n in (1, d)]
    wide = [n for c, d in zip(counts, shape, strict=True) for n in (c, d)]
    return k.b.reshape(k.b.expand(k.b.reshape(x, split), wide), [c * d for c, d in zip(counts, shape, strict=True)])


@operation("Concatenate")
def concatenate(k: Importer, op: Any, xs: Sequence[Any]) -> Value:
    values = [k.value(x) for x in xs]
    axis = op.axis % values[0].type.rank
    before = [permutation(v) for v in values]
    perms = {p[1] for p in before if p is not None}
    if len(perms) == 1 and None not in before:  # join what was permuted, permute once
        perm = perms.pop()
        return k.b.permute(k.b.concat([p[0] for p in before if p is not None], perm[axis]), perm)
    return k.b.concat(values, axis)


@operation("Stack")
def stack(k: Importer, op: Any, x: Sequence[Any]) -> Value:
    values = [k.value(v) for v in x]
    axis = op.axis % (values[0].type.rank + 1)
    return k.b.concat([k.b.unsqueeze(v, axis) for v in values], axis)


@operation("Unstack")
def unstack(k: Importer, op: Any, x: Value) -> list[Value]:
    axis = op.axis % x.type.rank
    return [k.b.squeeze(k.b.slice(x, axis, i, i + 1), axis) for i in range(x.type.shape[axis])]


@operation("Split")
def split(k: Importer, op: Any, x: Value) -> list[Value]:
    axis, size = op.axis % x.type.rank, x.type.shape[op.axis]
    how = op.indices_or_sections
    if isinstance(how, int):
        return k.b.split(x, [size // how] * how, axis)
    cuts = [0, *[int(i) + size if i < 0 else min(int(i), size) for i in how], size]
    return k.b.split(x, [b - a for a, b in pairwise(cuts)], axis)


@operation("GetItem")
def get_item(k: Importer, op: Any, x: Value, key: Any) -> Value:
    """Slices with positive steps, integers, None and Ellipsis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(i is not None and not isinstance(i, (int, np.integer, slice, type(...))) for i in keys):
        raise NotSupportedError("indexing by a tensor")
    plain = [i for i in keys if i is not None and i is not ...]
    if ... not in keys:
        keys.append(...)
    at = keys.index(...)
    keys[at : at + 1] = [slice(None)] * (x.type.rank - len(plain))
    axis = 0
    for i in keys:
        if i is None:
            x = k.b.unsqueeze(x, axis)
        elif isinstance(i, slice):
            start, stop, step = i.indices(x.type.shape[axis])
            if step < 0:
                raise NotSupportedError("a slice with a negative step")
            x = k.b.slice(x, axis, start, max(start, stop), step)
        else:
            position = int(i) % x.type.shape[axis]
            x = k.b.squeeze(k.b.slice(x, axis, position, position + 1), axis)
            continue
        axis += 1
    return x


@operation("Slice")
def slice_(k: Importer, op: Any, inputs: Value, start_indices: Sequence[int]) -> Value:
    x = inputs
    for axis, (start, length) in enumerate(zip(start_indices, op.shape, strict=True)):
        size = x.type.shape[axis]
        first = int(start) % size if size else 0
        x = k.b.slice(x, axis, first, size if length in (-1, None) else first + int(length))
    return x


@operation("Flip")
def flip(k: Importer, op: Any, x: Value) -> Value:
    axes = range(x.type.rank) if op.axis is None else [op.axis] if isinstance(op.axis, int) else op.axis
    for a in axes:
        size = x.type.shape[a]
        if size > 64:
            raise NotSupportedError(f"flip of an axis of length {size}")
        x = k.b.concat([k.b.slice(x, a, i, i + 1) for i in reversed(range(size))], a)
    return x


@operation("Roll")
def roll(k: Importer, op: Any, x: Value) -> Value:
    if not isinstance(op.axis, int) or not isinstance(op.shift, int):
        raise NotSupportedError("roll over several axes")
    size = x.type.shape[op.axis]
    cut = -op.shift % size
    return k.b.concat([k.b.slice(x, op.axis, cut, size), k.b.slice(x, op.axis, 0, cut)], op.axis) if cut else x


@operation("Pad")
def pad(k: Importer, op: Any, x: Value, constant_values: Any = None) -> Value:
    modes = {"constant": "constant", "reflect": "reflect", "edge": "edge"}
    if op.mode not in modes:
        raise NotSupportedError(f"pad mode {op.mode}")
    width = np.asarray(op.pad_width)
    pads = np.broadcast_to(width, (x.type.rank, 2)).tolist()
    value = 0.0 if constant_values is None else float(constant_values)
    before = permutation(x)
    if before is not None:
        source, perm = before
        moved = [pads[perm.index(a)] for a in range(len(perm))]
        return k.b.permute(k.b.emit(ops.pad, source, pads=moved, value=value, mode=modes[op.mode]), perm)
    return k.b.emit(ops.pad, x, pads=pads, value=value, mode=modes[op.mode])


@operation("Take")
def take(k: Importer, op: Any, x: Value, indices: Any) -> Value:
    index = const_array(k.value(indices)) if not isinstance(indices, int) else np.asarray(indices)
    if index is None or op.axis is None or index.ndim > 1 or index.size > 64:
        raise NotSupportedError("take other than by a few constant positions")
    size = x.type.shape[op.axis]
    parts = [k.b.slice(x, op.axis, int(i) % size, int(i) % size + 1) for i in index.reshape(-1)]
    y = k.b.concat(parts, op.axis)
    return k.b.squeeze(y, op.axis) if index.ndim == 0 else y


@operation("ZerosLike", "OnesLike")
def constant_like(k: Importer, op: Any, x: Value) -> Value:
    number = 0.0 if type(op).__name__ == "ZerosLike" else 1.0
    return k.b.expand(k.value(number, x), x.type.shape)


@operation("DepthToSpace", "SpaceToDepth")
def depth_space(k: Importer, op: Any, x: Value) -> Value:
    """Blocks of channels as pixels and back, in TensorFlow's order (block row, block column, channel)."""
    b, r = k.b, op.block_size
    if op.data_format == "channels_first":
        x = b.permute(x, (0, 2, 3, 1))
    n, h, w, c = x.type.shape
    if type(op).__name__ == "DepthToSpace":
        y = b.permute(b.reshape(x, (n, h, w, r, r, c // (r * r))), (0, 1, 3, 2, 4, 5))
        y = b.reshape(y, (n, h * r, w * r, c // (r * r)))
    else:
        y = b.permute(b.reshape(x, (n, h // r, r, w // r, r, c)), (0, 1, 3, 2, 4, 5))
        y = b.reshape(y, (n, h // r, w // r, c * r * r))
    return b.permute(y, (0, 3, 1, 2)) if op.data_format == "channels_first" else y
