#include <arm_neon.h>

#include "peaks/chain.h"
#include "base/types.h"

extern "C" void irk_peak_fp32_neon(int64_t rounds) {
  const float32x4_t a = vdupq_n_f32(0.999f), b = vdupq_n_f32(1e-3f);
#define DEFINE(i) float32x4_t c##i = vdupq_n_f32(i);
  IRK_16(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
#define STEP(i)                 \
  c##i = vfmaq_f32(c##i, a, b); \
  IRK_OPAQUE(c##i);
    IRK_16(STEP)
#undef STEP
  }
}

// Sixteen products of bytes: two multiplications that widen and one addition of pairs.
extern "C" void irk_peak_int8_neon(int64_t rounds) {
  int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(5);
#define DEFINE(i) int32x4_t c##i = vdupq_n_s32(i);
  IRK_8(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
    IRK_OPAQUE(a);
#define STEP(i)                                             \
  {                                                         \
    int16x8_t p = vmull_s8(vget_low_s8(a), vget_low_s8(b)); \
    IRK_OPAQUE(p);                                          \
    p = vmlal_high_s8(p, a, b);                             \
    c##i = vpadalq_s16(c##i, p);                            \
    IRK_OPAQUE(c##i);                                       \
  }
    IRK_8(STEP)
#undef STEP
  }
}

extern "C" int64_t irk_peak_read_neon(const void* data, int64_t bytes, int64_t rounds) {
  const uint8_t* p = static_cast<const uint8_t*>(data);
#define DEFINE(i) uint8x16_t s##i = vdupq_n_u8(0);
  IRK_8(DEFINE)
#undef DEFINE
  for (int64_t r = 0; r < rounds; r++)
    for (int64_t i = 0; i < bytes; i += 128) {
#define STEP(k)                                    \
  s##k = vorrq_u8(s##k, vld1q_u8(p + i + 16 * k)); \
  IRK_OPAQUE(s##k);
      IRK_8(STEP)
#undef STEP
    }
#define JOIN(k) s0 = vorrq_u8(s0, s##k);
  IRK_8(JOIN)
#undef JOIN
  return vgetq_lane_s64(vreinterpretq_s64_u8(s0), 0);
}
