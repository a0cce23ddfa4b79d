#include <immintrin.h>

#include "peaks/chain.h"
#include "base/types.h"

extern "C" void irk_peak_int8_avx512vnni(int64_t rounds) {
  const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
#define DEFINE(i) __m512i c##i = _mm512_set1_epi32(i);
  IRK_12(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
#define STEP(i)                           \
  c##i = _mm512_dpbusd_epi32(c##i, a, b); \
  IRK_OPAQUE(c##i);
    IRK_12(STEP)
#undef STEP
  }
}
