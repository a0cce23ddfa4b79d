"""Histograms and range choice, against NumPy and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from irkit.errors import CalibrationError
from irkit.ir.types import Quant
from irkit.ops import quantize
from irkit.quant.observe import Histogram
from irkit.quant.ranges import METHODS, choose_range, quant_of_range

RNG = np.random.default_rng(7)
DATA: dict[str, np.ndarray] = {
    "normal": RNG.normal(size=60_000),
    "relu": np.maximum(RNG.normal(size=60_000), 0),
    "relu6": np.clip(3 * RNG.normal(size=60_000), 0, 6),
    "laplace": RNG.laplace(size=60_000),
    "heavy": RNG.standard_t(3, size=60_000),
    "skewed": RNG.gamma(1.0, size=60_000) - 0.3,
    "negative": -RNG.gamma(2.0, size=60_000),
    "tiny": RNG.normal(size=60_000) * 1e-30,
}
DATA = {k: v.astype(np.float32) for k, v in DATA.items()}


def histogram(*parts: np.ndarray) -> Histogram:
    h = Histogram()
    for p in parts:
        h.add(p)
    return h


def error(x: np.ndarray, lo: float, hi: float) -> float:
    """Mean squared error of int8 over that range, on the data itself."""
    q = quant_of_range(lo, hi)
    s, z = q.scale[0], q.zero[0]
    x = x.astype(np.float64)
    return float(np.mean(((np.clip(np.rint(x / s) + z, -128, 127) - z) * s - x) ** 2))


@pytest.mark.parametrize("name", DATA)
def test_histogram_equals_numpy(name: str) -> None:
    x = DATA[name].astype(np.float64)
    h = histogram(DATA[name])
    half = len(h.counts) // 2
    right, _ = np.histogram(x[x >= 0], h.edges[half:])
    left, _ = np.histogram(-x[x < 0], h.edges[half:])  # the two sides mirror each other
    np.testing.assert_array_equal(h.counts, np.concatenate([left[::-1], right]))
    assert (h.count, h.lo, h.hi, h.zeros) == (len(x), x.min(), x.max(), int((x == 0).sum()))
    assert h.limit / 2 <= np.abs(x).max() < h.limit


@pytest.mark.parametrize("name", DATA)
def test_histogram_does_not_depend_on_batches_or_order(name: str) -> None:
    x = DATA[name]
    whole = histogram(x)
    for parts in (np.array_split(x, 37), np.array_split(np.sort(np.abs(x)) * np.sign(x[0] or 1), 11)):
        h = histogram(*parts)
        if np.array_equal(np.sort(np.concatenate(parts)), np.sort(x)):
            np.testing.assert_array_equal(h.counts, whole.counts)
        assert h.count == whole.count and h.limit == whole.limit
    growing = histogram(*np.array_split(x[np.argsort(np.abs(x), kind="stable")], 50))
    np.testing.assert_array_equal(growing.counts, whole.counts)
    assert growing.limit == whole.limit


def test_histogram_keeps_its_size() -> None:
    h = Histogram()
    size = h.nbytes
    for k in range(-30, 30):
        h.add(np.float32(10.0**k) * RNG.normal(size=1000).astype(np.float32))
    assert h.nbytes == size == h.counts.nbytes <= 1 << 16
    assert h.count == h.counts.sum() == 60_000


def test_histogram_counts_what_is_not_finite_apart() -> None:
    h = histogram(np.array([1.0, np.nan, -2.0, np.inf, -np.inf], np.float32))
    assert (h.bad, h.count, h.lo, h.hi, h.counts.sum()) == (3, 2, -2.0, 1.0, 2)
    assert histogram(np.array([np.nan], np.float32)).count == 0


def test_histogram_of_extreme_floats() -> None:
    big, small = float(np.finfo(np.float32).max), 1e-45
    h = histogram(np.array([small, -small, 0, -0.0], np.float32), np.array([big, -big], np.float32))
    assert h.counts.sum() == 6 and h.zeros == 2 and h.hi == big and h.limit > big


@pytest.mark.parametrize("name", DATA)
def test_mse_is_near_the_best_range(name: str) -> None:
    """Against a search over ranges on the data itself."""
    x = DATA[name]
    lo, hi = choose_range(histogram(x), "mse")
    a, b = min(x.min(), 0), max(x.max(), 0)
    best = min(error(x, a * u, b * v) for u in np.linspace(0.2, 1, 33) for v in np.linspace(0.2, 1, 33))
    assert error(x, lo, hi) <= 1.03 * best
    assert a <= lo <= 0 <= hi <= b


def test_mse_clips_a_lone_outlier_only_when_that_pays() -> None:
    crowd = RNG.normal(size=200_000).astype(np.float32)
    with_outlier = np.append(crowd, np.float32(30.0))
    _, hi = choose_range(histogram(with_outlier), "mse")
    assert 15 < hi < 25
    few = np.append(crowd[:100], np.float32(30.0))
    assert choose_range(histogram(few), "mse")[1] == 30.0


@pytest.mark.parametrize("name", DATA)
def test_percentile_leaves_that_share_outside(name: str) -> None:
    x = DATA[name]
    for p in (99.0, 99.9, 100.0):
        lo, hi = choose_range(histogram(x), "percentile", p)
        outside = float(((x < lo) | (x > hi)).mean())
        assert outside <= (100 - p) / 100
        if name in ("normal", "laplace", "heavy"):
            assert outside >= 0.8 * (100 - p) / 100
    assert (lo, hi) == (min(x.min(), 0.0), max(x.max(), 0.0))


def kl_by_loops(magnitude: np.ndarray, k: int, levels: int) -> float:
    """Migacz' divergence, written out."""
    p = [float(v) for v in magnitude[:k]]
    q = list(p)
    p[-1] += float(magnitude[k:].sum())
    groups: dict[int, list[int]] = {}
    for i in range(k):
        groups.setdefault(i * levels // k, []).append(i)
    for members in groups.values():
        used = [i for i in members if q[i] > 0]
        share = sum(q[i] for i in members) / max(len(used), 1)
        for i in used:
            q[i] = share
    sp, sq = sum(p), sum(q)
    return sum(a / sp * np.log((a / sp) / (b / sq if b > 0 else 1e-12)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("name", ["laplace", "heavy", "skewed"])
def test_entropy_is_the_least_divergence(name: str) -> None:
    x = DATA[name]
    h = histogram(x)
    lo, hi = choose_range(h, "entropy")
    half = len(h.counts) // 2
    magnitude = (h.counts[half:] + h.counts[:half][::-1]).astype(float)
    n = int(np.flatnonzero(magnitude)[-1]) + 1
    chosen = min(n, round(max(-lo, hi) / h.limit * half))
    levels = 128
    mine = kl_by_loops(magnitude[:n], chosen, levels)
    others = [kl_by_loops(magnitude[:n], k, levels) for k in np.linspace(levels, n, 40).astype(int)]
    assert mine <= min(others) * 1.05 + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_data(method: str) -> None:
    zeros = histogram(np.zeros(10, np.float32))
    assert choose_range(zeros, method) == (0.0, 0.0)
    assert quant_of_range(0.0, 0.0) == Quant.per_tensor(1.0, 0)
    lo, hi = choose_range(histogram(np.full(10, 3.5, np.float32)), method)
    assert lo == 0.0 and hi == pytest.approx(3.5, rel=0.01)
    lo, hi = choose_range(histogram(np.full(10, -3.5, np.float32)), method)
    assert hi == 0.0 and lo == pytest.approx(-3.5, rel=0.01)


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 6.0), (-3.0, 5.0), (-1e-3, 900.0), (-7.0, 0.0), (-4e-38, 1e-37)])
def test_quant_of_range_spans_it_and_holds_zero(lo: float, hi: float) -> None:
    q = quant_of_range(lo, hi)
    s, z = q.scale[0], q.zero[0]
    if hi - lo < 1e-30:
        assert (s, z) == (1.0, 0)
        return
    assert (-128 - z) * s <= lo + 0.51 * s and (127 - z) * s >= hi - 0.51 * s
    assert quantize.fn(np.zeros(1, np.float32), quant=q)[0] == z
    if lo == 0:
        assert z == -128
    if hi == 0:
        assert z == 127


def test_wrong_method_and_no_data() -> None:
    with pytest.raises(CalibrationError, match="expected one of mse, minmax, percentile, entropy, got 'best'"):
        choose_range(histogram(DATA["normal"]), "best")
    with pytest.raises(CalibrationError, match="never observed"):
        choose_range(Histogram(), "mse")
    with pytest.raises(CalibrationError, match="percentile: expected a number in"):
        choose_range(histogram(DATA["normal"]), "percentile", 30.0)
