// The tile of ISAs that multiply a vector of weights by one input, broadcast.
#pragma once
#include "conv/tile.h"

namespace {

template <int MR, int NV>
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
    IRK_UNROLL for (int i = 0; i < MR; i++) a[i] = rows[i];
    for (int64_t left = t.run; left > 0;) {
      const int64_t n = left < t.chunk ? left : t.chunk;
      left -= n;
      IRK_UNROLL for (int i = 0; i < MR; i++) a[i] += n;
      for (int64_t k = -n; k != 0; k++, w += NV * V::N) {  // up to 0: the end needs no register
        V::F b[NV];
        IRK_UNROLL for (int j = 0; j < NV; j++) b[j] = V::load(w + j * V::N);
        IRK_UNROLL for (int i = 0; i < MR; i++) {
          const V::F x = V::set(a[i][k]);
          IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = V::fma(x, b[j], acc[i][j]);
        }
      }
      for (int64_t l = 0; l < t.lines; l++, ahead += 64) __builtin_prefetch(ahead, 0, 2);
    }
  }
  finish<MR, NV>(t, acc);
}

}  // namespace
