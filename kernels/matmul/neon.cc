#include "base/fma_neon.h"
#include "base/vec_neon.h"
#include "matmul/generic.h"

namespace irk {
namespace {

// Rows of a that are contiguous come four steps at a time, one load each, and are multiplied lane by lane: a step
// of 5 rows x 16 columns is 80 multiply-adds in 95 instructions; others are broadcast element by element.
struct ByLane {
  template <class V, int R, int NV>
  static IRK_INLINE void multiply(const matmul::Params& p, const float* const* a, const float* b, int64_t step,
                                  float32x4_t (&acc)[R][NV]) {
    const float* row[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) row[r] = a[r];
    float32x4_t x[R];
    int64_t k = p.k;
    for (; k >= 4 && p.a_col == 1; k -= 4) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        x[r] = vld1q_f32(row[r]);
        row[r] += 4;
        asm("" : "+r"(row[r]));
      }
      Weights<NV> w;
      w.next(b, step);
      fma_lane<0, 0>(acc, x, w);
      w.next(b, step);
      fma_lane<1, 0>(acc, x, w);
      w.next(b, step);
      fma_lane<2, 0>(acc, x, w);
      w.next(b, step);
      fma_lane<3, 0>(acc, x, w);
    }
    for (; k > 0; --k) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        x[r] = vld1q_dup_f32(row[r]);
        row[r] += p.a_col;
      }
      Weights<NV> w;
      w.next(b, step);
      fma_lane<0, 0>(acc, x, w);
    }
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_matmul_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::matmul_impl::run<irk::VecNeon, 5, 4, irk::ByLane>(bufs, params, begin, end);
}
