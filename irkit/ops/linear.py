"""Matrix products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, TensorType
from irkit.ops.check import broadcast, show, want_float, want_rank, want_shape


def wave(*shape: int, step: float = 0.37, scale: float = 1.0) -> Array:
    """Deterministic float32 sample data without repeats: ``scale * sin(step * i)``."""
    n = int(np.prod(shape))
    return np.asarray(scale * np.sin(step * np.arange(n) + 0.3), np.float32).reshape(shape)


def _linear_infer(x: TensorType, w: TensorType, bias: TensorType | None) -> TensorType:
    dtype = want_float(x=x, w=w, bias=bias)
    want_rank("w", w, 2)
    if x.rank == 0 or x.shape[-1] != w.shape[1]:
        raise IRError(f"operand x: expected a last axis of {w.shape[1]} like w's rows, got {show(x)}")
    want_shape("bias", bias, (w.shape[0],))
    return TensorType((*x.shape[:-1], w.shape[0]), dtype)


def _linear_cases() -> Iterator[Case]:
    yield Case((wave(3, 5), wave(4, 5, step=0.7), wave(4)), {}, "bias")
    yield Case((wave(2, 3, 16), wave(7, 16, step=0.7), None), {}, "rank3")
    yield Case((wave(9), wave(1, 9, step=0.7), None), {}, "vector")
    yield Case((wave(1, 300), wave(33, 300, step=1.1), wave(33)), {}, "long")
    yield Case((wave(4, 3).astype(np.float64), wave(2, 3).astype(np.float64), None), {}, "f64")


@op(infer=_linear_infer, tags="anchor", cases=_linear_cases)
def linear(x: Array, w: Array, bias: Array | None = None) -> Array:
    """y = x @ w.T + bias, over the last axis of x; w is [O, K]."""
    y = x @ w.T
    return np.asarray(y if bias is None else y + bias)


def _matmul_infer(a: TensorType, b: TensorType) -> TensorType:
    dtype = want_float(a=a, b=b)
    if a.rank == 0 or b.rank == 0:
        raise IRError(f"operands a and b: expected rank >= 1, got {show(a)} and {show(b)}")
    left = a.shape if a.rank > 1 else (1, *a.shape)
    right = b.shape if b.rank > 1 else (*b.shape, 1)
    if left[-1] != right[-2]:
        raise IRError(f"operand b: expected {left[-1]} rows like a's columns, got {show(b)} for a {show(a)}")
    out = broadcast(left[:-2], right[:-2], "a", "b")
    if a.rank > 1:
        out += (left[-2],)
    if b.rank > 1:
        out += (right[-1],)
    return TensorType(out, dtype)


def _matmul_cases() -> Iterator[Case]:
    yield Case((wave(3, 5), wave(5, 4, step=0.7)), {}, "plain")
    yield Case((wave(2, 3, 4, 5), wave(2, 3, 5, 6, step=0.7)), {}, "batched")
    yield Case((wave(2, 1, 4, 5), wave(3, 5, 6, step=0.7)), {}, "broadcast")
    yield Case((wave(5), wave(5, 4, step=0.7)), {}, "vector_left")
    yield Case((wave(2, 3, 5), wave(5, step=0.7)), {}, "vector_right")


@op(infer=_matmul_infer, cases=_matmul_cases)
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes, batched and broadcast over the others like NumPy's matmul."""
    return np.asarray(np.matmul(a, b))
