"""CSR encoding: round trips, order of entries, and what decoding refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from irkit.errors import IRError
from irkit.sparse.cost import MIN_ROWS, break_even, sparse_wins
from irkit.sparse.encodings import CSR_PARTS, decode_csr, encode_csr, pack_columns, unpack_columns

MATRICES = hnp.arrays(
    st.sampled_from([np.float32, np.int8]),
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
    elements=st.sampled_from([0, 0, 0, 1, -1, 5]),
)


@settings(max_examples=200, deadline=None)
@given(MATRICES)
def test_round_trip(w: Any) -> None:
    csr = encode_csr(w)
    assert csr.values.dtype == w.dtype
    assert len(csr.values) == np.count_nonzero(w)
    back = decode_csr(csr)
    assert back.dtype == w.dtype
    assert np.array_equal(back, w)


@settings(max_examples=200, deadline=None)
@given(MATRICES, st.integers(1, 400))
def test_packed_columns_round_trip(w: Any, spread: int) -> None:
    wide = np.zeros((w.shape[0], w.shape[1] * spread), w.dtype)
    wide[:, ::spread] = w
    csr = encode_csr(wide)
    packed = pack_columns(csr)
    assert packed.dtype == (np.uint8 if spread * w.shape[1] <= 256 else packed.dtype)
    assert np.array_equal(unpack_columns(packed, csr.rows), csr.columns)


def test_gaps_take_the_narrowest_type() -> None:
    for column, dtype in ((255, np.uint8), (256, np.int16), (32767, np.int16), (32768, np.int32)):
        w = np.zeros((2, 32769), np.float32)
        w[1, column] = 1
        assert pack_columns(encode_csr(w)).dtype == dtype


def test_layout() -> None:
    csr = encode_csr(np.float32([[0, 3, 0, 4], [0, 0, 0, 0], [5, 0, -0.0, np.nan]]))
    assert csr.rows.tolist() == [0, 2, 2, 4]
    assert csr.columns.tolist() == [1, 3, 0, 3]
    assert csr.values[:3].tolist() == [3, 4, 5]
    assert np.isnan(csr.values[3])
    assert csr.nbytes == 4 * 4 + 4 * 4 + 4 * 4


def test_strided_matrix() -> None:
    w = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3]
    assert np.array_equal(decode_csr(encode_csr(w)), w)


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (np.zeros(3, np.float32), r"expected a float32 or int8 matrix, got float32\[3\]"),
        (np.zeros((1, 1, 1), np.int8), r"got int8\[1, 1, 1\]"),
        (np.zeros((2, 2)), r"got float64\[2, 2\]"),
    ],
)
def test_encoding_refuses(w: Any, message: str) -> None:
    with pytest.raises(IRError, match=message):
        encode_csr(w)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": np.int32([0, 2])}, "row starts don't fit 3 rows"),
        ({"rows": np.int32([0, 2, 1, 3])}, "row starts don't fit"),
        ({"rows": np.int32([1, 2, 2, 3])}, "row starts don't fit"),
        ({"rows": np.int32([0, 2, 2, 4])}, "row starts don't fit 3 rows and 3 values"),
        ({"columns": np.int32([1, 3, 4])}, r"a column is outside \[0, 4\)"),
        ({"columns": np.int32([-1, 3, 0])}, r"a column is outside \[0, 4\)"),
        ({"columns": np.int32([1, 3])}, "3 values but 2 columns"),
        ({"columns": np.float32([1, 3, 0])}, "rows and columns of integers"),
        ({"rows": np.int32([[0, 2, 2, 3]])}, "one-dimensional"),
    ],
)
def test_decoding_refuses(changes: dict[str, Any], message: str) -> None:
    csr = encode_csr(np.float32([[0, 3, 0, 4], [0, 0, 0, 0], [5, 0, 0, 0]]))
    with pytest.raises(IRError, match=message):
        decode_csr(replace(csr, **changes))


def test_parts_are_the_fields() -> None:
    csr = encode_csr(np.eye(3, dtype=np.float32))
    assert sum(getattr(csr, p).nbytes for p in CSR_PARTS) == csr.nbytes


def test_prediction() -> None:
    assert sparse_wins(196, 10000, 3500)
    assert not sparse_wins(196, 10000, 4500)
    assert sparse_wins(196, 10000, 4500, density=0.5)
    assert not sparse_wins(16, 10000, 3500)
    assert not sparse_wins(MIN_ROWS - 1, 10000, 10)
    assert not sparse_wins(196, 100, 10)
    assert not sparse_wins(196, 10000, 0)


def test_more_rows_favour_sparse_weights() -> None:
    limits = [break_even(16 * n) for n in range(1, 50)]
    assert limits == sorted(limits)
    assert 0.2 < limits[0] < limits[-1] < 0.42
