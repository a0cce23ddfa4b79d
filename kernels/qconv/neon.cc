// NEON without dot products. Two products of int8 fit int16 as long as not both weights are -128, so SMULL, SMLAL2 and
// SADALP (widen, add neighbours) do 16 multiply-accumulates in three instructions.
//
// Depth is consumed 16 at a time. A vector of weights holds 8 pairs of depths for 4 channels: lane j serves channel
// j % 4, and the pair that the activations have there. Turning the activations by one pair three times brings every
// pair to every channel (build.cc packs accordingly), so no activation is duplicated and no sum is reduced at the end.
// The rest of the depth takes one step of 8 and one of 4.
//
// The loop of 4 rows and 16 channels, 16 depths a turn: 219 instructions for 1024 products (192 multiply, 12 turn,
// 4 + 8 load), 28 registers; llvm-mca 14, cortex-a55: 254 cycles, 4.0 multiply-accumulates a cycle. Activations turned
// beforehand would save 9 instructions and take 276 cycles: loads are dearer than EXT.
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

  // Low halves of `low` and the weights multiplied, and high halves of `high` and the weights.
  template <int M, int NV>
  static IRK_INLINE void multiply(int32x4_t (&acc)[M][NV], int8x16_t (&low)[M], const int8x16_t (&high)[M],
                                  const int8_t*& w) {
    constexpr int G = M == 1 ? NV : 1;  // columns whose products are interleaved
    int8x16_t wv[NV];
    unroll<NV, G>([&](auto v0) IRK_LAMBDA {
      constexpr int L = M == 1 ? NV : NV - v0 < 2 ? 1 : 2;  // weights loaded at a time
      if constexpr (v0 % 2 == 0) {
        unroll<L>([&](auto v) IRK_LAMBDA { wv[v0 + v] = vld1q_s8(w + 16 * v); });
        w += 16 * L;
      }
      int16x8_t two[G][M];
      const auto each = [&](auto f) IRK_LAMBDA {
        unroll<G>([&](auto v) IRK_LAMBDA { unroll<M>([&](auto r) IRK_LAMBDA { f(v, r); }); });
      };
      each([&](auto v, auto r) IRK_LAMBDA { two[v][r] = vmull_s8(vget_low_s8(low[r]), vget_low_s8(wv[v0 + v])); });
      if constexpr (Any) {
        each([&](auto v, auto r) IRK_LAMBDA {
          acc[r][v0 + v] = vpadalq_s16(acc[r][v0 + v], two[v][r]);
          two[v][r] = vmull_high_s8(high[r], wv[v0 + v]);
        });
      } else {
        each([&](auto v, auto r) IRK_LAMBDA { two[v][r] = vmlal_high_s8(two[v][r], high[r], wv[v0 + v]); });
      }
      each([&](auto v, auto r) IRK_LAMBDA {
        int32x4_t sum = vpadalq_s16(acc[r][v0 + v], two[v][r]);
        if constexpr (M * NV > 8) {  // the next products wait for these sums: started early, they would not fit
          int8x16_t next = low[r];
          asm("" : "+w"(sum), "+w"(next));
          low[r] = next;
        }
        acc[r][v0 + v] = sum;
      });
    });
  }
  template <class T>
  static IRK_INLINE T load(const int8_t* a) {  // from any address
    T x;
    memcpy(&x, a, sizeof x);
    return x;
  }
  static IRK_INLINE int8x16_t turned(int8x16_t v) { return vextq_s8(v, v, 2); }

  // What all tiles of a panel share. A copy, as stores of bytes might change what t and p point to.
  struct Common {
    const int8_t* w;
    const int32_t* bias;
    const int64_t* seg;
    int64_t segs, steps, rest;  // a run: steps of 16 depths; 0, 4, 8 or 12 more at the very end
    QFinish finish;
  };

  template <int M, int NV>
  static IRK_INLINE void tile(const Common& c, const int8_t* const* rows, char* out, const int8_t* res) {
    int32x4_t acc[M][NV];
    const int32_t* bias = c.bias;
    unroll<M>([&](auto r) IRK_LAMBDA {
      bias = later(bias);  // loads for every row are shorter than copies between registers
      unroll<NV>([&](auto v) IRK_LAMBDA { acc[r][v] = vld1q_s32(bias + 4 * v); });
    });
    const int8_t* w = c.w;
    const int8_t* a[M];
    unroll<M>([&](auto r) IRK_LAMBDA { a[r] = rows[r]; });  // a first run has no offset
    for (int64_t s = 1;; s++) {
      for (int64_t k = c.steps; k > 0; k--) {
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
      if (s == c.segs) break;
      unroll<M>([&](auto r) IRK_LAMBDA { a[r] = rows[r] + c.seg[s]; });
    }
    if (c.rest & 8) {
      int8x16_t a0[M], a1[M];
      unroll<M>([&](auto r) IRK_LAMBDA {
        a0[r] = vreinterpretq_s8_s64(vdupq_n_s64(load<int64_t>(a[r])));
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
    if (c.rest & 4) {
      int8x16_t a0[M], a1[M];
      unroll<M>([&](auto r) IRK_LAMBDA {
        a0[r] = vreinterpretq_s8_s16(vdupq_n_s16(load<int16_t>(a[r])));
        a1[r] = vreinterpretq_s8_s16(vdupq_n_s16(load<int16_t>(a[r] + 2)));
      });
      multiply(acc, a0, a1, w);
    }
    finish_rows(acc, c.finish, out, res);
  }

  template <int NV>
  __attribute__((noinline)) static void panel(const QPanel& t, const QConvParams& p) {
    const float magic = plain_magic(p);
    const int64_t depth = (p.rows.run + 3) & ~3;
    const Common c = {reinterpret_cast<const int8_t*>(t.w), t.bias, p.rows.seg, p.rows.segs, depth >> 4, depth & 12,
                      make_finish<NV>(t, p, &magic)};
    const int8_t* const* rows = t.rows;
    char* out = t.out;
    const int8_t* res = t.res;
    const int64_t out_step = p.oc * (p.f32 ? 4 : 1), res_step = res ? p.oc : 0;
    const int8_t* const* end = rows + t.count;
    if constexpr (Rows > 1) {
      for (const int8_t* const* stop = end - t.count % Rows; rows != stop; rows += Rows) {
        tile<Rows, NV>(c, rows, out, res);
        out += Rows * out_step, res += Rows * res_step;
      }
    }
    for (; rows != end; rows++) {
      tile<1, NV>(c, rows, out, res);
      out += out_step, res += res_step;
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
