// The int8 epilogue on NEON: exact sums of up to 16 channels of one pixel -> int8 or float32.
#pragma once
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "base/small_sum.h"
#include "base/unroll.h"

namespace irk {
namespace {

struct RequantNeon {
  int16x8_t zy;
  int8x16_t lo, hi;
  int32_t zr;
  float mr;

  RequantNeon(int32_t zero, int32_t low, int32_t high, int32_t res_zero = 0, float res_mult = 0)
      : zy(vdupq_n_s16(static_cast<int16_t>(zero))),
        lo(vdupq_n_s8(static_cast<int8_t>(low))),
        hi(vdupq_n_s8(static_cast<int8_t>(high))),
        zr(res_zero),
        mr(res_mult) {}

  // Adds the residual of the first 4 * NV channels to scaled sums.
  template <int NV>
  IRK_INLINE void add_residual(int8x16_t r, float32x4_t* y) const {
    const int8x16_t z = vdupq_n_s8(static_cast<int8_t>(zr));
    const int16x8_t half[2] = {vsubl_s8(vget_low_s8(r), vget_low_s8(z)), vsubl_high_s8(r, z)};
    unroll<NV>([&](auto q) IRK_LAMBDA {
      const int32x4_t four = q % 2 == 0 ? vmovl_s16(vget_low_s16(half[q / 2])) : vmovl_high_s16(half[q / 2]);
      y[q] = vaddq_f32(y[q], vmulq_n_f32(vcvtq_f32_s32(four), mr));
    });
  }

  // Sixteen scaled sums to bytes. The conversion saturates, so no clamp comes before it.
  IRK_INLINE int8x16_t narrow(const float32x4_t* y) const {
    const int16x8_t h0 = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(y[0])), vcvtnq_s32_f32(y[1]));
    const int16x8_t h1 = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(y[2])), vcvtnq_s32_f32(y[3]));
    const int8x16_t b = vqmovn_high_s16(vqmovn_s16(vqaddq_s16(h0, zy)), vqaddq_s16(h1, zy));
    return vminq_s8(vmaxq_s8(b, lo), hi);
  }

  // Sums in registers; no residual.
  IRK_INLINE int8x8_t eight(const int32x4_t (&s)[2], const float32x4_t (&m)[2]) const {
    const int32x4_t a = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(s[0]), m[0]));
    const int32x4_t b = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(s[1]), m[1]));
    const int8x8_t v = vqmovn_s16(vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zy));
    return vmin_s8(vmax_s8(v, vget_low_s8(lo)), vget_low_s8(hi));
  }
  IRK_INLINE int8x16_t sixteen(const int32x4_t (&s)[4], const float32x4_t (&m)[4]) const {
    float32x4_t y[4];
    unroll<4>([&](auto q) IRK_LAMBDA { y[q] = vmulq_f32(vcvtq_f32_s32(s[q]), m[q]); });
    return narrow(y);
  }

  // Sixteen sums and multipliers are readable; n of them count.
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
      add_residual<4>(vld1q_s8(res), y);
    }
    const int8x16_t v = narrow(y);
    if (n == 16) {
      vst1q_s8(out, v);
    } else {
      int8_t part[16];
      vst1q_s8(part, v);
      memcpy(out, part, static_cast<size_t>(n));
    }
  }
};

// The same for sums that are small once scaled (see small_sum.h): adding 1.5 * 2^23 to a float rounds it to an integer,
// ties to even, whose low 16 bits are those of the sum. The zero point, being even, leaves ties where they were. Where
// the sums themselves are small too, int + 1.5 * 2^23 read as a float is that number; then no conversion is needed at
// all, which costs more than an addition on many cores.
template <bool SmallSums>
struct RequantShortNeon {
  float32x4_t magic, round;

  IRK_INLINE RequantShortNeon(int32_t zero, int32_t, int32_t)
      : magic(vdupq_n_f32(kSmallMagic)), round(vdupq_n_f32(kSmallMagic + static_cast<float>(zero))) {}

  IRK_INLINE float32x4_t number(int32x4_t s) const {
    return SmallSums ? vsubq_f32(vreinterpretq_f32_s32(s), magic) : vcvtq_f32_s32(s);
  }
  IRK_INLINE int16x8_t scaled(int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb) const {
    const float32x4_t ya = vmulq_f32(number(a), ma);
    const float32x4_t yb = vmulq_f32(number(b), mb);
    return vuzp1q_s16(vreinterpretq_s16_f32(vaddq_f32(ya, round)), vreinterpretq_s16_f32(vaddq_f32(yb, round)));
  }
  IRK_INLINE int8x8_t eight(const int32x4_t (&s)[2], const float32x4_t (&m)[2]) const {
    return vqmovn_s16(scaled(s[0], s[1], m[0], m[1]));
  }
  IRK_INLINE int8x16_t sixteen(const int32x4_t (&s)[4], const float32x4_t (&m)[4]) const {
    return vqmovn_high_s16(vqmovn_s16(scaled(s[0], s[1], m[0], m[1])), scaled(s[2], s[3], m[2], m[3]));
  }
};

using RequantScaledNeon = RequantShortNeon<false>;
using RequantSmallNeon = RequantShortNeon<true>;

inline void requant_f32_neon(const int32_t* sums, const float* m, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i++) out[i] = static_cast<float>(sums[i]) * m[i];
}

}  // namespace
}  // namespace irk
