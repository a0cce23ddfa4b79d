#include <immintrin.h>

#include "qlut/generic.h"

namespace {

// Sixteen byte shuffles, one for each upper nibble: shuffling gives 0 where the top bit of the index is set, and a
// saturating add of 0x70 sets it in every byte outside 0..15.
struct Lookup {
  const uint8_t* table;
  explicit Lookup(const uint8_t* t) : table(t) {}
  int64_t operator()(const uint8_t* x, uint8_t* y, int64_t n) const {
    const __m256i out = _mm256_set1_epi8(0x70), next = _mm256_set1_epi8(16);
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
      __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
      __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + 32));
      __m256i ya = _mm256_setzero_si256(), yb = ya;
      for (int k = 0; k < 16; k++) {
        const __m256i t =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * k)));
        ya = _mm256_or_si256(ya, _mm256_shuffle_epi8(t, _mm256_adds_epu8(a, out)));
        yb = _mm256_or_si256(yb, _mm256_shuffle_epi8(t, _mm256_adds_epu8(b, out)));
        a = _mm256_sub_epi8(a, next);
        b = _mm256_sub_epi8(b, next);
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), ya);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i + 32), yb);
    }
    return i;
  }
};

}  // namespace

extern "C" void irk_qlut_one_avx2(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_one<Lookup>(bufs, params, begin, end);
}
