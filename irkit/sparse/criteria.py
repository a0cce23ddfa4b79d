"""How much a weight matters: scores by which pruning chooses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from irkit.ir.types import Array

Scores = npt.NDArray[np.float32]


def magnitude(w: Array) -> Scores:
    """|w|."""
    return np.abs(w).astype(np.float32)


def lamp(w: Array) -> Scores:
    """Layer-adaptive magnitude (Lee et al., 2021): w**2 over the sum of all squares of the layer not smaller than it.

    Comparable between layers: the largest weight of each has score 1, so that no layer is emptied.
    """
    squares = np.square(w.astype(np.float64)).ravel()
    order = np.argsort(squares, kind="stable")
    ascending = squares[order]
    left = np.cumsum(ascending[::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = np.divide(ascending, left, out=np.zeros_like(left), where=left > 0)
    return scores.reshape(w.shape).astype(np.float32)


CRITERIA: dict[str, Callable[[Array], Scores]] = {"magnitude": magnitude, "lamp": lamp}
