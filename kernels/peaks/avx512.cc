#include <immintrin.h>

#include "peaks/chain.h"
#include "base/types.h"

extern "C" void irk_peak_fp32_avx512(int64_t rounds) {
  __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
#define DEFINE(i) __m512 c##i = _mm512_set1_ps(i);
  IRK_12(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
#define STEP(i)                       \
  c##i = _mm512_fmadd_ps(a, b, c##i); \
  IRK_OPAQUE(c##i);
    IRK_12(STEP)
#undef STEP
  }
}

// Bytes widened to 16 bits: a product of pairs and an addition of 32-bit sums.
extern "C" void irk_peak_int8_avx512(int64_t rounds) {
  __m512i a = _mm512_set1_epi16(3), b = _mm512_set1_epi16(5);
#define DEFINE(i) __m512i c##i = _mm512_set1_epi32(i);
  IRK_12(DEFINE)
#undef DEFINE
  for (int64_t n = 0; n < rounds; n++) {
    IRK_OPAQUE(a);
#define STEP(i)                          \
  {                                      \
    __m512i p = _mm512_madd_epi16(a, b); \
    IRK_OPAQUE(p);                       \
    c##i = _mm512_add_epi32(c##i, p);    \
    IRK_OPAQUE(c##i);                    \
  }
    IRK_12(STEP)
#undef STEP
  }
}

extern "C" int64_t irk_peak_read_avx512(const void* data, int64_t bytes, int64_t rounds) {
  const __m512i* p = static_cast<const __m512i*>(data);
#define DEFINE(i) __m512i s##i = _mm512_setzero_si512();
  IRK_8(DEFINE)
#undef DEFINE
  for (int64_t r = 0; r < rounds; r++)
    for (int64_t i = 0; i < bytes / 64; i += 8) {
#define STEP(k)                                               \
  s##k = _mm512_or_si512(s##k, _mm512_load_si512(p + i + k)); \
  IRK_OPAQUE(s##k);
      IRK_8(STEP)
#undef STEP
    }
#define JOIN(k) s0 = _mm512_or_si512(s0, s##k);
  IRK_8(JOIN)
#undef JOIN
  return _mm512_reduce_or_epi64(s0);
}
