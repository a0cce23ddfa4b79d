// The direct kernels of NEON without dot products: products of int8 are added to int16 as long as they fit, these to
// int32. Two products always fit; Three: those of each kernel column do, whatever the input.
//
// In the loops, for 16 outputs: 63 instructions with stride 1 (Three: 55), 72 with stride 2 (Three: 63); llvm-mca on
// cortex-a55: 60 cycles (54), 82 (79).
#pragma once
#include "qdwconv/direct_neon.h"

namespace irk {
namespace {

// Stride 1: two output rows from four input rows, eight channels.
template <class Requant, bool Three>
struct DirectWide1 {
  static constexpr int kWidth = 8, kStride = 1, kRows = 2, kReach = 4;
  struct Column {
    int8x8_t v[4];
  };
  int8x8_t w[9];  // column by column
  int32x4_t bias[2];
  float32x4_t m[2];
  Requant requant;

  IRK_INLINE DirectWide1(const QDwDirect& p, int64_t block) : requant(p.zy, p.lo, p.hi) {
    unroll<9>([&](auto k) IRK_LAMBDA { w[k] = vld1_s8(p.w + (block * 9 + k) * 8); });
    unroll<2>([&](auto q) IRK_LAMBDA {
      bias[q] = vld1q_s32(p.bias + block * 8 + 4 * q);
      m[q] = vld1q_f32(p.m + block * 8 + 4 * q);
    });
  }

  static IRK_INLINE Column load(const int8_t* const (&rows)[4], int64_t at) {
    return {{vld1_s8(rows[0] + at), vld1_s8(rows[1] + at), vld1_s8(rows[2] + at), vld1_s8(rows[3] + at)}};
  }

  IRK_INLINE void row(const QDwDirect& p, const int8_t* const (&rows)[4], int8_t* const (&out)[2]) const {
    const int8x8_t zx = vdup_n_s8(static_cast<int8_t>(p.zx));
    const auto outputs = [&](const Column& a, const Column& b, const Column& c, int64_t at) IRK_LAMBDA {
      unroll<2>([&](auto i) IRK_LAMBDA {
        constexpr int r = 1 - decltype(i)::value;  // the upper row last: it may be the same
        int32x4_t s[2] = {bias[0], bias[1]};
        int16x8_t h;
        unroll<9>([&](auto tap) IRK_LAMBDA {
          constexpr int k = decltype(tap)::value;
          const int8x8_t v = (k < 3 ? a : k < 6 ? b : c).v[r + k % 3];
          h = k % (Three ? 3 : 2) ? vmlal_s8(h, v, w[k]) : vmull_s8(v, w[k]);
          if constexpr (Three ? k % 3 == 2 : k % 2 == 1 || k == 8) {
            s[0] = vaddw_s16(s[0], vget_low_s16(h));
            s[1] = vaddw_high_s16(s[1], h);
          }
        });
        vst1_s8(out[r] + at, requant.eight(s, m));
      });
    };
    slide_by_one(p, rows, Column{{zx, zx, zx, zx}}, load, outputs);
  }
};

// Stride 2: one output row from three, sixteen channels.
template <class Requant, bool Three>
struct DirectWide2 {
  static constexpr int kWidth = 16, kStride = 2, kRows = 1, kReach = 3;
  struct Column {
    int8x16_t v[3];
  };
  int8x16_t w[9];
  int32x4_t bias[4];
  float32x4_t m[4];
  Requant requant;

  IRK_INLINE DirectWide2(const QDwDirect& p, int64_t block) : requant(p.zy, p.lo, p.hi) {
    unroll<9>([&](auto k) IRK_LAMBDA { w[k] = vld1q_s8(p.w + (block * 9 + k) * 16); });
    unroll<4>([&](auto q) IRK_LAMBDA {
      bias[q] = vld1q_s32(p.bias + block * 16 + 4 * q);
      m[q] = vld1q_f32(p.m + block * 16 + 4 * q);
    });
  }

  static IRK_INLINE Column load(const int8_t* const (&rows)[3], int64_t at) {
    return {{vld1q_s8(rows[0] + at), vld1q_s8(rows[1] + at), vld1q_s8(rows[2] + at)}};
  }

  IRK_INLINE void row(const QDwDirect& p, const int8_t* const (&rows)[3], int8_t* const (&out)[2]) const {
    const int8x16_t zx = vdupq_n_s8(static_cast<int8_t>(p.zx));
    const auto output = [&](const Column& a, const Column& b, const Column& c, int8_t* to) IRK_LAMBDA {
      int32x4_t s[4] = {bias[0], bias[1], bias[2], bias[3]};
      int16x8_t h0, h1;
      unroll<9>([&](auto tap) IRK_LAMBDA {
        constexpr int k = decltype(tap)::value;
        const int8x16_t v = (k < 3 ? a : k < 6 ? b : c).v[k % 3];
        const int8x8_t v0 = vget_low_s8(v), w0 = vget_low_s8(w[k]);
        h0 = k % (Three ? 3 : 2) ? vmlal_s8(h0, v0, w0) : vmull_s8(v0, w0);
        h1 = k % (Three ? 3 : 2) ? vmlal_high_s8(h1, v, w[k]) : vmull_high_s8(v, w[k]);
        if constexpr (Three ? k % 3 == 2 : k % 2 == 1 || k == 8) {
          s[0] = vaddw_s16(s[0], vget_low_s16(h0));
          s[1] = vaddw_high_s16(s[1], h0);
          s[2] = vaddw_s16(s[2], vget_low_s16(h1));
          s[3] = vaddw_high_s16(s[3], h1);
        }
      });
      vst1q_s8(to, requant.sixteen(s, m));
      return c;
    };
    const Column padding{{zx, zx, zx}};
    slide_by_two(p, rows, padding, p.pl > 0 ? padding : load(rows, -p.c), out[0], load, output);
  }
};

}  // namespace
}  // namespace irk
