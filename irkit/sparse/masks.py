"""Which weights stay: boolean masks, True where a weight is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float32]


def lowest(scores: Scores, sparsity: float) -> Mask:
    """Drops the ``round(sparsity * size)`` lowest scores; of equal ones the first in row-major order go first."""
    flat = scores.ravel()
    keep = np.ones(flat.size, bool)
    keep[np.argsort(flat, kind="stable")[: round(sparsity * flat.size)]] = False
    return keep.reshape(scores.shape)


def lowest_of_all(scores: Sequence[Scores], sparsity: float) -> list[Mask]:
    """Like :func:`lowest`, ranking the scores of all layers together."""
    if not scores:
        return []
    keep = lowest(np.concatenate([s.ravel() for s in scores]), sparsity)
    ends = np.cumsum([s.size for s in scores])
    return [part.reshape(s.shape) for part, s in zip(np.split(keep, ends[:-1]), scores, strict=True)]


def at_least(scores: Scores, threshold: float) -> Mask:
    """Keeps scores that reach ``threshold``."""
    return np.asarray(scores >= threshold)


def n_of_m(scores: Scores, n: int, m: int) -> Mask:
    """Keeps the n highest of each m neighbouring input channels (axis 1), for each output and kernel position."""
    from irkit.sparse.encode import keep_n_of_m  # compiled; reading the passes does not need it

    last = np.moveaxis(scores, 1, -1)
    rows = np.ascontiguousarray(last.reshape(-1, last.shape[-1]), np.float32)
    return np.moveaxis(keep_n_of_m(rows, n, m).astype(bool).reshape(last.shape), -1, 1)
