"""Sparse storage of weight matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irkit.errors import IRError
from irkit.ir.types import Array

CSR_PARTS = ("values", "columns", "rows")  # the arrays of a matrix; an artifact stores each as <name>.<part>


@dataclass(frozen=True, eq=False)
class Csr:
    """Compressed sparse rows of a matrix [O, K]: row i holds entries ``rows[i] : rows[i + 1]``."""

    values: Array  # [nnz], dtype of the matrix
    columns: npt.NDArray[np.int32]  # [nnz], ascending within a row
    rows: npt.NDArray[np.int32]  # [O + 1]
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.values.nbytes + self.columns.nbytes + self.rows.nbytes


def encode_csr(matrix: Array) -> Csr:
    """The non-zeros of ``matrix`` [O, K], float32 or int8. NaN counts as a non-zero, negative zero as a zero.

    IRError for another rank or dtype, and for more non-zeros than an int32 counts.
    """
    from irkit.sparse.encode import count_nonzeros, fill_csr  # compiled; reading the passes does not need it

    if matrix.ndim != 2 or matrix.dtype not in (np.float32, np.int8):
        raise IRError(f"csr: expected a float32 or int8 matrix, got {matrix.dtype}{list(matrix.shape)}")
    if matrix.size >= 2**31:
        raise IRError(f"csr: expected fewer than 2**31 elements, got {matrix.size}")
    w = np.ascontiguousarray(matrix)
    rows = np.zeros(w.shape[0] + 1, np.int32)
    np.cumsum(count_nonzeros(w), out=rows[1:])
    values = np.empty(int(rows[-1]), w.dtype)
    columns = np.empty(int(rows[-1]), np.int32)
    fill_csr(w, rows, values, columns)
    return Csr(values, columns, rows, (w.shape[0], w.shape[1]))


def pack_columns(csr: Csr) -> Array:
    """Columns as an artifact stores them: the zeros since the row's previous non-zero, in the narrowest of uint8 and
    int16 that holds them all; the columns themselves (int32) when neither does.

    Gaps of pruned weights are small (Han et al., 2016, "Deep Compression", section 2): at 90 % zeros one byte holds
    all but one in 10**11.
    """
    before = np.empty_like(csr.columns)
    before[1:] = csr.columns[:-1]
    before[csr.rows[:-1][np.diff(csr.rows) > 0]] = -1  # the first of each row that has any
    gaps = csr.columns - before - 1
    for dtype in (np.uint8, np.int16):
        if not gaps.size or gaps.max() <= np.iinfo(dtype).max:
            return gaps.astype(dtype)
    return csr.columns


def unpack_columns(packed: Array, rows: Array) -> npt.NDArray[np.int32]:
    """The columns that :func:`pack_columns` packed; what is wrong with them :func:`decode_csr` finds."""
    if packed.dtype == np.int32 or packed.ndim != 1 or rows.ndim != 1:
        return packed
    ends = np.cumsum(packed.astype(np.int64) + 1)
    counts = np.diff(rows)
    if (counts < 0).any() or counts.sum() != len(packed):
        return packed.astype(np.int32)
    starts = rows[:-1][counts > 0]
    base = np.where(starts > 0, ends[starts - 1], 0)
    return np.asarray(ends - np.repeat(base, counts[counts > 0]) - 1, np.int32)


def decode_csr(csr: Csr) -> Array:
    """The dense matrix; IRError when rows or columns are not what :func:`encode_csr` makes."""
    o, k = csr.shape
    r = csr.rows
    if any(a.ndim != 1 or a.dtype.kind != "i" for a in (r, csr.columns)) or csr.values.ndim != 1:
        raise IRError("csr: expected one-dimensional arrays, rows and columns of integers")
    if len(r) != o + 1 or r[0] != 0 or (np.diff(r) < 0).any() or r[-1] != len(csr.values):
        raise IRError(f"csr: row starts don't fit {o} rows and {len(csr.values)} values")
    if len(csr.columns) != len(csr.values):
        raise IRError(f"csr: {len(csr.values)} values but {len(csr.columns)} columns")
    if len(csr.columns) and not (csr.columns.min() >= 0 and csr.columns.max() < k):
        raise IRError(f"csr: a column is outside [0, {k})")
    dense = np.zeros((o, k), csr.values.dtype)
    dense[np.repeat(np.arange(o), np.diff(r)), csr.columns] = csr.values
    return dense
