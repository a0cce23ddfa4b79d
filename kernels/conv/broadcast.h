// The tile of ISAs that multiply a vector of weights by one input, broadcast.
#pragma once
#include "conv/tile.h"

namespace {

constexpr bool kFetches = true;  // outputs, if a tile asks for it
constexpr int kNear = 16;        // steps between the prefetch of weights to the first-level cache and their use
constexpr int64_t kApart = 4;    // steps between the prefetches of one row of output and the next

// Residual, clip and store of a finished tile.
template <int MR, int NV>
IRK_INLINE void finish(const Tile& t, V::F (&acc)[MR][NV]) {
  const V::F lo = V::set(t.lo), hi = V::set(t.hi);
  if (t.n == NV * V::N) {
    if (t.has_res) {
      IRK_UNROLL for (int i = 0; i < MR; i++) {
        const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(t.out[i] + t.col) + t.res);
        IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = V::add(acc[i][j], V::load(r + j * V::N));
      }
    }
    IRK_UNROLL for (int i = 0; i < MR; i++) {
      float* y = t.out[i] + t.col;
      IRK_UNROLL for (int j = 0; j < NV; j++) V::store(y + j * V::N, vmath::clip<V>(acc[i][j], lo, hi));
    }
    return;
  }
  const int64_t last = t.n - (NV - 1) * V::N;  // only the last vector is partly used
  if (t.has_res) {  // all before the first store: where a masked one has spared what is loaded, the load waits for it
    IRK_UNROLL for (int i = 0; i < MR; i++) {
      const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(t.out[i] + t.col) + t.res);
      IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] =
          V::add(acc[i][j], j + 1 < NV ? V::load(r + j * V::N) : V::load_n(r + j * V::N, last));
    }
  }
  IRK_UNROLL for (int i = 0; i < MR; i++) {
    float* y = t.out[i] + t.col;
    IRK_UNROLL for (int j = 0; j < NV; j++) {
      const V::F v = vmath::clip<V>(acc[i][j], lo, hi);
      if (j + 1 < NV) {
        V::store(y + j * V::N, v);
      } else {
        V::store_n(y + j * V::N, v, last);
      }
    }
  }
}

// One step: a row of weights times one input of each row.
template <int MR, int NV, bool Far>
IRK_INLINE void multiply(V::F (&acc)[MR][NV], const float* const (&a)[MR], int64_t k, const float* w) {
  V::F b[NV];
  IRK_UNROLL for (int j = 0; j < NV; j++) {
    b[j] = V::load(w + j * V::N);
    if (Far && NV > 1) __builtin_prefetch(w + (kNear * NV + j) * V::N, 0, 3);
  }
  IRK_UNROLL for (int i = 0; i < MR; i++) {
    const V::F x = V::set(a[i][k]);
    IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = V::fma(x, b[j], acc[i][j]);
  }
}

// What finish() will read and write of row i comes to the first-level cache.
template <int NV>
IRK_INLINE void approach(const Tile& t, int i) {
  const char* y = reinterpret_cast<const char*>(t.out[i] + t.col);
  IRK_UNROLL for (int j = 0; j < NV * V::N * 4; j += 64) {
    __builtin_prefetch(y + j, 1, 3);
    if (t.has_res) __builtin_prefetch(y + t.res + j, 0, 3);
  }
}

// Far: weights are not in the first-level cache, and those to come not even in the second-level one.
// Outputs are fetched row by row between steps of the product: all at once, they would hold up its own operands.
template <int MR, int NV, bool Far>
void tile(const Tile& t) {
  V::F acc[MR][NV];
  IRK_UNROLL for (int j = 0; j < NV; j++) {
    const V::F b = V::load(t.bias + j * V::N);
    IRK_UNROLL for (int i = 0; i < MR; i++) acc[i][j] = b;
  }
  const float* w = t.w;
  const float* const* rows = t.rows;
  const char* ahead = t.ahead;
  for (int64_t tap = 0; tap < t.taps; tap++, rows += MR) {
    const float* a[MR];
    IRK_UNROLL for (int i = 0; i < MR; i++) a[i] = rows[i] + t.run;
    int64_t k = -t.run;  // up to 0: the end needs no register
    const auto steps = [&](int64_t stop) __attribute__((always_inline)) {
      _Pragma("GCC unroll 2") for (; k != stop; k++, w += NV * V::N, ahead += t.ahead_step) {
        if (Far) __builtin_prefetch(ahead, 0, 2);
        multiply<MR, NV, Far>(acc, a, k, w);
      }
    };
    if (t.fetch) {
      for (int i = 0; i < MR; i++) {
        approach<NV>(t, i);
        if (k <= -kApart) steps(k + kApart);
      }
    }
    steps(0);
  }
  finish<MR, NV>(t, acc);
}

}  // namespace
