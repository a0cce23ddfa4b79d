"""From the histogram of a tensor to its int8 scale and zero point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from irkit.errors import CalibrationError
from irkit.ir.types import Quant

if TYPE_CHECKING:
    from irkit.quant.observe import Histogram

METHODS = ("mse", "minmax", "percentile", "entropy")
LEVELS = 255  # steps between the smallest and the largest int8
F64 = npt.NDArray[np.float64]


def quant_of_range(lo: float, hi: float) -> Quant:
    """int8 parameters whose 256 values span [lo, hi], widened to contain 0, which is met exactly.

    Of two-sided ranges the zero point is rounded, so that one end may move by half a step.
    """
    lo, hi = min(float(lo), 0.0), max(float(hi), 0.0)
    if hi - lo < 1e-30:  # nothing but zeros: any scale is exact
        return Quant.per_tensor(1.0, 0)
    scale = float(np.float32((hi - lo) / LEVELS))
    zero = int(np.clip(np.rint(-128.0 - lo / scale), -128, 127))
    return Quant.per_tensor(scale, zero)


def choose_range(h: Histogram, method: str = "mse", percentile: float = 99.99) -> tuple[float, float]:
    """The range (lo <= 0 <= hi) that int8 should span, by one of :data:`METHODS`.

    minmax: everything seen. percentile: leaves (100 - percentile) % of the values outside, shared by both sides by
    their counts. mse: least mean squared error of rounding and clipping. entropy: least Kullback-Leibler divergence
    of the quantized from the seen distribution (Migacz, "8-bit inference with TensorRT", GTC 2017).
    CalibrationError for an unknown method or a histogram without data.
    """
    if method not in METHODS:
        raise CalibrationError(f"calibration method: expected one of {', '.join(METHODS)}, got {method!r}")
    if h.count == 0:
        raise CalibrationError("calibration: a tensor was never observed")
    lo, hi = min(h.lo, 0.0), max(h.hi, 0.0)
    if method == "minmax" or h.limit == 0.0:
        return lo, hi
    if method == "percentile":
        return _percentile(h, lo, hi, percentile)
    return _mse(h, lo, hi) if method == "mse" else _entropy(h, lo, hi)


def _percentile(h: Histogram, lo: float, hi: float, percentile: float) -> tuple[float, float]:
    if not 50.0 < percentile <= 100.0:
        raise CalibrationError(f"percentile: expected a number in (50, 100], got {percentile!r}")
    counts, edges = h.counts, h.edges
    outside = (100.0 - percentile) / 100.0 * h.count
    below = np.cumsum(counts)
    above = np.cumsum(counts[::-1])[::-1]
    # the larger |x|, the earlier it is left outside: shrink both sides together until the allowance is used up
    half = len(counts) // 2
    for k in range(half):
        left = int(below[k - 1]) if k else 0
        right = int(above[len(counts) - k]) if k else 0
        nxt = int(below[k]) + int(above[len(counts) - 1 - k])
        if nxt > outside:
            a = edges[k] if left else lo
            b = edges[len(counts) - k] if right else hi
            return max(lo, float(a)), min(hi, float(b))
    return lo, hi


@dataclass(frozen=True)
class _Tails:
    """Moments of the part of a one-sided histogram beyond each bin edge: sums of 1, x and x^2."""

    edges: F64  # ascending, from 0
    s0: F64
    s1: F64
    s2: F64

    @staticmethod
    def of(counts: npt.NDArray[np.int64], edges: F64) -> _Tails:
        c = counts.astype(np.float64)
        x = (edges[:-1] + edges[1:]) / 2

        def tail(v: F64) -> F64:
            return np.append(np.cumsum(v[::-1])[::-1], 0.0)

        return _Tails(edges, tail(c), tail(c * x), tail(c * x * x))

    def clipped(self, k: npt.NDArray[np.int64]) -> F64:
        """Sum of (x - edges[k])^2 over x beyond edge k."""
        e = self.edges[k]
        return np.maximum(self.s2[k] - 2 * e * self.s1[k] + e * e * self.s0[k], 0.0)


def _used(counts: npt.NDArray[np.int64]) -> int:
    """Bins from the first to the last that holds something."""
    at = np.flatnonzero(counts)
    return int(at[-1]) + 1 if len(at) else 0


def _mse(h: Histogram, lo: float, hi: float) -> tuple[float, float]:
    """Least squared error over pairs of bin edges.

    Inside, rounding costs step^2 / 12 a value (none for exact zeros); outside, the squared distance to the range.
    """
    counts, edges = h.counts, h.edges
    half = len(counts) // 2
    right = _Tails.of(counts[half:], edges[half:])
    left = _Tails.of(counts[:half][::-1], edges[half:])
    ends = []
    for side, limit in ((counts[half:], hi), (counts[:half][::-1], -lo)):
        n = _used(side)
        # at most 256 candidates, from 2 % of the range; the last stands for all that was seen
        k = (
            np.unique(np.linspace(max(1, n // 50), n, min(n, 256)).astype(np.int64))
            if n and limit
            else np.zeros(1, int)
        )
        ends.append(k.astype(np.int64))
    kr, kl = ends
    top = np.minimum(right.edges[kr], hi)[:, None]
    bottom = np.minimum(left.edges[kl], -lo)[None, :]
    step = (top + bottom) / LEVELS
    inside = h.count - h.zeros - right.s0[kr][:, None] - left.s0[kl][None, :]
    cost = step * step / 12 * inside + right.clipped(kr)[:, None] + left.clipped(kl)[None, :]
    i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return -float(bottom[0, j]), float(top[i, 0])


def _entropy(h: Histogram, lo: float, hi: float) -> tuple[float, float]:
    """Least KL divergence over thresholds T of |x|; the range is [-T, T] within what was seen."""
    counts = h.counts
    half = len(counts) // 2
    magnitude = (counts[half:] + counts[:half][::-1]).astype(np.float64)
    magnitude[0] -= min(h.zeros, magnitude[0])  # zeros are exact at any scale
    n = _used(magnitude.astype(np.int64))
    if n == 0:
        return lo, hi
    levels = 128 if lo < 0 < hi else 256
    best, at = np.inf, n
    for k in range(max(levels, n // 64), n + 1, max(1, (n - levels) // 256)):
        d = _divergence(magnitude[:n], k, levels)
        if d < best:
            best, at = d, k
    if n < levels:
        return lo, hi
    t = at * h.limit / half if at < n else np.inf
    return max(lo, -t), min(hi, t)


def _divergence(p_all: F64, k: int, levels: int) -> float:
    """KL(P || Q): P the first k bins with the rest added to the last, Q those k bins in ``levels`` equal groups."""
    p = p_all[:k].copy()
    q = p.copy()
    p[-1] += p_all[k:].sum()
    group = np.arange(k) * levels // k
    seen = q > 0
    total = np.bincount(group, q, levels)
    cells = np.bincount(group, seen, levels)
    q = np.where(seen, (total / np.maximum(cells, 1))[group], 0.0)
    use = p > 0
    if not q.any():
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    q = np.where(use & (q == 0), 1e-12, q)
    return float((p[use] * np.log(p[use] / q[use])).sum())
