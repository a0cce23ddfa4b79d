"""Weights and biases in int8 and int32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from irkit.ir.types import Array, Quant

I8 = npt.NDArray[np.int8]
BIAS_LIMIT = 2**30  # leaves the accumulator as much room again for the products
ACC_LIMIT = 2**31 - 1


def quantize_weights(w: Array, bias: Array | None = None, x_scale: float = 1.0) -> tuple[I8, Quant]:
    """w [O, ...] as int8 in [-127, 127], symmetric, one scale per index of axis 0: max |w[o]| / 127.

    Scales of channels whose weights are tiny beside their bias are raised until the bias fits int32 at
    ``x_scale * scale``; channels of zeros get a scale at which the bias keeps 24 bits.
    """
    flat = w.reshape(w.shape[0], -1).astype(np.float64)
    scale = np.abs(flat).max(1, initial=0.0) / 127.0
    b = np.zeros(len(flat)) if bias is None else np.abs(bias.astype(np.float64))
    empty = scale < 1e-30
    scale = np.where(empty, np.where(b > 0, b / (x_scale * 2.0**24), 1.0), scale)
    scale = np.maximum(scale, b / (x_scale * BIAS_LIMIT))
    s = np.maximum(scale.astype(np.float32), np.float32(1e-37))
    q = np.clip(np.rint(flat / s.astype(np.float64)[:, None]), -127, 127).astype(np.int8)
    return q.reshape(w.shape), Quant(tuple(float(v) for v in s), (0,) * len(s), 0)


def quantize_bias(bias: Array, x_scale: float, w_quant: Quant) -> npt.NDArray[np.int32] | None:
    """bias / (x_scale * w_scale) rounded to int32; None when it does not fit."""
    q = np.rint(bias.astype(np.float64) / (float(x_scale) * w_quant.scale_array().astype(np.float64)))
    return None if np.abs(q).max(initial=0.0) > ACC_LIMIT else q.astype(np.int32)


def fits_accumulator(w: I8, bias: Array | None, zero: int) -> bool:
    """True when no int8 input with this zero point can take the int32 sum out of range."""
    reach = max(zero + 128, 127 - zero)
    sums = np.abs(w.reshape(w.shape[0], -1).astype(np.int64)).sum(1) * reach
    if bias is not None:
        sums = sums + np.abs(bias.astype(np.int64))
    return int(sums.max(initial=0)) <= ACC_LIMIT
