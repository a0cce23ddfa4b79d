// The NEON tile: inputs come four steps at a time, one load a row, and are multiplied lane by lane.
//
// Instructions of four steps of the widest tiles (GCC 12.2), all but the multiply-adds being loads and 2 for the loop:
//   rows x columns   multiply-adds   all   all / multiply-adds
//        5 x 16            80         91         1.14
//        6 x 12            72         84         1.17
//        8 x  8            64         76         1.19
//        8 x  4            32         43         1.34
// Bound by multiply-adds: llvm-mca 14 gives 80.1, 72.1, 64.1 and 32.1 cycles on neoverse-n1, one for each of them.
#pragma once
#include "base/fma_neon.h"
#include "conv/tile.h"

namespace {

using irk::fma_lane;
using irk::Weights;

constexpr bool kFetches = false;

// The end of a tile whose last vector is partly used: `acc` holds it row by row.
IRK_NOINLINE void finish_part(const Tile& t, const float* acc, int rows, int vectors) {
  const float32x4_t lo = vdupq_n_f32(t.lo), hi = vdupq_n_f32(t.hi);
  float* const* out = t.out;
  for (int i = 0; i < rows; i++) {
    float* y = out[i] + t.col;
    const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(y) + t.res);
    for (int j = 0; j < vectors; j++, y += 4, r += 4, acc += 4) {
      const int64_t n = t.n - 4 * j;
      float32x4_t v = vld1q_f32(acc);
      if (t.has_res) v = vaddq_f32(v, n < 4 ? V::load_n(r, n) : vld1q_f32(r));
      v = vmath::clip<V>(v, lo, hi);
      if (n < 4) {
        V::store_n(y, v, n);
      } else {
        vst1q_f32(y, v);
      }
    }
  }
}

template <int MR, int NV>
IRK_INLINE void finish(const Tile& t, float32x4_t (&acc)[MR][NV]) {
  if (t.n < 4 * NV) {
    float all[MR * NV * 4];
    IRK_UNROLL for (int i = 0; i < MR; i++) {
      IRK_UNROLL for (int j = 0; j < NV; j++) vst1q_f32(all + (i * NV + j) * 4, acc[i][j]);
    }
    return finish_part(t, all, MR, NV);
  }
  float* const* out = t.out;
  if (t.has_res) {
    IRK_UNROLL for (int i = 0; i < MR; i++) {
      const float* r = reinterpret_cast<const float*>(reinterpret_cast<const char*>(out[i] + t.col) + t.res);
      IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = vaddq_f32(acc[i][j], vld1q_f32(r + 4 * j));
    }
  }
  if (t.clips) {
    const float32x4_t lo = vdupq_n_f32(t.lo), hi = vdupq_n_f32(t.hi);
    IRK_UNROLL for (int i = 0; i < MR; i++) {
      IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = V::clip(acc[i][j], lo, hi);
    }
  }
  IRK_UNROLL for (int i = 0; i < MR; i++) {
    float* y = out[i] + t.col;
    IRK_UNROLL for (int j = 0; j < NV; j++) vst1q_f32(y + 4 * j, acc[i][j]);
  }
}

template <int MR, int NV, bool Far>
void tile(const Tile& t) {
  float32x4_t acc[MR][NV];
  IRK_UNROLL for (int j = 0; j < NV; j++) {
    const float32x4_t b = vld1q_f32(t.bias + 4 * j);
    IRK_UNROLL for (int i = 0; i < MR; i++) acc[i][j] = b;
  }
  const float* w = t.w;
  const float* const* rows = t.rows;
  for (int64_t tap = 0; tap < t.taps; tap++, rows += MR) {
    const float* a[MR];
    IRK_UNROLL for (int i = 0; i < MR; i++) a[i] = rows[i];
    float32x4_t x[MR];
    for (int64_t left = t.run >> 2; left > 0; left--) {
      IRK_UNROLL for (int i = 0; i < MR; i++) {
        x[i] = vld1q_f32(a[i]);
        a[i] += 4;
        asm("" : "+r"(a[i]));
      }
      if constexpr (NV == 1) {
        Weights<4> b;
        b.next(w);
        fma_lane<0, 0>(acc, x, b);
        fma_lane<1, 1>(acc, x, b);
        fma_lane<2, 2>(acc, x, b);
        fma_lane<3, 3>(acc, x, b);
      } else if constexpr (NV == 2) {
        Weights<4> b;
        b.next(w);
        fma_lane<0, 0>(acc, x, b);
        fma_lane<1, 2>(acc, x, b);
        b.next(w);
        fma_lane<2, 0>(acc, x, b);
        fma_lane<3, 2>(acc, x, b);
      } else {
        Weights<NV> b;
        b.next(w);
        fma_lane<0, 0>(acc, x, b);
        b.next(w);
        fma_lane<1, 0>(acc, x, b);
        b.next(w);
        fma_lane<2, 0>(acc, x, b);
        b.next(w);
        fma_lane<3, 0>(acc, x, b);
      }
    }
    _Pragma("GCC unroll 1") for (int64_t left = t.run & 3; left > 0; left--) {
      IRK_UNROLL for (int i = 0; i < MR; i++) {
        x[i] = vld1q_dup_f32(a[i]++);
        asm("" : "+r"(a[i]));
      }
      float32x4_t b[NV];
      IRK_UNROLL for (int j = 0; j < NV; j++) b[j] = vld1q_f32(w + 4 * j);
      w += 4 * NV;
      asm("" : "+r"(w));
      IRK_UNROLL for (int i = 0; i < MR; i++) {
        IRK_UNROLL for (int j = 0; j < NV; j++) acc[i][j] = vfmaq_f32(acc[i][j], b[j], x[i]);
      }
    }
  }
  finish<MR, NV>(t, acc);
}

}  // namespace
