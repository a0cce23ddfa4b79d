"""Pruning masks and criteria."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from irkit.sparse.criteria import CRITERIA, lamp, magnitude
from irkit.sparse.masks import Scores, at_least, lowest, lowest_of_all, n_of_m

SCORES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.integers(0, 5))


@given(SCORES, st.floats(0, 1))
def test_lowest_drops_as_many_as_asked_and_none_above_a_kept_one(scores: Scores, sparsity: float) -> None:
    keep = lowest(scores, sparsity)
    assert (~keep).sum() == round(sparsity * scores.size)
    if keep.any() and not keep.all():
        assert scores[~keep].max() <= scores[keep].min()


@given(st.lists(SCORES, max_size=4), st.floats(0, 1))
def test_ranking_all_layers_together(layers: list[Scores], sparsity: float) -> None:
    keep = lowest_of_all(layers, sparsity)
    assert [k.shape for k in keep] == [s.shape for s in layers]
    dropped = sum(int((~k).sum()) for k in keep)
    assert dropped == round(sparsity * sum(s.size for s in layers))
    kept = [s[k] for s, k in zip(layers, keep, strict=True) if k.any()]
    gone = [s[~k] for s, k in zip(layers, keep, strict=True) if not k.all()]
    if kept and gone:
        assert max(g.max() for g in gone) <= min(k.min() for k in kept)


@given(SCORES, st.sampled_from([(2, 4), (1, 2), (1, 4), (3, 5)]))
def test_n_of_m_keeps_the_highest_of_each_group(scores: Scores, nm: tuple[int, int]) -> None:
    n, m = nm
    keep = n_of_m(scores, n, m)
    channels = scores.shape[1]
    for start in range(0, channels, m):
        group = slice(start, min(start + m, channels))
        size = group.stop - start
        k, s = np.moveaxis(keep[:, group], 1, -1), np.moveaxis(scores[:, group], 1, -1)
        assert (k.sum(-1) == min(n, size)).all()
        worst_kept = np.where(k, s, np.inf).min(-1)
        best_dropped = np.where(k, -np.inf, s).max(-1)
        assert (best_dropped <= worst_kept).all()


def test_ties_are_broken_by_position() -> None:
    ones = np.ones((1, 4), np.float32)
    assert n_of_m(ones, 2, 4).tolist() == [[True, True, False, False]]
    assert lowest(ones, 0.5).tolist() == [[False, False, True, True]]


def test_at_least() -> None:
    assert at_least(np.float32([0.1, 0.5, 0.9]), 0.5).tolist() == [False, True, True]


def test_lamp_gives_the_largest_weight_of_a_layer_score_one() -> None:
    w = np.float32([[1, -2], [3, 0]])
    scores = lamp(w)
    assert scores[1, 0] == 1
    assert scores[0, 1] == pytest.approx(4 / 13)
    assert scores[0, 0] == pytest.approx(1 / 14)
    assert scores[1, 1] == 0
    assert lamp(np.zeros((2, 2), np.float32)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_rank_by_magnitude_within_a_layer(name: str) -> None:
    w = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    assert np.array_equal(np.argsort(CRITERIA[name](w).ravel()), np.argsort(magnitude(w).ravel()))
