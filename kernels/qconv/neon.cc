// NEON without dot products. Two products of int8 fit int16 as long as not both weights are -128, so SMULL, SMLAL2 and
// SADALP (widen, add neighbours) do 16 multiply-accumulates in three instructions.
//
// Depth is consumed 16 at a time. A vector of weights holds 8 pairs of depths for 4 channels: lane j serves channel
// j % 4, and the pair that the activations have there. Turning the activations by one pair three times brings every
// pair to every channel (build.cc packs accordingly), so no activation is duplicated and no sum is reduced at the end.
// The rest of the depth takes one step of 8 and one of 4.
//
// The loop of 4 rows and 16 channels: 221 instructions for 1024 products (192 multiply, 12 turn, 4 + 8 load), 252 cycles
// cycles on cortex-a55 by llvm-mca 14.
#if defined(__GNUC__) && !defined(__clang__)
// GCC's scheduling before register allocation moves products up until sums spill.
#pragma GCC optimize("no-schedule-insns")
#endif
#include "qconv/neon_common.h"

namespace irk {
namespace {

// Any: weights may be -128; then each product is added on its own.
template <int Rows, bool Any>
struct OpsNeon {
  static constexpr bool kPanels = false;
  static void copy(int8_t* dst, const int8_t* src, int64_t n) { copy_bytes(dst, src, n); }
  static void fill(int8_t* dst, int64_t n, int32_t zx) { fill_bytes(dst, n, zx); }
  static void gather(int8_t* dst, int64_t lda, const int8_t* src, int64_t step, int64_t n, int64_t count) {
    gather_bytes(dst, lda, src, step, n, count);
  }
  static void arrange(const QConvParams&, const int8_t* const*, int64_t, int8_t*) {}

  // Low halves of `low` and the weights multiplied, and high halves of `high` and the weights. The empty asm makes the
  // next products wait for these sums: started early, they would not fit the registers.
  template <int M, int NV>
  static IRK_INLINE void multiply(int32x4_t (&acc)[M][NV], int8x16_t (&low)[M], const int8x16_t (&high)[M],
                                  const int8_t*& w) {
    int8x16_t wv[NV];
    unroll<NV>([&](auto v) IRK_LAMBDA {
      if constexpr (v % 2 == 0) {
        wv[v] = vld1q_s8(w);
        if constexpr (v + 1 < NV) wv[v + 1] = vld1q_s8(w + 16);
        w += v + 1 < NV ? 32 : 16;
      }
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
  }
  static IRK_INLINE int8x16_t turned(int8x16_t v) { return vextq_s8(v, v, 2); }

  template <int M, int NV>
  static IRK_INLINE void tile(const QPanel& t, const QConvParams& p, int64_t i, bool plain) {
    int32x4_t acc[M][NV];
    unroll<M>([&](auto r) IRK_LAMBDA {
      const int32_t* bias = t.bias;
      asm volatile("" : "+r"(bias));  // a load per row is shorter than copies between registers
      unroll<NV>([&](auto v) IRK_LAMBDA { acc[r][v] = vld1q_s32(bias + 4 * v); });
    });
    const int8_t* w = reinterpret_cast<const int8_t*>(t.w);
    const int8_t* const* rows = t.rows + i;
    const int8_t* a[M];
    const int64_t depth = (p.rows.run + 3) & ~3;
    int64_t s = 0;
    do {
      unroll<M>([&](auto r) IRK_LAMBDA { a[r] = rows[r] + p.rows.seg[s]; });
      for (int64_t k = depth >> 4; k > 0; k--) {
        int8x16_t av[M];
        unroll<M>([&](auto r) IRK_LAMBDA {
          av[r] = vld1q_s8(a[r]);
          a[r] += 16;
          asm volatile("" : "+r"(a[r]));  // keeps the pointer itself as the counter: post-indexed loads
        });
        unroll<4>([&](auto turn) IRK_LAMBDA {
          multiply(acc, av, av, w);
          if constexpr (turn < 3) unroll<M>([&](auto r) IRK_LAMBDA { av[r] = turned(av[r]); });
        });
      }
    } while (++s < p.rows.segs);
    if (depth & 8) {
      int8x16_t a0[M], a1[M];
      unroll<M>([&](auto r) IRK_LAMBDA {
        a0[r] = vreinterpretq_s8_s64(vld1q_dup_s64(reinterpret_cast<const int64_t*>(a[r])));
        a1[r] = turned(a0[r]);
        a[r] += 8;
      });
      multiply(acc, a0, a1, w);
      unroll<M>([&](auto r) IRK_LAMBDA {
        a0[r] = turned(a1[r]);
        a1[r] = turned(a0[r]);
      });
      multiply(acc, a0, a1, w);
    }
    if (depth & 4) {
      int8x16_t a0[M], a1[M];
      unroll<M>([&](auto r) IRK_LAMBDA {
        const int16_t* pair = reinterpret_cast<const int16_t*>(a[r]);
        a0[r] = vreinterpretq_s8_s16(vld1q_dup_s16(pair));
        a1[r] = vreinterpretq_s8_s16(vld1q_dup_s16(pair + 1));
      });
      multiply(acc, a0, a1, w);
    }
    finish_tile(acc, t, p, i, plain);
  }

  template <int NV>
  __attribute__((noinline)) static void panel(const QPanel& t, const QConvParams& p) {
    const bool plain = finish_plain(p);
    int64_t i = 0;
    for (; i + Rows <= t.count; i += Rows) tile<Rows, NV>(t, p, i, plain);
    if constexpr (Rows > 1) {
      if (t.count - i == 3) tile<3, NV>(t, p, i, plain);
      if (t.count - i == 2) tile<2, NV>(t, p, i, plain);
      if (t.count - i == 1) tile<1, NV>(t, p, i, plain);
    }
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_rows_run<irk::OpsNeon<4, false>>(bufs, params, begin, end);
}
extern "C" void irk_qconv_s8s8any_neon(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_rows_run<irk::OpsNeon<1, true>>(bufs, params, begin, end);
}
