// A register tile of the convolution: what the driver (generic.h) asks of it, and its end.
#pragma once
#include "base/vmath.h"
#include "conv/conv.h"

namespace {

using irk::Act;
namespace vmath = irk::vmath;

#define IRK_UNROLL _Pragma("GCC unroll 16")

// One register tile: rows[t * MR + i] points to the run of inputs of row i at tap t.
struct Tile {
  const float* const* rows;
  int64_t taps, run;
  const float* w;
  const float* bias;
  float* const* out;  // one pointer a row, at the tile's first column
  int64_t res;        // residual - output in bytes, used if has_res
  int64_t n;          // valid columns
  bool has_res;
  float lo, hi;
  const char* ahead;  // weights of the next panel to prefetch: `lines` cache lines for every `chunk` steps of a run
  int64_t chunk, lines;
};

// Residual, clip and store of a finished tile.
template <int MR, int NV>
IRK_INLINE void finish(const Tile& t, V::F (&acc)[MR][NV]) {
  const V::F lo = V::set(t.lo), hi = V::set(t.hi);
  if (t.n == NV * V::N) {
    if (t.has_res) {
      IRK_UNROLL for (int i = 0; i < MR; i++) {
        const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(t.out[i]) + t.res);
        IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = V::add(acc[i][j], V::load(r + j * V::N));
      }
    }
    IRK_UNROLL for (int i = 0; i < MR; i++) {
      float* y = t.out[i];
      IRK_UNROLL for (int j = 0; j < NV; j++) V::store(y + j * V::N, vmath::clip<V>(acc[i][j], lo, hi));
    }
    return;
  }
  const int64_t last = t.n - (NV - 1) * V::N;  // only the last vector is partly used
  IRK_UNROLL for (int i = 0; i < MR; i++) {
    float* y = t.out[i];
    const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(y) + t.res);
    IRK_UNROLL for (int j = 0; j < NV; j++) {
      V::F v = acc[i][j];
      if (j + 1 < NV) {
        if (t.has_res) v = V::add(v, V::load(r + j * V::N));
        V::store(y + j * V::N, vmath::clip<V>(v, lo, hi));
      } else {
        if (t.has_res) v = V::add(v, V::load_n(r + j * V::N, last));
        V::store_n(y + j * V::N, vmath::clip<V>(v, lo, hi), last);
      }
    }
  }
}

}  // namespace
