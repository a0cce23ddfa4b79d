"""When sparse weights are faster than dense ones: the rule that ``sparsify`` asks and the sparse lowering relies on.

The sparse kernel spends one multiply-add of a vector of rows (pixels) on each non-zero, and about as much again to
fetch the weight once per block of rows; the dense kernel spends a fraction of a vector's work on each weight. Measured
break-even densities on an AVX-512 machine, where dense kernels are furthest ahead (K = O = 512; 1x1 convolutions of
256 to 1024 channels agree), and on AVX2:

    rows              8     12     16     24     32     49     64    196    784
    avx512          .12    .16    .21    .26    .33    .30    .38    .38    .40
    avx2            .21    .26    .34    .43    .53    .48    .50    .47    .50
    break_even      .10    .16    .21    .21    .28    .26    .34    .37    .41
"""

from __future__ import annotations

MIN_ROWS = 8  # with fewer rows the vectors over rows are mostly empty and dense weights always win
MIN_WEIGHTS = 256  # below, neither form takes time worth choosing
LANES = 16  # rows that one vector holds, on the widest machine


def break_even(rows: int) -> float:
    """Fraction of non-zeros below which sparse weights are predicted faster, for ``rows`` rows of input."""
    vectors = -(-rows // LANES)
    return 0.42 * rows / LANES / (vectors + 1)


def sparse_wins(rows: int, weights: int, nonzeros: int, density: float | None = None) -> bool:
    """True when CSR weights, ``nonzeros`` of ``weights`` entries, are predicted faster on ``rows`` rows of input.

    ``density`` replaces the predicted break-even.
    """
    limit = break_even(rows) if density is None else density
    return rows >= MIN_ROWS and weights >= MIN_WEIGHTS and 0 < nonzeros <= limit * weights
