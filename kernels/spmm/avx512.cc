#include "base/vec_avx512.h"

namespace {
using V = irk::VecAvx512;

inline __m512 load4(const float* const* rows, int64_t c) {
  __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(rows[0] + c));
  x = _mm512_mask_broadcast_f32x4(x, 0x00f0, _mm_loadu_ps(rows[4] + c));
  x = _mm512_mask_broadcast_f32x4(x, 0x0f00, _mm_loadu_ps(rows[8] + c));
  return _mm512_mask_broadcast_f32x4(x, 0xf000, _mm_loadu_ps(rows[12] + c));
}

inline void transpose4(__m512 a[4]) {
  const __m512 t0 = _mm512_unpacklo_ps(a[0], a[1]), t1 = _mm512_unpackhi_ps(a[0], a[1]);
  const __m512 t2 = _mm512_unpacklo_ps(a[2], a[3]), t3 = _mm512_unpackhi_ps(a[2], a[3]);
  a[0] = _mm512_shuffle_ps(t0, t2, 0x44);
  a[1] = _mm512_shuffle_ps(t0, t2, 0xee);
  a[2] = _mm512_shuffle_ps(t1, t3, 0x44);
  a[3] = _mm512_shuffle_ps(t1, t3, 0xee);
}
}  // namespace
#define IRK_SPMM_QUADS
#include "spmm/generic.h"

extern "C" void irk_spmm_f32_avx512(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  run(bufs, params, begin, end);
}
