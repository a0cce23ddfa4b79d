#include "base/vec_neon.h"

namespace {
using V = irk::VecNeon;

inline float32x4_t load4(const float* const* rows, int64_t c) { return vld1q_f32(rows[0] + c); }

inline void transpose4(float32x4_t a[4]) {
  const float32x4_t t0 = vzip1q_f32(a[0], a[1]), t1 = vzip2q_f32(a[0], a[1]);
  const float32x4_t t2 = vzip1q_f32(a[2], a[3]), t3 = vzip2q_f32(a[2], a[3]);
  a[0] = vcombine_f32(vget_low_f32(t0), vget_low_f32(t2));
  a[1] = vcombine_f32(vget_high_f32(t0), vget_high_f32(t2));
  a[2] = vcombine_f32(vget_low_f32(t1), vget_low_f32(t3));
  a[3] = vcombine_f32(vget_high_f32(t1), vget_high_f32(t3));
}
}  // namespace
#define IRK_SPMM_QUADS
#include "spmm/generic.h"

extern "C" void irk_spmm_f32_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run(bufs, params, begin, end);
}
