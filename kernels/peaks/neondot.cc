#include <arm_neon.h>

#include "peaks/chain.h"
#include "base/types.h"

extern "C" void irk_peak_int8_neondot(int64_t rounds) {
  const int8x16_t a = vdupq_n_s8(3), b = vdupq_n_s8(5);
#define DEFINE(i) int32x4_t c##i = vdupq_n_s32(i);
  IRK_16(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
#define STEP(i)                 \
  c##i = vdotq_s32(c##i, a, b); \
  IRK_OPAQUE(c##i);
    IRK_16(STEP)
#undef STEP
  }
}
