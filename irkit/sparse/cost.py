"""When sparse weights are faster than dense ones: the rule that ``sparsify`` asks and the sparse lowering relies on."""

from __future__ import annotations

MIN_ROWS = 8  # with fewer rows (pixels) the kernel's vectors over rows are mostly empty and dense weights win
MIN_WEIGHTS = 256  # below, neither form takes time worth choosing
MAX_DENSITY = 0.25  # fraction of non-zeros up to which the sparse kernel wins


def sparse_wins(rows: int, weights: int, nonzeros: int, density: float = MAX_DENSITY) -> bool:
    """True when CSR weights, ``nonzeros`` of ``weights`` entries, are predicted faster on ``rows`` rows of input."""
    return rows >= MIN_ROWS and weights >= MIN_WEIGHTS and 0 < nonzeros <= density * weights
