#include <immintrin.h>

#include "qlut/generic.h"

namespace {

// The table as 128 words in four registers: a byte's upper seven bits choose the word (vpermi2w takes 64 words, the top
// bit picks between two such halves), its lowest bit the byte of the word.
struct Lookup {
  __m512i t[4];
  explicit Lookup(const uint8_t* table) {
    for (int i = 0; i < 4; i++) t[i] = _mm512_loadu_si512(table + 64 * i);
  }
  __m256i words(__m256i x) const {
    const __m512i w = _mm512_cvtepu8_epi16(x), index = _mm512_srli_epi16(w, 1);
    const __mmask32 high = _mm512_test_epi16_mask(w, _mm512_set1_epi16(128));
    const __m512i low_half = _mm512_permutex2var_epi16(t[0], index, t[1]);
    const __m512i pair = _mm512_mask_mov_epi16(low_half, high, _mm512_permutex2var_epi16(t[2], index, t[3]));
    const __mmask32 odd = _mm512_test_epi16_mask(w, _mm512_set1_epi16(1));
    return _mm512_cvtepi16_epi8(_mm512_mask_srli_epi16(pair, odd, pair, 8));
  }
  int64_t operator()(const uint8_t* x, uint8_t* y, int64_t n) const {
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), words(v));
    }
    return i;
  }
};

}  // namespace

extern "C" void irk_qlut_one_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run_one<Lookup>(bufs, params, begin, end);
}
