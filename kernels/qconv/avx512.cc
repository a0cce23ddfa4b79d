// AVX-512 without VNNI: activations and weights widened to int16, pairs summed exactly by vpmaddwd.
#include "qconv/x86_512.h"

namespace irk {
namespace {

struct DotMadd {
  using A = int16_t;
  // Writes 32 elements whatever the run.
  struct Short {
    __mmask32 mask;
    explicit Short(int64_t n) : mask(~0u >> (32 - n)) {}
    IRK_INLINE void operator()(A* dst, const int8_t* src) const {
      _mm512_storeu_si512(dst, _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, src)));
    }
  };
  static IRK_INLINE __m512i dot(__m512i s, __m512i a, __m512i w) {
    return _mm512_add_epi32(s, _mm512_madd_epi16(a, w));
  }

  // Writes up to 31 elements too many: what follows is written later, or is slack.
  static IRK_INLINE void copy(A* dst, const int8_t* src, int64_t n) {
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
      _mm512_storeu_si512(dst + i, _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i))));
    if (i < n) {
      const __mmask32 tail = ~0u >> (32 - (n - i));
      _mm512_storeu_si512(dst + i, _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(tail, src + i)));
    }
  }
  static IRK_INLINE void fill(A* dst, int64_t n, int32_t zx) {
    const __m512i z = _mm512_set1_epi16(static_cast<short>(zx));
    for (int64_t i = 0; i < n; i += 32) _mm512_storeu_si512(dst + i, z);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::Ops512<irk::DotMadd>>(bufs, params, begin, end);
}
