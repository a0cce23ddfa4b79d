// What the register tiles of NEON matrix products are made of: inputs by lane, weights by several vectors at a time.
#pragma once
#include <arm_neon.h>

#include "base/unroll.h"

namespace irk {
namespace {

// N vectors of weights, one after the other in memory. next() loads and moves on by `step` floats; the compiler is kept
// from turning the moving pointer into one with many offsets, so that the load also adds where `step` is a constant.
template <int N>
struct Weights;
#define IRK_WEIGHTS(n, type, load)                                \
  template <>                                                     \
  struct Weights<n> {                                             \
    type v;                                                       \
    IRK_INLINE void next(const float*& w, int64_t step = 4 * n) { \
      v = load(w);                                                \
      w += step;                                                  \
      asm("" : "+r"(w));                                          \
    }                                                             \
  }
IRK_WEIGHTS(4, float32x4x4_t, vld1q_f32_x4);
IRK_WEIGHTS(3, float32x4x3_t, vld1q_f32_x3);
IRK_WEIGHTS(2, float32x4x2_t, vld1q_f32_x2);
#undef IRK_WEIGHTS
template <>
struct Weights<1> {
  struct {
    float32x4_t val[1];
  } v;
  IRK_INLINE void next(const float*& w, int64_t step = 4) {
    v.val[0] = vld1q_f32(w);
    w += step;
    asm("" : "+r"(w));
  }
};

// One step: lane L of each row's inputs times weights [First, First + NV).
template <int L, int First, int MR, int NV, class W>
IRK_INLINE void fma_lane(float32x4_t (&acc)[MR][NV], const float32x4_t* x, const W& w) {
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) acc[i][j] = vfmaq_laneq_f32(acc[i][j], w.v.val[First + j], x[i], L);
  }
}

}  // namespace
}  // namespace irk
