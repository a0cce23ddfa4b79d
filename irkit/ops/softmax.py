"""Softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, TensorType
from irkit.ops.check import axis_of, want_float
from irkit.ops.linear import wave


def _infer(x: TensorType, *, axis: int) -> TensorType:
    dtype = want_float(x=x)
    axis_of("axis", axis, x.rank)
    return TensorType(x.shape, dtype)


def _cases() -> Iterator[Case]:
    yield Case((wave(2, 3, 5, scale=4),), {"axis": -1}, "last")
    yield Case((wave(2, 3, 5, scale=4),), {"axis": 1}, "middle")
    yield Case((wave(4, 7, scale=300),), {"axis": 1}, "large")
    odd = np.array([[0, -np.inf, 1], [1, np.nan, 0], [-np.inf, -np.inf, -np.inf], [np.inf, 0, 1]], np.float32)
    yield Case((odd,), {"axis": 1}, "edges")
    yield Case((wave(3, 1),), {"axis": 1}, "one")


def _shifted(x: Array, axis: int) -> Array:
    v = x.astype(np.float64)
    return np.asarray(v - v.max(axis, keepdims=True, initial=-np.inf))


@op(infer=_infer, cases=_cases)
def softmax(x: Array, *, axis: int) -> Array:
    """exp(x - max) / sum(exp(x - max)) along ``axis``."""
    with np.errstate(invalid="ignore"):
        e = np.exp(_shifted(x, axis))
        return np.asarray(e / e.sum(axis, keepdims=True)).astype(x.dtype)


@op(infer=_infer, cases=_cases)
def log_softmax(x: Array, *, axis: int) -> Array:
    """x - max - log(sum(exp(x - max))) along ``axis``."""
    with np.errstate(invalid="ignore"):
        d = _shifted(x, axis)
        return np.asarray(d - np.log(np.exp(d).sum(axis, keepdims=True))).astype(x.dtype)
