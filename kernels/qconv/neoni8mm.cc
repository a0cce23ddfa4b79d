// NEON with int8 matrix products: SMMLA makes a 2 x 2 block of outputs from two rows, two columns and eight depths.
//
// Tile 6 x 16, 32 depths a turn: 96 SMMLA, 4 loads of three vectors (activations), 8 of four (weights), 2 for the loop:
// 1.15 instructions per SMMLA; 31 registers, the last one is the epilogue's. Rows are arranged in pairs once per block:
// zipping them in the loop of a 4 x 16 tile costs 1.3. llvm-mca 19, neoverse-n2: 48.0 cycles a turn, 64.0
// multiply-accumulates a cycle (limit 64).
#include "qconv/neon_common.h"
#include "qconv/rows.h"

namespace irk {
namespace {

struct OpsMm {
  static constexpr bool kPanels = true;
  static void copy(int8_t* dst, const int8_t* src, int64_t n) { copy_bytes(dst, src, n); }
  static void fill(int8_t* dst, int64_t n, int32_t zx) { fill_bytes(dst, n, zx); }
  static void gather(int8_t* dst, int64_t lda, const int8_t* src, int64_t step, int64_t n, int64_t count) {
    gather_bytes(dst, lda, src, step, n, count);
  }

  static IRK_INLINE int8x16_t zip(int8x16_t a, int8x16_t b, bool second) {
    const int64x2_t x = vreinterpretq_s64_s8(a), y = vreinterpretq_s64_s8(b);
    return vreinterpretq_s8_s64(second ? vzip2q_s64(x, y) : vzip1q_s64(x, y));
  }

  // Eight depths of P pairs of rows, from the low or high halves of x and y.
  template <int P>
  static IRK_INLINE void store_zipped(int8_t* dst, const int8x16_t (&x)[P], const int8x16_t (&y)[P], bool second) {
    int8x16_t v[P];
    unroll<P>([&](auto r) IRK_LAMBDA { v[r] = zip(x[r], y[r], second); });
    unroll<P>([&](auto r) IRK_LAMBDA { vst1q_s8(dst + 16 * r, v[r]); });
  }

  // Rows in pairs, eight depths of each side by side: [8 depths][pair][row of the pair]. An odd last row is its own
  // partner.
  template <int P>
  static IRK_INLINE int8_t* arrange_pairs(const int64_t* seg, int64_t segs, int64_t run, const int8_t* const* rows,
                                          bool odd, int8_t* dst) {
    for (int64_t s = 0; s < segs; s++) {
      const int64_t at = seg[s];
      const int8_t* a[2 * P];
      unroll<2 * P>([&](auto r) IRK_LAMBDA { a[r] = rows[r == 2 * P - 1 && odd ? r - 1 : static_cast<int>(r)] + at; });
      int64_t k = run;
      for (; k >= 32; k -= 32, dst += 64 * P) {
        int8x16_t x[2][P], y[2][P], v[4 * P];
        unroll<P>([&](auto r) IRK_LAMBDA {
          const int8x16x2_t u = vld1q_s8_x2(a[2 * r]), w = vld1q_s8_x2(a[2 * r + 1]);
          x[0][r] = u.val[0], x[1][r] = u.val[1], y[0][r] = w.val[0], y[1][r] = w.val[1];
          a[2 * r] = later(a[2 * r] + 32), a[2 * r + 1] = later(a[2 * r + 1] + 32);
        });
        unroll<4 * P>([&](auto i) IRK_LAMBDA { v[i] = zip(x[i / P / 2][i % P], y[i / P / 2][i % P], i / P % 2 == 1); });
        unroll<2 * P>([&](auto i) IRK_LAMBDA {
          asm volatile("" : "+w"(v[2 * i]), "+w"(v[2 * i + 1]));  // side by side, so that one instruction stores both
          vst1q_s8(dst + 32 * i, v[2 * i]);
          vst1q_s8(dst + 32 * i + 16, v[2 * i + 1]);
        });
      }
      for (; k > 0; k -= 16) {
        int8x16_t x[P], y[P];
        unroll<P>([&](auto r) IRK_LAMBDA {
          x[r] = vld1q_s8(a[2 * r]), y[r] = vld1q_s8(a[2 * r + 1]);
          a[2 * r] += 16, a[2 * r + 1] += 16;
        });
        store_zipped<P>(dst, x, y, false);
        dst += 16 * P;
        if (k <= 8) break;
        store_zipped<P>(dst, x, y, true);
        dst += 16 * P;
      }
    }
    return dst;
  }
  static __attribute__((noinline)) int8_t* arrange_sixes(const int64_t* seg, int64_t segs, int64_t run,
                                                         const int8_t* const* rows, int64_t count, int8_t* dst) {
    for (; count >= 6; count -= 6, rows += 6) dst = arrange_pairs<3>(seg, segs, run, rows, false, dst);
    return dst;
  }
  static void arrange(const QConvParams& p, const int8_t* const* rows, int64_t count, int8_t* dst) {
    const int64_t* seg = p.rows.seg;
    const int64_t segs = p.rows.segs, run = p.rows.run, rest = count % 6;
    dst = arrange_sixes(seg, segs, run, rows, count, dst);
    rows += count - rest;
    if (rest > 4)
      arrange_pairs<3>(seg, segs, run, rows, true, dst);
    else if (rest > 2)
      arrange_pairs<2>(seg, segs, run, rows, rest == 3, dst);
    else if (rest > 0)
      arrange_pairs<1>(seg, segs, run, rows, rest == 1, dst);
  }

