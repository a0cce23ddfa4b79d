#include <immintrin.h>

#include "base/types.h"

namespace {
struct V {
  typedef __m512 F;
  typedef __m512i I;
  static F floats(float x) { return _mm512_set1_ps(x); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static I shorts(int16_t x) { return _mm512_set1_epi16(x); }
  static I ints(int32_t x) { return _mm512_set1_epi32(x); }
  static I madd(I a, I b) { return _mm512_madd_epi16(a, b); }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static I either(I a, I b) { return _mm512_or_si512(a, b); }
  static I load(const I* p) { return _mm512_load_si512(p); }
  static int64_t low(I x) { return _mm512_reduce_or_epi64(x); }  // something of every sum
};
}  // namespace
#include "peaks/x86.h"

extern "C" void irk_peak_fp32_avx512(int64_t rounds) { peak_fp32(rounds); }
extern "C" void irk_peak_int8_avx512(int64_t rounds) { peak_int8(rounds); }
extern "C" int64_t irk_peak_read_avx512(const void* data, int64_t bytes, int64_t rounds) {
  return peak_read(data, bytes, rounds);
}
