// The int8 epilogue on NEON: exact sums of up to 16 channels of one pixel -> int8 or float32.
#pragma once
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "base/unroll.h"

namespace irk {
namespace {

struct RequantNeon {
  int16x8_t zy;
  int8x16_t lo, hi;
  int32_t zr;
  float mr;

  RequantNeon(int32_t zero, int32_t low, int32_t high, int32_t res_zero, float res_mult)
      : zy(vdupq_n_s16(static_cast<int16_t>(zero))),
        lo(vdupq_n_s8(static_cast<int8_t>(low))),
        hi(vdupq_n_s8(static_cast<int8_t>(high))),
        zr(res_zero),
        mr(res_mult) {}

  // Sixteen sums and multipliers are readable; n of them count. The conversion saturates, so no clamp comes before it.
  IRK_INLINE void bytes(const int32_t* sums, const float* m, int64_t n, const int8_t* res, int8_t* out) const {
    float32x4_t y[4];
    unroll<4>([&](auto q)
                  IRK_LAMBDA { y[q] = vmulq_f32(vcvtq_f32_s32(vld1q_s32(sums + 4 * q)), vld1q_f32(m + 4 * q)); });
    if (res) {
      int8_t part[16] = {0};
      if (n < 16) {
        memcpy(part, res, static_cast<size_t>(n));
        res = part;
      }
      const int8x16_t r = vld1q_s8(res);
      const int16x8_t half[2] = {vmovl_s8(vget_low_s8(r)), vmovl_high_s8(r)};
      unroll<4>([&](auto q) IRK_LAMBDA {
        const int16x4_t four = q % 2 == 0 ? vget_low_s16(half[q / 2]) : vget_high_s16(half[q / 2]);
        const float32x4_t f = vcvtq_f32_s32(vsubq_s32(vmovl_s16(four), vdupq_n_s32(zr)));
        y[q] = vaddq_f32(y[q], vmulq_n_f32(f, mr));
      });
    }
    const int16x8_t h0 = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(y[0])), vcvtnq_s32_f32(y[1]));
    const int16x8_t h1 = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(y[2])), vcvtnq_s32_f32(y[3]));
    const int8x16_t b = vqmovn_high_s16(vqmovn_s16(vqaddq_s16(h0, zy)), vqaddq_s16(h1, zy));
    const int8x16_t v = vminq_s8(vmaxq_s8(b, lo), hi);
    if (n == 16) {
      vst1q_s8(out, v);
    } else {
      int8_t part[16];
      vst1q_s8(part, v);
      memcpy(out, part, static_cast<size_t>(n));
    }
  }
};

inline void requant_f32_neon(const int32_t* sums, const float* m, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i++) out[i] = static_cast<float>(sums[i]) * m[i];
}

}  // namespace
}  // namespace irk
