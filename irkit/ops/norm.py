"""Normalisations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from irkit.errors import IRError
from irkit.ir.opdef import Case, op
from irkit.ir.types import Array, TensorType
from irkit.ops.check import axis_of, show, want_float, want_shape
from irkit.ops.elementwise import along_channels
from irkit.ops.linear import wave


def _want_eps(eps: object) -> None:
    if not isinstance(eps, (int, float)) or not eps >= 0:
        raise IRError(f"attribute eps: expected a number >= 0, got {eps!r}")


def _batch_norm_infer(
    x: TensorType,
    gamma: TensorType | None,
    beta: TensorType | None,
    mean: TensorType | None,
    var: TensorType | None,
    *,
    eps: float,
) -> TensorType:
    dtype = want_float(x=x, gamma=gamma, beta=beta, mean=mean, var=var)
    if mean is None or var is None:
        raise IRError("operands mean and var: expected tensors, got nothing")
    if x.rank < 2:
        raise IRError(f"operand x: expected rank >= 2 (channels on axis 1), got {show(x)}")
    for name, t in (("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)):
        want_shape(name, t, (x.shape[1],))
    _want_eps(eps)
    return TensorType(x.shape, dtype)


def _batch_norm_cases() -> Iterator[Case]:
    mean, var = wave(4, step=2.1), np.abs(wave(4, step=1.3)) + np.float32(0.1)
    yield Case((wave(2, 4, 3, 5), wave(4), wave(4, step=0.9), mean, var), {}, "affine")
    yield Case((wave(2, 4, 3, 5), None, None, mean, var), {"eps": 1e-3}, "plain")
    yield Case((wave(3, 4), wave(4), None, mean, var), {}, "rank2")
    yield Case((wave(2, 4, 6), None, wave(4), mean, np.array([0, 1e-9, 1, 4], np.float32)), {}, "tiny_var")


@op(infer=_batch_norm_infer, cases=_batch_norm_cases)
def batch_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    mean: Array | None = None,
    var: Array | None = None,
    *,
    eps: float = 1e-5,
) -> Array:
    """(x - mean) / sqrt(var + eps) * gamma + beta along axis 1, with given statistics (Ioffe and Szegedy, 2015).

    mean and var are required; gamma and beta are not. Done as one multiply-add with factors computed in float64.
    """
    assert mean is not None and var is not None
    scale = 1.0 / np.sqrt(var.astype(np.float64) + eps)
    if gamma is not None:
        scale = scale * gamma
    shift = -mean * scale if beta is None else beta - mean * scale
    a = along_channels(scale, x.ndim).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(x * a + along_channels(shift, x.ndim)).astype(x.dtype)


def _layer_norm_infer(
    x: TensorType, gamma: TensorType | None, beta: TensorType | None, *, axis: int, eps: float
) -> TensorType:
    dtype = want_float(x=x, gamma=gamma, beta=beta)
    inner = x.shape[axis_of("axis", axis, x.rank) :]
    want_shape("gamma", gamma, inner)
    want_shape("beta", beta, inner)
    _want_eps(eps)
    if 0 in inner:
        raise IRError(f"operand x: nothing to normalise in {show(x)}")
    return TensorType(x.shape, dtype)


def _layer_norm_cases() -> Iterator[Case]:
    yield Case((wave(2, 5, 8), wave(8), wave(8, step=0.9)), {}, "last")
    yield Case((wave(2, 5, 8, scale=30), None, None), {"eps": 1e-12}, "plain")
    yield Case((wave(2, 3, 4), wave(3, 4), None), {"axis": 1}, "two_axes")
    yield Case((np.full((2, 6), 3.0, np.float32), None, wave(6)), {}, "constant")


@op(infer=_layer_norm_infer, cases=_layer_norm_cases)
def layer_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, *, axis: int = -1, eps: float = 1e-5
) -> Array:
    """(x - mean) / sqrt(var + eps) * gamma + beta, statistics over the axes from ``axis`` on (Ba et al., 2016)."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    v = x.astype(np.float64)
    with np.errstate(invalid="ignore"):
        d = v - v.mean(axes, keepdims=True)
        y = d / np.sqrt((d * d).mean(axes, keepdims=True) + eps)
        if gamma is not None:
            y = y * gamma
        if beta is not None:
            y = y + beta
    return np.asarray(y).astype(x.dtype)
