# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Streaming statistics of a tensor: a histogram of fixed size whose range grows by powers of two."""

import numpy as np

from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t

cdef int HALF = 4096  # bins on either side of zero


cdef class Histogram:
    """Counts of everything seen so far over (-limit, limit), in 2 * 4096 bins of equal width: about 64 KiB, however
    much data comes.

    ``limit`` is a power of two. When a larger value comes it doubles until the value fits, merging neighbouring bins,
    so counts stay exact at the current width and do not depend on the order of the data or its split into batches.
    Zeros are counted apart (``zeros``, also part of the bin right of zero): they quantize without error.
    """

    cdef int64_t[::1] bins
    cdef readonly double limit
    cdef readonly double lo
    cdef readonly double hi
    cdef readonly int64_t count
    cdef readonly int64_t zeros
    cdef readonly int64_t bad

    def __init__(self):
        self.bins = np.zeros(2 * HALF, np.int64)
        self.limit = 0.0
        self.lo = INFINITY
        self.hi = -INFINITY
        self.count = 0
        self.zeros = 0
        self.bad = 0

    def add(self, array):
        """Count a float array; NaN and infinities only raise ``bad``."""
        cdef const float[::1] x = np.ascontiguousarray(array, np.float32).reshape(-1)
        cdef Py_ssize_t n = x.shape[0], i
        cdef float lo = INFINITY, hi = -INFINITY, v
        cdef int64_t zeros = 0, bad = 0
        cdef double inverse
        cdef Py_ssize_t at
        cdef int64_t[::1] bins
        with nogil:
            for i in range(n):
                v = x[i]
                if isfinite(v):
                    lo = min(lo, v)
                    hi = max(hi, v)
                else:
                    bad += 1
        self.bad += bad
        if n == bad:
            return
        self.lo = min(self.lo, <double>lo)
        self.hi = max(self.hi, <double>hi)
        self._grow(max(-<double>lo, <double>hi))
        if self.limit == 0.0:  # nothing but zeros yet
            self.bins[HALF] += n - bad
            self.zeros += n - bad
            self.count += n - bad
            return
        bins = self.bins  # after growing, which replaces them
        inverse = HALF / self.limit
        with nogil:
            for i in range(n):
                v = x[i]
                if not isfinite(v):
                    continue
                if v == 0:
                    zeros += 1
                # v * inverse is exact (a power of two); the two sides mirror each other
                at = HALF + <Py_ssize_t>(v * inverse) if v >= 0 else HALF - 1 - <Py_ssize_t>(-v * inverse)
                bins[at] += 1
        self.zeros += zeros
        self.count += n - bad

    cdef void _grow(self, double largest):
        """Make the range hold ``largest``."""
        cdef double limit
        if largest == 0.0:
            return
        if self.limit == 0.0:
            limit = 2.0 ** -140  # below the smallest float32 there is room for its bins
            while limit <= largest:
                limit *= 2.0
            self.limit = limit
            return
        while self.limit <= largest:
            self._double()

    cdef void _double(self):
        """Twice the range, bins of twice the width."""
        cdef int64_t[::1] b = self.bins
        cdef int64_t[::1] merged = np.zeros(2 * HALF, np.int64)
        cdef Py_ssize_t i
        for i in range(HALF):
            merged[HALF // 2 + i] = b[2 * i] + b[2 * i + 1]
        self.bins = merged
        self.limit *= 2.0

    @property
    def counts(self):
        """A copy of the counts, int64 [8192]."""
        return np.array(self.bins)

    @property
    def edges(self):
        """Edges of the bins, float64 [8193]."""
        return np.arange(-HALF, HALF + 1) * (self.limit / HALF)

    @property
    def nbytes(self):
        """Bytes that the counts take; constant."""
        return self.bins.shape[0] * 8
