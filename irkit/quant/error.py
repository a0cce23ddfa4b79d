"""How far a quantized tensor is from the original."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sqnr(reference: npt.ArrayLike, value: npt.ArrayLike) -> float:
    """Signal-to-quantization-noise ratio in dB: 10 log10(sum(r^2) / sum((r - v)^2)); inf when equal."""
    r, v = np.asarray(reference, np.float64), np.asarray(value, np.float64)
    noise = float(((r - v) ** 2).sum())
    signal = float((r**2).sum())
    if noise == 0.0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Cosine of the angle between two tensors taken as vectors; 1 when both are zero, 0 when one is."""
    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    n = float(np.linalg.norm(x) * np.linalg.norm(y))
    if n == 0.0:
        return 1.0 if not x.any() and not y.any() else 0.0
    return float(x @ y / n)
