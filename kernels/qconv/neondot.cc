// NEON with dot products: SDOT by element, four depths of one activation row per lane.
//
// Tile 4 x 16, 32 depths a turn: 128 SDOT, 4 loads of two vectors (activations), 8 of four (weights), 2 for the loop:
// 1.11 instructions per SDOT; 28 registers. 6 x 16 fills all 32 but loads single vectors and pairs: 1.16.
// llvm-mca 14 and 19, neoverse-n1: 64.1 cycles a turn, 32.0 multiply-accumulates a cycle (limit 32).
#include "qconv/neon_common.h"

namespace irk {
namespace {

struct OpsDot {
  static constexpr bool kPanels = false;
  static void copy(int8_t* dst, const int8_t* src, int64_t n) { copy_bytes(dst, src, n); }
  static void fill(int8_t* dst, int64_t n, int32_t zx) { fill_bytes(dst, n, zx); }
  static void gather(int8_t* dst, int64_t lda, const int8_t* src, int64_t step, int64_t n, int64_t count) {
    gather_bytes(dst, lda, src, step, n, count);
  }
  static void arrange(const QConvParams&, const int8_t* const*, int64_t, int8_t*) {}

  // Four depths, lane J of the activations.
  template <int J, int M, int NV>
  static IRK_INLINE void step(int32x4_t (&acc)[M][NV], const int8x16_t (&a)[M], const int8_t*& w) {
    int8x16_t wv[NV];
    load_vectors<NV>(w, wv);
    w += 16 * NV;
    unroll<NV>([&](auto v) IRK_LAMBDA {
      unroll<M>([&](auto r) IRK_LAMBDA { acc[r][v] = vdotq_laneq_s32(acc[r][v], wv[v], a[r], J); });
    });
    pin(acc, w);
  }

  // What all tiles of a panel share. A copy, as stores of bytes might change what t and p point to.
  struct Common {
    const int8_t* w;
    const int32_t* bias;
    const int64_t* seg;
    int64_t segs, turns, half, rest;  // a run: turns of 32 depths, perhaps 16 more, fewer than 16 at the very end
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
      for (int64_t k = c.turns; k > 0; k--) {
        int8x16_t lo[M], hi[M];
        unroll<M>([&](auto r) IRK_LAMBDA {
          const int8x16x2_t v = vld1q_s8_x2(a[r]);
          lo[r] = v.val[0], hi[r] = v.val[1];
          a[r] += 32;
          asm volatile("" : "+r"(a[r]));  // keeps the pointer itself as the counter: post-indexed loads
        });
        unroll<4>([&](auto j) IRK_LAMBDA { step<j>(acc, lo, w); });
        unroll<4>([&](auto j) IRK_LAMBDA { step<j>(acc, hi, w); });
      }
      if (c.half) {
        int8x16_t v[M];
        unroll<M>([&](auto r) IRK_LAMBDA {
          v[r] = vld1q_s8(a[r]);
          a[r] += 16;
        });
        unroll<4>([&](auto j) IRK_LAMBDA { step<j>(acc, v, w); });
      }
      if (s == c.segs) break;
      unroll<M>([&](auto r) IRK_LAMBDA { a[r] = rows[r] + c.seg[s]; });
    }
    if (c.rest) {
      int8x16_t v[M];
      unroll<M>([&](auto r) IRK_LAMBDA { v[r] = vld1q_s8(a[r]); });
      step<0>(acc, v, w);
      if (c.rest > 4) step<1>(acc, v, w);
      if (c.rest > 8) step<2>(acc, v, w);
      if (c.rest > 12) step<3>(acc, v, w);
    }
    finish_rows(acc, c.finish, out, res);
  }

  template <int NV>
  __attribute__((noinline)) static void panel(const QPanel& t, const QConvParams& p) {
    const float magic = plain_magic(p);
    const Common c = {reinterpret_cast<const int8_t*>(t.w),
                      t.bias,
                      p.rows.seg,
                      p.rows.segs,
                      p.rows.run >> 5,
                      p.rows.run & 16,
                      p.rows.run & 15,
                      make_finish<NV>(t, p, &magic)};
    const int8_t* const* rows = t.rows;
    char* out = t.out;
    const int8_t* res = t.res;
    const int64_t osize = p.f32 ? 4 : 1, out_step = 4 * p.oc * osize, res_step = res ? 4 * p.oc : 0;
    const int64_t rest = t.count & 3;
    for (const int8_t* const* end = rows + t.count - rest; rows != end; rows += 4) {
      tile<4, NV>(c, rows, out, res);
      out += out_step, res += res_step;
    }
    if (rest == 3) tile<3, NV>(c, rows, out, res);
    if (rest == 2) tile<2, NV>(c, rows, out, res);
    if (rest == 1) tile<1, NV>(c, rows, out, res);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_neondot(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_rows_run<irk::OpsDot>(bufs, params, begin, end);
}
