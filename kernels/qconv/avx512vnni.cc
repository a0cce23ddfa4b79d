// AVX-512 with VNNI: vpdpbusd on activations + 128 (unsigned) and signed weights, exact in int32.
#include "qconv/x86_512.h"

namespace irk {
namespace {

struct DotVnni {
  using A = uint8_t;
  // Writes 32 elements whatever the run.
  struct Short {
    __mmask32 mask;
    explicit Short(int64_t n) : mask(~0u >> (32 - n)) {}
    IRK_INLINE void operator()(A* dst, const int8_t* src) const {
      const __m256i v = _mm256_maskz_loadu_epi8(mask, src);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_xor_si256(v, _mm256_set1_epi8(-128)));
    }
  };
  static IRK_INLINE __m512i dot(__m512i s, __m512i a, __m512i w) { return _mm512_dpbusd_epi32(s, a, w); }

  // Writes up to 63 elements too many: what follows is written later, or is slack.
  static IRK_INLINE void copy(A* dst, const int8_t* src, int64_t n) {
    const __m512i flip = _mm512_set1_epi8(-128);
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) _mm512_storeu_si512(dst + i, _mm512_xor_si512(_mm512_loadu_si512(src + i), flip));
    if (i < n) {
      const __mmask64 tail = ~0ull >> (64 - (n - i));
      _mm512_storeu_si512(dst + i, _mm512_xor_si512(_mm512_maskz_loadu_epi8(tail, src + i), flip));
    }
  }
  static IRK_INLINE void fill(A* dst, int64_t n, int32_t zx) {
    const __m512i z = _mm512_set1_epi8(static_cast<char>(zx ^ -128));
    for (int64_t i = 0; i < n; i += 64) _mm512_storeu_si512(dst + i, z);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_avx512vnni(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::Ops512<irk::DotVnni>>(bufs, params, begin, end);
}
