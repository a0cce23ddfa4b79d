"""Batched matrix products; operands in any storage order, so that the transposes of attention cost nothing."""

from __future__ import annotations

import math

from irkit.backend.kernel import Step, StepInput, lowering
from irkit.ir.graph import Operation
from irkit.ir.types import DType, TensorType
from irkit.ops import matmul

MAX_BATCH = 6


def _strides(t: TensorType) -> list[int]:
    out, step = [0] * t.rank, 1
    for axis in reversed(t.order):
        out[axis] = step
        step *= t.shape[axis]
    return out


@lowering(matmul)
def lower_matmul(op: Operation) -> Step | None:
    """f32; the result must be row-major."""
    a, b, y = op.operand("a").type, op.operand("b").type, op.result.type
    if any(t.dtype is not DType.F32 or t.size == 0 for t in (a, b, y)):
        return None
    if [x for x in y.order if y.shape[x] != 1] != [x for x in range(y.rank) if y.shape[x] != 1]:
        return None
    a_shape, a_strides = list(a.shape), _strides(a)
    b_shape, b_strides = list(b.shape), _strides(b)
    if a.rank == 1:
        a_shape, a_strides = [1, *a_shape], [0, *a_strides]
    if b.rank == 1:
        b_shape, b_strides = [*b_shape, 1], [*b_strides, 0]
    m, k, n = a_shape[-2], a_shape[-1], b_shape[-1]
    rank = max(len(a_shape), len(b_shape)) - 2
    if rank > MAX_BATCH:
        return None

    def spread(shape: list[int], strides: list[int]) -> tuple[list[int], list[int]]:
        lead = rank - (len(shape) - 2)
        dims = [1] * lead + shape[:-2]
        return dims, [0] * lead + [0 if d == 1 else s for d, s in zip(shape[:-2], strides[:-2], strict=True)]

    a_dims, a_batch = spread(a_shape, a_strides)
    b_dims, b_batch = spread(b_shape, b_strides)
    batch = [max(p, q) for p, q in zip(a_dims, b_dims, strict=True)]
    a_strides, b_strides = a_strides[-2:], b_strides[-2:]
    inputs: list[StepInput] = [op.operand("a"), op.operand("b")]
    if n == 1:  # a column of results is a row of the transposed product: the kernel is wide along n
        m, n = n, m
        inputs.reverse()
        a_batch, b_batch, a_strides, b_strides = b_batch, a_batch, b_strides[::-1], a_strides[::-1]
    attrs = {
        "m": m,
        "n": n,
        "k": k,
        "batch": batch,
        "a_strides": a_batch + a_strides,
        "b_strides": b_batch + b_strides,
    }
    return Step("matmul", inputs, [op.result], attrs, macs=math.prod(batch) * m * n * k)
