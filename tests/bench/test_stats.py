"""Order statistics: intervals against enumeration, verdicts on samples whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.compare import verdict
from irkit.bench.stats import Summary, geometric_mean, median_interval, ratio_interval


def test_summary() -> None:
    s = Summary.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (s.count, s.min, s.median, s.mad) == (5, 1.0, 3.0, 1.0)
    assert s.p10 == pytest.approx(1.4) and s.p90 == pytest.approx(4.6)
    with pytest.raises(ValueError, match="no values"):
        Summary.of([])


@pytest.mark.parametrize("n", range(1, 15))
def test_interval_of_a_median(n: int) -> None:
    """All ways in which n values can lie around the true median, which are equally likely."""
    values = [float(v) for v in np.random.default_rng(n).permutation(n)]
    found = median_interval(values)
    assert found.low <= found.median <= found.high

    def misses(k: int) -> float:  # the interval of k-th smallest and largest has all of the true median's one side
        below = [sum(signs) for signs in itertools.product((0, 1), repeat=n)]
        return sum(b < k or n - b < k for b in below) / 2**n

    k = int(found.low) + 1
    assert found.high == n - k
    assert found.confidence == pytest.approx(1 - min(1.0, misses(k)))
    assert found.confidence >= 0.95 or k == 1
    assert 2 * (k + 1) > n + 1 or 1 - misses(k + 1) < 0.95, "a narrower interval would have done"


def test_a_ratio_is_of_pairs() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]  # the machine gets slower and slower: it hits both
    found = ratio_interval([1.1 * t for t in drift], drift)
    assert found.low == pytest.approx(1.1) and found.high == pytest.approx(1.1)
    with pytest.raises(ValueError, match="2 values can't be paired with 1"):
        ratio_interval([1, 2], [1])


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


def noisy(rng: np.random.Generator, n: int) -> list[float]:
    """Times with a floor and a long tail."""
    return [float(1 + t) for t in rng.exponential(0.03, n)]


def test_a_slow_down_is_found_and_equal_builds_are_the_same() -> None:
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(200):
        a, b, slow = noisy(rng, 15), noisy(rng, 15), [1.15 * t for t in noisy(rng, 15)]
        assert verdict(a, slow, 0.01)["verdict"] == "slower"
        assert verdict(slow, a, 0.01)["verdict"] == "faster"
        wrong += verdict(a, b, 0.01)["verdict"] != "same"
    assert wrong <= 10  # 5 % at most, by the interval's confidence alone
    assert verdict(a, a, 0.0)["verdict"] == "same"


def test_a_difference_within_tolerance_is_none() -> None:
    a = [1.0] * 8
    b = [1.02] * 8
    assert verdict(a, b, 0.01)["verdict"] == "slower"
    assert verdict(a, b, 0.03)["verdict"] == "same"
    found = verdict(a, b, 0.03)
    assert found["ratio"] == pytest.approx(1.02) and found["confidence"] > 0.99
