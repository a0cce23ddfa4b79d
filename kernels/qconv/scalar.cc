// Plain C++: the reference in C and the kernel for CPUs without anything better.
#include "base/unroll.h"
#include "qconv/generic.h"

#include <string.h>

#if defined(__aarch64__)  // where every CPU has NEON, small code will do
#define IRK_QCONV_TILE IRK_NOINLINE
#else
#define IRK_QCONV_TILE IRK_INLINE
#endif

namespace irk {
namespace {

struct ScalarOps {
  using Short = QPlainShort<ScalarOps>;
  using A = int8_t;
#if defined(__aarch64__)
  static constexpr int MR = 1, NV = 4, VEC = 1;
#else
  static constexpr int MR = 4, NV = 4, VEC = 1;
#endif
  static void copy(A* dst, const int8_t* src, int64_t n) { memcpy(dst, src, static_cast<size_t>(n)); }
  static void fill(A* dst, int64_t n, int32_t zx) { memset(dst, zx, static_cast<size_t>(n)); }

  template <int M, int N>
  static void tile(const QTile& t, const QConvParams& p) {
    sums(t, p, M, N);
  }

  static IRK_QCONV_TILE void sums(const QTile& t, const QConvParams& p, int M, int N) {
    uint32_t acc[MR][NV];  // unsigned: the zero-point correction may wrap on the way to a sum that fits
    for (int r = 0; r < M; r++)
      for (int c = 0; c < N; c++) acc[r][c] = static_cast<uint32_t>(t.bias[c]);
    const int8_t* a = static_cast<const int8_t*>(t.a);
    const int8_t* w = static_cast<const int8_t*>(t.w);
    for (int64_t k = 0; k < p.steps; k++, w += N)
      for (int r = 0; r < M; r++)
        for (int c = 0; c < N; c++) acc[r][c] += static_cast<uint32_t>(a[r * p.lda + k] * w[c]);
    for (int r = 0; r < M; r++)
      for (int c = 0; c < N; c++) {
        float y = static_cast<float>(static_cast<int32_t>(acc[r][c])) * t.m[c];
        const int64_t at = r * p.oc + c;
        if (p.f32) {
          static_cast<float*>(t.out)[at] = y;
          continue;
        }
        if (t.res) y += static_cast<float>(t.res[at] - p.zr) * p.mr;
        const float lo = static_cast<float>(p.lo - p.zy), hi = static_cast<float>(p.hi - p.zy);
        y = y < lo ? lo : y > hi ? hi : y;
        y = (y + 12582912.f) - 12582912.f;  // 1.5 * 2^23: rounds to the nearest integer, ties to even
        static_cast<int8_t*>(t.out)[at] = static_cast<int8_t>(static_cast<int32_t>(y) + p.zy);
      }
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_scalar(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::ScalarOps>(bufs, params, begin, end);
}
