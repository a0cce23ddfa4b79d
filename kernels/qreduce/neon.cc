// NEON: up to 255 bytes are summed in int16, these sums in int32.
#include <arm_neon.h>

#include "base/unroll.h"
#include "qreduce/generic.h"

namespace {

// 32 neighbouring outputs.
template <>
void mean_lanes<Lanes, 4>(const QreduceParams& p, const int8_t* x, int8_t* y) {
  int32x4_t sum[8];
  irk::unroll<8>([&](auto q) IRK_LAMBDA { sum[q] = vdupq_n_s32(0); });
  each_sum_row(p, [&](int64_t at) {
    const int8_t* row = x + at;
    for (int64_t left = p.sum_n; left > 0; left -= 255) {
      int16x8_t h[4];
      irk::unroll<4>([&](auto q) IRK_LAMBDA { h[q] = vdupq_n_s16(0); });
      for (int64_t j = left < 255 ? left : 255; j > 0; j--, row += p.sum_step) {
        const int8x16_t a = vld1q_s8(row), b = vld1q_s8(row + 16);
        h[0] = vaddw_s8(h[0], vget_low_s8(a));
        h[1] = vaddw_high_s8(h[1], a);
        h[2] = vaddw_s8(h[2], vget_low_s8(b));
        h[3] = vaddw_high_s8(h[3], b);
      }
      irk::unroll<4>([&](auto q) IRK_LAMBDA {
        sum[2 * q] = vaddw_s16(sum[2 * q], vget_low_s16(h[q]));
        sum[2 * q + 1] = vaddw_high_s16(sum[2 * q + 1], h[q]);
      });
    }
  });
  irk::unroll<4>([&](auto v) IRK_LAMBDA { finish<Lanes>(p, {sum[2 * v], sum[2 * v + 1]}, y + 8 * v); });
}

}  // namespace

IRK_QREDUCE(neon, Lanes)
