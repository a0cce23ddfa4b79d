#include "base/vec_avx2.h"

namespace {
using V = irk::VecAvx2;

inline __m256 load4(const float* const* rows, int64_t c) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[0] + c)), _mm_loadu_ps(rows[4] + c), 1);
}

inline void transpose4(__m256 a[4]) {
  const __m256 t0 = _mm256_unpacklo_ps(a[0], a[1]), t1 = _mm256_unpackhi_ps(a[0], a[1]);
  const __m256 t2 = _mm256_unpacklo_ps(a[2], a[3]), t3 = _mm256_unpackhi_ps(a[2], a[3]);
  a[0] = _mm256_shuffle_ps(t0, t2, 0x44);
  a[1] = _mm256_shuffle_ps(t0, t2, 0xee);
  a[2] = _mm256_shuffle_ps(t1, t3, 0x44);
  a[3] = _mm256_shuffle_ps(t1, t3, 0xee);
}
}  // namespace
#define IRK_SPMM_QUADS
#include "spmm/generic.h"

extern "C" void irk_spmm_f32_avx2(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run(bufs, params, begin, end);
}
