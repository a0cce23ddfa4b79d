"""What many measurements say: middle, spread, and how sure a ratio of two is.

Times on a shared machine are no normal distribution: they have a floor and a long tail. So only order statistics are
used here: median, percentiles, the median's distance from the others (MAD), and for a median its distribution-free
confidence interval. Nothing is drawn at random: the same numbers give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Order statistics of a sample, in its unit. ``mad``: median distance from the median."""

    count: int
    min: float
    p10: float
    median: float
    p90: float
    mad: float

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """The summary of at least one value; ValueError when there is none."""
        if not len(values):
            raise ValueError("no values to summarize")
        a = np.asarray(values, np.float64)
        p10, median, p90 = (float(q) for q in np.percentile(a, (10, 50, 90)))
        return Summary(len(a), float(a.min()), p10, median, p90, float(np.median(np.abs(a - median))))


@dataclass(frozen=True)
class Interval:
    """A median and the interval that holds the true one with probability ``confidence`` or more."""

    low: float
    median: float
    high: float
    confidence: float


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The median of independent values and its confidence interval between two of them.

    Whether a value lies below the true median is a coin's toss, so the interval from the k-th smallest to the k-th
    largest of n misses it with probability 2 P(Binomial(n, 1/2) < k), whatever the distribution. The largest k that
    keeps the confidence is taken; of fewer than six values none reaches 95 %, and all of them are the interval.
    """
    a = sorted(float(v) for v in values)
    if not a:
        raise ValueError("no values to summarize")
    n, k, missed = len(a), 1, 2 * 0.5 ** len(a)
    while k + 1 <= (n + 1) // 2:
        wider = missed + 2 * math.comb(n, k) * 0.5**n
        if 1 - wider < confidence:
            break
        k, missed = k + 1, wider
    return Interval(a[k - 1], float(np.median(a)), a[n - k], max(0.0, 1 - missed))


def ratio_interval(ours: Sequence[float], theirs: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Median and interval of the ratios of paired values: each pair was measured in turn, under the same conditions."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values can't be paired with {len(theirs)}")
    return median_interval([a / b for a, b in zip(ours, theirs, strict=True)], confidence)


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive numbers."""
    return math.exp(sum(math.log(v) for v in values) / len(values))
