// NEON with dot products: SDOT by element, four depths of one activation row per lane.
#include "qconv/neon_common.h"

namespace irk {
namespace {

struct OpsDot {
  using Short = QPlainShort<OpsDot>;
  using A = int8_t;
  static constexpr int MR = 6, NV = 4, VEC = 4;
  static void copy(A* dst, const int8_t* src, int64_t n) { copy_bytes(dst, src, n); }
  static void fill(A* dst, int64_t n, int32_t zx) { fill_bytes(dst, n, zx); }

  template <int M, int N>
  static void tile(const QTile& t, const QConvParams& p) {
    int32x4_t acc[M][N];
    unroll<M>([&](auto r) IRK_LAMBDA { unroll<N>([&](auto v) IRK_LAMBDA { acc[r][v] = vld1q_s32(t.bias + 4 * v); }); });
    const int8_t* a = static_cast<const int8_t*>(t.a);
    const int8_t* w = static_cast<const int8_t*>(t.w);
    for (int64_t k = 0; k < p.steps; k += 4, a += 16) {
      int8x16_t av[M];
      unroll<M>([&](auto r) IRK_LAMBDA { av[r] = vld1q_s8(a + r * p.lda); });
      unroll<4>([&](auto j) IRK_LAMBDA {
        unroll<N>([&](auto v) IRK_LAMBDA {
          const int8x16_t wv = vld1q_s8(w + 16 * v);
          unroll<M>([&](auto r) IRK_LAMBDA { acc[r][v] = vdotq_laneq_s32(acc[r][v], wv, av[r], decltype(j)::value); });
        });
        w += 16 * N;
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

extern "C" void irk_qconv_s8s8_neondot(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::OpsDot>(bufs, params, begin, end);
}
