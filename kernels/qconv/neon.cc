// NEON without dot products. Two products of int8 fit int16 as long as not both weights are -128, so SMULL, SMLAL2 and
// SADALP (widen, add neighbours) do 16 multiply-accumulates in three instructions.
//
// Depth is consumed 16 at a time. A vector of weights holds 8 pairs of depths for 4 channels: lane j serves channel
// j % 4, and the pair that the activations have there. Turning the activations by one pair three times brings every
// pair to every channel (build.cc packs accordingly), so no activation is duplicated and no sum is reduced at the end.
// The rest of the depth takes one step of 8 and one of 4.
//
// The loop of 4 rows and 16 channels: 223 instructions for 1024 products (192 multiply, 12 turn, 4 + 8 load), 248
// cycles on cortex-a55 by llvm-mca 14.
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 would start all products of a step early and spill them.
#pragma GCC optimize("no-schedule-insns")
#endif
#include "qconv/neon_common.h"

namespace irk {
namespace {

// Any: weights may be -128; then each product is added on its own.
template <int Rows, bool Any>
struct OpsNeon {
  using Short = QPlainShort<OpsNeon>;
  using A = int8_t;
  static constexpr int MR = Rows, NV = 4, VEC = 4;
  static void copy(A* dst, const int8_t* src, int64_t n) { copy_bytes(dst, src, n); }
  static void fill(A* dst, int64_t n, int32_t zx) { fill_bytes(dst, n, zx); }

  template <int M, int N>
  static void tile(const QTile& t, const QConvParams& p) {
    int32x4_t acc[M][N];
    unroll<M>([&](auto r) IRK_LAMBDA { unroll<N>([&](auto v) IRK_LAMBDA { acc[r][v] = vld1q_s32(t.bias + 4 * v); }); });
    const int8_t* a = static_cast<const int8_t*>(t.a);
    const int8_t* w = static_cast<const int8_t*>(t.w);
    int8x16_t wv[N];
    // Low halves of `low` and the weights multiplied, and high halves of `high` and the weights. The empty asm makes
    // the next products wait for these sums: started early, they would not fit the registers.
    const auto multiply = [&](int8x16_t(&low)[M], const int8x16_t(&high)[M]) IRK_LAMBDA {
      unroll<N>([&](auto v) IRK_LAMBDA { wv[v] = vld1q_s8(w + 16 * v); });
      w += 16 * N;
      unroll<N>([&](auto v) IRK_LAMBDA {
        int16x8_t two[M];
        unroll<M>([&](auto r) IRK_LAMBDA { two[r] = vmull_s8(vget_low_s8(low[r]), vget_low_s8(wv[v])); });
        if constexpr (Any) {
          unroll<M>([&](auto r) IRK_LAMBDA { acc[r][v] = vpadalq_s16(acc[r][v], two[r]); });
          unroll<M>([&](auto r) IRK_LAMBDA { two[r] = vmull_high_s8(high[r], wv[v]); });
        } else {
          unroll<M>([&](auto r) IRK_LAMBDA { two[r] = vmlal_high_s8(two[r], high[r], wv[v]); });
        }
        unroll<M>([&](auto r) IRK_LAMBDA {
          int32x4_t sum = vpadalq_s16(acc[r][v], two[r]);
          int8x16_t next = low[r];
          asm("" : "+w"(sum), "+w"(next));
          acc[r][v] = sum;
          low[r] = next;
        });
      });
    };
    const auto turned = [](int8x16_t v) IRK_LAMBDA { return vextq_s8(v, v, 2); };
    for (int64_t k = p.steps; k >= 4; k -= 4, a += 16) {
      int8x16_t av[M];
      unroll<M>([&](auto r) IRK_LAMBDA { av[r] = vld1q_s8(a + r * p.lda); });
      unroll<4>([&](auto s) IRK_LAMBDA {
        multiply(av, av);
        if constexpr (s < 3) unroll<M>([&](auto r) IRK_LAMBDA { av[r] = turned(av[r]); });
      });
    }
    if (p.steps & 2) {
      int8x16_t a0[M], a1[M];
      unroll<M>([&](auto r) IRK_LAMBDA {
        a0[r] = vreinterpretq_s8_s64(vld1q_dup_s64(reinterpret_cast<const int64_t*>(a + r * p.lda)));
        a1[r] = turned(a0[r]);
      });
      multiply(a0, a1);
      unroll<M>([&](auto r) IRK_LAMBDA {
        a0[r] = turned(a1[r]);
        a1[r] = turned(a0[r]);
      });
      multiply(a0, a1);
      a += 8;
    }
    if (p.steps & 1) {
      int8x16_t a0[M], a1[M];
      unroll<M>([&](auto r) IRK_LAMBDA {
        const int16_t* pair = reinterpret_cast<const int16_t*>(a + r * p.lda);
        a0[r] = vreinterpretq_s8_s16(vld1q_dup_s16(pair));
        a1[r] = vreinterpretq_s8_s16(vld1q_dup_s16(pair + 1));
      });
      multiply(a0, a1);
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
  irk::qconv_run<irk::OpsNeon<4, false>>(bufs, params, begin, end);
}
extern "C" void irk_qconv_s8s8any_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_run<irk::OpsNeon<1, true>>(bufs, params, begin, end);
}
