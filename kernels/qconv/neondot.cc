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

  // 32 depths.
  template <int M, int NV>
  static IRK_INLINE void turn(int32x4_t (&acc)[M][NV], const int8_t* (&a)[M], const int8_t*& w) {
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
      for (int64_t k = c.turns; k > 0; k--) turn(acc, a, w);
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

  // Four rows at a time, for the most common case: rows of one run, the plain epilogue. A function of its own, so that
  // everything it needs stays in registers.
  template <int NV>
  __attribute__((noinline)) static void plain_panel(const int8_t* const* rows, const int8_t* const* end,
                                                    const int8_t* w0, const int32_t* bias0, const float* m,
                                                    const float* magic, int64_t run, int64_t oc, int8_t* out) {
    const int64_t turns = run >> 5, half = run & 16, rest = run & 15;
    for (; rows != end; rows += 4) {
      int32x4_t acc[4][NV];
      const int32_t* bias = bias0;
      unroll<4>([&](auto r) IRK_LAMBDA {
        bias = later(bias);
        unroll<NV>([&](auto v) IRK_LAMBDA { acc[r][v] = vld1q_s32(bias + 4 * v); });
      });
      const int8_t* w = w0;
      const int8_t* a[4] = {rows[0], rows[1], rows[2], rows[3]};
      for (int64_t k = turns; k != 0; k--) turn(acc, a, w);
      if (half) {
        int8x16_t v[4];
        unroll<4>([&](auto r) IRK_LAMBDA {
          v[r] = vld1q_s8(a[r]);
          a[r] += 16;
        });
        unroll<4>([&](auto j) IRK_LAMBDA { step<j>(acc, v, w); });
      }
      if (rest) {
        int8x16_t v[4];
        unroll<4>([&](auto r) IRK_LAMBDA { v[r] = vld1q_s8(a[r]); });
        step<0>(acc, v, w);
        if (rest > 4) step<1>(acc, v, w);
        if (rest > 8) step<2>(acc, v, w);
        if (rest > 12) step<3>(acc, v, w);
      }
      float32x4_t mv[NV];
      load_vectors<NV>(m, mv);
      const float32x4_t add = vld1q_dup_f32(later(magic));
      unroll<4>([&](auto r) IRK_LAMBDA {
        store_low<NV>(out, plain_bytes<NV>(acc[r], mv, add));
        out += oc;
      });
    }
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
    const int8_t* const* end = rows + t.count - rest;
    if ((NV == 4 || NV == 2) && p.rows.segs == 1 && c.finish.plain && !res) {
      constexpr int N = NV == 4 ? 4 : 2;
      plain_panel<N>(rows, end, c.w, t.bias, t.m, &magic, p.rows.run, p.oc, reinterpret_cast<int8_t*>(out));
      out += (end - rows) * p.oc;
      rows = end;
    }
    for (; rows != end; rows += 4) {
      tile<4, NV>(c, rows, out, res);
      out += out_step, res += res_step;
    }
    if (rest == 3) tile<3, NV>(c, rows, out, res);
    if (rest == 2) tile<2, NV>(c, rows, out, res);
    if (rest == 1) tile<1, NV>(c, rows, out, res);
  }

  // One row and whole tiles, as in linear layers for one example: what is set up for each tile would cost more than its
  // products.
  static bool is_one_row(const QConvParams& p) {
    return p.pixels == 1 && p.pointwise && p.groups == 1 && p.oc % 16 == 0 && !p.residual;
  }

  // Columns of the tiles [first, last).
  static IRK_NOINLINE void one_row(const QConvParams& p, const int8_t* x, char* out, int64_t first, int64_t last) {
    const int64_t turns = p.k >> 5, half = p.k & 16, rest = p.k & 15;
    int8_t tail[16] = {0};  // whole vectors read here would leave the input
    memcpy(tail, x + p.k - rest, static_cast<size_t>(rest));
    const int8x16_t last_depths = vld1q_s8(tail);
    const RequantNeon e(p.zy, p.lo, p.hi);
    const bool f32 = p.f32;
    const int8_t* w = reinterpret_cast<const int8_t*>(p.w) + first * p.tile_bytes;
    const int32_t* bias = p.bias + 16 * first;
    const float* m = p.m + 16 * first;
    out += 16 * first * (f32 ? 4 : 1);
    for (int64_t count = last - first; count > 0; count--, bias += 16, m += 16) {
      int32x4_t acc[1][4];
      unroll<4>([&](auto v) IRK_LAMBDA { acc[0][v] = vld1q_s32(bias + 4 * v); });
      const int8_t* a[1] = {x};
      for (int64_t k = turns; k != 0; k--) turn(acc, a, w);
      if (half) {
        const int8x16_t v[1] = {vld1q_s8(a[0])};
        unroll<4>([&](auto j) IRK_LAMBDA { step<j>(acc, v, w); });
      }
      if (rest) {
        const int8x16_t v[1] = {last_depths};
        step<0>(acc, v, w);
        if (rest > 4) step<1>(acc, v, w);
        if (rest > 8) step<2>(acc, v, w);
        if (rest > 12) step<3>(acc, v, w);
      }
      float32x4_t mv[4];
      unroll<4>([&](auto v) IRK_LAMBDA { mv[v] = vld1q_f32(m + 4 * v); });
      if (f32) {
        float* y = reinterpret_cast<float*>(out);
        unroll<4>([&](auto v) IRK_LAMBDA { vst1q_f32(y + 4 * v, vmulq_f32(vcvtq_f32_s32(acc[0][v]), mv[v])); });
        out += 64;
      } else {
        vst1q_s8(reinterpret_cast<int8_t*>(out), e.sixteen(acc[0], mv));
        out += 16;
      }
    }
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_neondot(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const irk::QConvParams& p = *static_cast<const irk::QConvParams*>(params);
  if (!irk::OpsDot::is_one_row(p)) return irk::qconv_rows_run<irk::OpsDot>(bufs, params, begin, end);
  const int64_t last = end * p.block_tiles < p.tiles ? end * p.block_tiles : p.tiles;
  irk::OpsDot::one_row(p, static_cast<const int8_t*>(bufs[0]), static_cast<char*>(bufs[5]), begin * p.block_tiles,
                       last);
}
