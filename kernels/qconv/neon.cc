// NEON without dot products: activations and weights widened to int16, widening multiply-accumulate by lane.
#include "qconv/neon_common.h"

namespace irk {
namespace {

struct OpsNeon {
  using Short = QPlainShort<OpsNeon>;
  using A = int16_t;
  static constexpr int MR = 4, NV = 4, VEC = 4;

  static void copy(A* dst, const int8_t* src, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) widen(dst + i, vld1q_s8(src + i));
    if (n >= 16 && i < n) {
      widen(dst + n - 16, vld1q_s8(src + n - 16));  // overlaps what is written already, with the same values
      return;
    }
    if (i + 8 <= n) {
      vst1q_s16(dst + i, vmovl_s8(vld1_s8(src + i)));
      i += 8;
    }
    for (; i < n; i++) dst[i] = src[i];
  }
  static void widen(A* dst, int8x16_t v) {
    vst1q_s16(dst, vmovl_s8(vget_low_s8(v)));
    vst1q_s16(dst + 8, vmovl_high_s8(v));
  }
  // Writes up to 7 elements too many: what follows is written later, or is slack.
  static void fill(A* dst, int64_t n, int32_t zx) {
    for (int64_t i = 0; i < n; i += 8) vst1q_s16(dst + i, vdupq_n_s16(static_cast<int16_t>(zx)));
  }

  template <int M, int N>
  static void tile(const QTile& t, const QConvParams& p) {
    int32x4_t acc[M][N];
    unroll<M>([&](auto r) IRK_LAMBDA { unroll<N>([&](auto v) IRK_LAMBDA { acc[r][v] = vld1q_s32(t.bias + 4 * v); }); });
    const int16_t* a = static_cast<const int16_t*>(t.a);
    const int16_t* w = static_cast<const int16_t*>(t.w);
    for (int64_t k = 0; k < p.steps; k += 4, a += 4) {
      int16x4_t av[M];
      unroll<M>([&](auto r) IRK_LAMBDA { av[r] = vld1_s16(a + r * p.lda); });
      unroll<4>([&](auto j) IRK_LAMBDA {
        unroll<N>([&](auto v) IRK_LAMBDA {
          const int16x4_t wv = vld1_s16(w + 4 * v);
          unroll<M>([&](auto r) IRK_LAMBDA { acc[r][v] = vmlal_lane_s16(acc[r][v], wv, av[r], decltype(j)::value); });
        });
        w += 4 * N;
      });
    }
    int32_t sums[M * 16];
    unroll<M>([&](auto r) IRK_LAMBDA {
      unroll<4>([&](auto v) IRK_LAMBDA { vst1q_s32(sums + 16 * r + 4 * v, acc[r][v < N ? v : N - 1]); });
    });
    finish_neon(sums, M, t, p);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::OpsNeon>(bufs, params, begin, end);
}