  // What was read from memory is read anew from here on, not kept in registers.
  static IRK_INLINE void read_again() { asm volatile("" ::: "memory"); }

  // Eight depths of P pairs of rows times 4 * NV columns. The empty statement keeps the next loads from moving up here:
  // there are no registers for them. Which accumulators it names decides whether GCC spills others: look at the loop.
  template <int P, int NV>
  static IRK_INLINE void step(int32x4_t (&acc)[P][2 * NV], const int8_t*& a, const int8_t*& w) {
    int8x16_t av[P];
    if constexpr (P == 3) {
      const int8x16x3_t v = vld1q_s8_x3(a);
      av[0] = v.val[0], av[1] = v.val[1], av[2] = v.val[2];
    } else {
      load_vectors<P>(a, av);
    }
    a += 16 * P;
    constexpr int H = NV % 2 == 0 ? 2 : 1;  // halves of the columns
    constexpr int C = 2 * NV / H;
    unroll<H>([&](auto h) IRK_LAMBDA {
      int8x16_t wv[C];
      if constexpr (C <= 4) {
        load_vectors<C>(w, wv);
      } else {
        unroll<C>([&](auto v) IRK_LAMBDA { wv[v] = vld1q_s8(w + 16 * v); });
      }
      w += 16 * C;
      unroll<C>([&](auto v) IRK_LAMBDA {
        unroll<P>([&](auto r) IRK_LAMBDA { acc[r][h * C + v] = vmmlaq_s32(acc[r][h * C + v], av[r], wv[v]); });
      });
      const int8_t*& rows = a;  // Clang captures nothing for the operand of an asm alone
      asm volatile("" : "+r"(w), "+r"(rows), "+w"(acc[0][h * C]));
    });
  }

  // acc[r][v]: pair r, columns 2v and 2v + 1. Returns what follows the rows at a.
  template <int P, int NV>
  static IRK_INLINE const int8_t* multiply(int32x4_t (&acc)[P][2 * NV], const int8_t* a, const int8_t* w,
                                           const int32_t* bias, int64_t steps) {
    unroll<P>([&](auto r) IRK_LAMBDA {
      read_again();  // loads for every row are shorter than copies between registers
      unroll<2 * NV>([&](auto v) IRK_LAMBDA { acc[r][v] = vld1q_s32(bias + 4 * v); });
    });
    if (__builtin_expect(steps >> 2 != 0, 1)) {
      const int8_t* const end = w + (steps >> 2) * (4 * 32 * NV);
      do {  // w counts the turns: no register to set for each tile
        unroll<4>([&](auto) IRK_LAMBDA { step<P, NV>(acc, a, w); });
      } while (w != end);
    }
    for (int64_t k = steps & 3; k != 0; k--) step<P, NV>(acc, a, w);
    return a;
  }

