// NEON with int8 matrix products: SMMLA makes a 2 x 2 block of outputs from two rows, two columns and eight depths.
#include "qconv/neon_common.h"

namespace irk {
namespace {

struct OpsMm {
  using Short = QPlainShort<OpsMm>;
  using A = int8_t;
  static constexpr int MR = 6, NV = 4, VEC = 4;
  static void copy(A* dst, const int8_t* src, int64_t n) { copy_bytes(dst, src, n); }
  static void fill(A* dst, int64_t n, int32_t zx) { fill_bytes(dst, n, zx); }

  static IRK_INLINE int32x4_t rows_of(int32x4_t a, int32x4_t b, bool second) {
    const int64x2_t x = vreinterpretq_s64_s32(a), y = vreinterpretq_s64_s32(b);
    return vreinterpretq_s32_s64(second ? vzip2q_s64(x, y) : vzip1q_s64(x, y));
  }

  template <int M, int N>
  static void tile(const QTile& t, const QConvParams& p) {
    constexpr int P = (M + 1) / 2;  // pairs of rows; an odd last row is paired with itself
    int32x4_t acc[P][2 * N];        // of columns 2v and 2v + 1
    unroll<N>([&](auto v) IRK_LAMBDA {
      const int32x4_t b = vld1q_s32(t.bias + 4 * v);
      unroll<P>([&](auto r) IRK_LAMBDA {
        acc[r][2 * v] = vcombine_s32(vget_low_s32(b), vget_low_s32(b));
        acc[r][2 * v + 1] = vcombine_s32(vget_high_s32(b), vget_high_s32(b));
      });
    });
    const int8_t* a = static_cast<const int8_t*>(t.a);
    const int8_t* w = static_cast<const int8_t*>(t.w);
    for (int64_t k = 0; k < p.steps; k += 2, a += 16) {
      int8x16_t av[2][P];
      unroll<P>([&](auto r) IRK_LAMBDA {
        const int64x2_t x = vreinterpretq_s64_s8(vld1q_s8(a + 2 * r * p.lda));
        const int64x2_t y = vreinterpretq_s64_s8(vld1q_s8(a + (2 * r + 1 < M ? 2 * r + 1 : 2 * r) * p.lda));
        av[0][r] = vreinterpretq_s8_s64(vzip1q_s64(x, y));
        av[1][r] = vreinterpretq_s8_s64(vzip2q_s64(x, y));
      });
      unroll<2>([&](auto j) IRK_LAMBDA {
        unroll<2 * N>([&](auto v) IRK_LAMBDA {
          const int8x16_t wv = vld1q_s8(w + 16 * v);
          unroll<P>([&](auto r) IRK_LAMBDA { acc[r][v] = vmmlaq_s32(acc[r][v], av[j][r], wv); });
        });
        w += 32 * N;
      });
    }
    int32_t sums[2 * P * 16];
    unroll<P>([&](auto r) IRK_LAMBDA {
      unroll<4>([&](auto v) IRK_LAMBDA {
        constexpr int c = v < N ? v : N - 1;
        vst1q_s32(sums + 32 * r + 4 * v, rows_of(acc[r][2 * c], acc[r][2 * c + 1], false));
        vst1q_s32(sums + 32 * r + 16 + 4 * v, rows_of(acc[r][2 * c], acc[r][2 * c + 1], true));
      });
    });
    finish_neon(sums, M, t, p);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_neoni8mm(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::OpsMm>(bufs, params, begin, end);
}
