# cython: boundscheck=False, wraparound=False
"""Compressed sparse rows of weight matrices, and n:m selection, as tight loops over contiguous data."""

import numpy as np

ctypedef fused number:
    float
    signed char


def count_nonzeros(const number[:, ::1] w):
    """Non-zeros of each row: int32 [O]."""
    cdef Py_ssize_t i, j
    out = np.zeros(w.shape[0], np.int32)
    cdef int[::1] n = out
    with nogil:
        for i in range(w.shape[0]):
            for j in range(w.shape[1]):
                if w[i, j] != 0:
                    n[i] += 1
    return out


def fill_csr(const number[:, ::1] w, const int[::1] starts, number[::1] values, int[::1] columns):
    """Write the non-zeros of each row, in column order, from ``starts`` on."""
    cdef Py_ssize_t i, j, at
    with nogil:
        for i in range(w.shape[0]):
            at = starts[i]
            for j in range(w.shape[1]):
                if w[i, j] != 0:
                    values[at] = w[i, j]
                    columns[at] = <int>j
                    at += 1


def keep_n_of_m(const float[:, ::1] scores, Py_ssize_t n, Py_ssize_t m):
    """Mask uint8 like ``scores`` that keeps the n highest of each m neighbours in a row, the first of equal ones.

    A last group of fewer than m keeps n too.
    """
    cdef Py_ssize_t i, start, end, a, b, higher
    out = np.zeros((scores.shape[0], scores.shape[1]), np.uint8)
    cdef unsigned char[:, ::1] keep = out
    with nogil:
        for i in range(scores.shape[0]):
            start = 0
            while start < scores.shape[1]:
                end = min(start + m, scores.shape[1])
                for a in range(start, end):
                    higher = 0
                    for b in range(start, end):
                        if scores[i, b] > scores[i, a] or (scores[i, b] == scores[i, a] and b < a):
                            higher += 1
                    keep[i, a] = higher < n
                start = end
    return out