  // What all tiles of a panel share.
  struct Common {
    const int8_t* w;
    const int32_t* bias2;  // of two columns, twice, as the blocks want them
    const float* m2;       // multipliers likewise, then plain_magic four times
    int64_t steps;
    QFinish finish;
  };

  template <int P, int NV>
  static IRK_INLINE void tile(const Common& c, const int8_t* a, char* out, const int8_t* res, int64_t count) {
    int32x4_t acc[P][2 * NV];
    multiply<P, NV>(acc, a, c.w, c.bias2, c.steps);
    finish<P, NV>(acc, c, out, res, count);
  }

  // The two rows of a pair come out interleaved, two columns of each in turn: they are told apart as bytes.
  template <int NV>
  static IRK_INLINE void store_pair(int8_t*& out, int64_t oc, bool both, int8x16_t v0, int8x16_t v1) {
    const int16x8_t x = vreinterpretq_s16_s8(v0), y = vreinterpretq_s16_s8(v1);
    store_row<NV>(out, oc, vreinterpretq_s8_s16(vuzp1q_s16(x, y)));
    if (both) store_row<NV>(out, oc, vreinterpretq_s8_s16(vuzp2q_s16(x, y)));
  }
  // Steps on to the next row while storing, which compilers don't do by a register.
  template <int NV>
  static IRK_INLINE void store_row(int8_t*& out, int64_t oc, int8x16_t v) {
    if constexpr (NV == 4) {
      asm volatile("st1 {%1.16b}, [%0], %2" : "+r"(out) : "w"(v), "r"(oc) : "memory");
    } else {
      store_low<NV>(out, v);
      out += oc;
    }
  }

  // even: the last pair has both rows.
  template <int P, int NV>
  static IRK_INLINE int8_t* finish_plain(const int32x4_t (&acc)[P][2 * NV], const float* m2, float32x4_t magic,
                                         int64_t oc, int8_t* y, bool even) {
    constexpr int L = NV >= 2 ? 4 : 2, R = 2 * NV - L;  // vectors of the first eight channels, of the rest
    // Half of the channels after the other: their multipliers need not all be in registers at once.
    int8x16_t v0[P], v1[P];
    {
      float32x4_t m[L];
      unroll<L>([&](auto v) IRK_LAMBDA { m[v] = vld1q_f32(m2 + 4 * v); });
      unroll<P>([&](auto r) IRK_LAMBDA { v1[r] = v0[r] = plain_bytes<L>(part<0, L>(acc[r]), m, magic); });
    }
    if constexpr (R > 0) {
      float32x4_t m[R];
      read_again();
      unroll<R>([&](auto v) IRK_LAMBDA { m[v] = vld1q_f32(m2 + 4 * (L + v)); });
      unroll<P>([&](auto r) IRK_LAMBDA { v1[r] = plain_bytes<R>(part<L, R>(acc[r]), m, magic); });
    }
    unroll<P>([&](auto r) IRK_LAMBDA { store_pair<NV>(y, oc, r + 1 < P || even, v0[r], v1[r]); });
    return y;
  }

  template <int P, int NV>
  static IRK_INLINE void finish(const int32x4_t (&acc)[P][2 * NV], const Common& c, char* out, const int8_t* res,
                                int64_t count) {
    if (!c.finish.plain || res) {
      int32_t sums[2 * P * 16];
      unroll<P>([&](auto r) IRK_LAMBDA {
        unroll<4>([&](auto v) IRK_LAMBDA {
          constexpr int n = v < NV ? v : NV - 1;
          const int64x2_t x = vreinterpretq_s64_s32(acc[r][2 * n]), y = vreinterpretq_s64_s32(acc[r][2 * n + 1]);
          vst1q_s32(sums + 32 * r + 4 * v, vreinterpretq_s32_s64(vzip1q_s64(x, y)));
          vst1q_s32(sums + 32 * r + 16 + 4 * v, vreinterpretq_s32_s64(vzip2q_s64(x, y)));
        });
      });
      finish_memory<NV>(sums, count, c.finish, out, res);
      return;
    }
    read_again();
    const float32x4_t magic = vld1q_f32(c.m2 + 8 * NV);
    finish_plain<P, NV>(acc, c.m2, magic, c.finish.oc, reinterpret_cast<int8_t*>(out), count % 2 == 0);
  }

  // R vectors from vector F on.
  template <int F, int R, class V, int N>
  static IRK_INLINE const V (&part(const V (&v)[N])) [R] { return reinterpret_cast<const V(&)[R]>(v[F]); }

  // Six rows at a time with the plain epilogue. A function of its own, so that everything it needs stays in registers.
  template <int NV>
  __attribute__((noinline)) static void plain_panel(const int8_t* a, int64_t tiles, const int8_t* w,
                                                    const int32_t* bias2, const float* m2, int64_t steps, int64_t oc,
                                                    int8_t* out) {
    const float32x4_t magic = vld1q_f32(m2 + 8 * NV);
    for (; tiles > 0; tiles--) {
      int32x4_t acc[3][2 * NV];
      a = multiply<3, NV>(acc, a, w, bias2, steps);
      out = finish_plain<3, NV>(acc, m2, magic, oc, out, true);
    }
  }

  template <int NV>
  __attribute__((noinline)) static void panel(const QPanel& t, const QConvParams& p) {
    int32_t bias2[8 * NV];
    float m2[8 * NV + 4];
    for (int v = 0; v < NV; v++) {
      const int64x2_t b = vreinterpretq_s64_s32(vld1q_s32(t.bias + 4 * v));
      const int64x2_t m = vreinterpretq_s64_f32(vld1q_f32(t.m + 4 * v));
      vst1q_s32(bias2 + 8 * v, vreinterpretq_s32_s64(vzip1q_s64(b, b)));
      vst1q_s32(bias2 + 8 * v + 4, vreinterpretq_s32_s64(vzip2q_s64(b, b)));
      vst1q_f32(m2 + 8 * v, vreinterpretq_f32_s64(vzip1q_s64(m, m)));
      vst1q_f32(m2 + 8 * v + 4, vreinterpretq_f32_s64(vzip2q_s64(m, m)));
    }
    const float magic = plain_magic(p);
    vst1q_f32(m2 + 8 * NV, vdupq_n_f32(magic));
    const Common c = {reinterpret_cast<const int8_t*>(t.w), bias2, m2, p.steps, make_finish<NV>(t, p, &magic)};
    const int8_t* a = t.arranged;
    char* out = t.out;
    const int8_t* res = t.res;
    const int64_t a_step = 48 * p.steps, res_step = res ? 6 * p.oc : 0, out_step = 6 * p.oc * (p.f32 ? 4 : 1);
    int64_t count = t.count;
    if ((NV == 4 || NV == 2) && c.finish.plain && !res) {
      const int64_t tiles = count / 6;
      plain_panel<NV == 4 ? 4 : 2>(a, tiles, c.w, bias2, m2, p.steps, p.oc, reinterpret_cast<int8_t*>(out));
      a += tiles * a_step, out += tiles * out_step, count -= 6 * tiles;
    }
    for (; count > 4; count -= 6) {
      tile<3, NV>(c, a, out, res, count < 6 ? count : 6);
      a += a_step, out += out_step, res += res_step;
    }
    if (count > 2)
      tile<2, NV>(c, a, out, res, count);
    else if (count > 0)
      tile<1, NV>(c, a, out, res, count);
  }
};

}  // namespace
}  // namespace irk

extern "C" void irk_qconv_s8s8_neoni8mm(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  irk::qconv_rows_run<irk::OpsMm>(bufs, params, begin, end);
}
