// The direct kernels of NEON with dot products. Rows under each other are interleaved, so that a 32-bit lane holds four
// of them of one channel.
#pragma once
#include "qdwconv/direct_neon.h"

namespace irk {
namespace {

// Stride 1: two output rows from four input rows, eight channels. Each of the six input vectors in the window (two of
// each column) is multiplied once for each output row, with weights that are zero in the lane of the other's row.
// 46 instructions for 16 outputs in the loop (24 for sums, 18 for the epilogue, 2 stores); llvm-mca: 38 cycles on
// neoverse-n1, 60 on cortex-a55.
template <class Requant>
struct DirectDot1 {
  static constexpr int kWidth = 8, kStride = 1, kRows = 2, kReach = 4;
  static constexpr int kBytes = 192;  // of weights per block
  struct Column {
    int8x16_t v[2];
  };
  int8x16_t w[2][3][2];  // [output row][kernel column][half of the channels]
  int32x4_t bias[2];
  float32x4_t m[2];
  Requant requant;

  IRK_INLINE DirectDot1(const QDwDirect& p, int64_t block) : requant(p.zy, p.lo, p.hi) {
    const int8_t* from = p.w + block * kBytes;
    unroll<12>([&](auto i) IRK_LAMBDA { w[i / 6][i / 2 % 3][i % 2] = vld1q_s8(from + 16 * i); });
    unroll<2>([&](auto q) IRK_LAMBDA {
      bias[q] = vld1q_s32(p.bias + block * 8 + 4 * q);
      m[q] = vld1q_f32(p.m + block * 8 + 4 * q);
    });
  }

  static IRK_INLINE int8x16_t low(const int8_t* p) { return vcombine_s8(vld1_s8(p), vdup_n_s8(0)); }

  static IRK_INLINE Column load(const int8_t* const (&rows)[4], int64_t at) {
    const int16x8_t ab = vreinterpretq_s16_s8(vzip1q_s8(low(rows[0] + at), low(rows[1] + at)));
    const int16x8_t cd = vreinterpretq_s16_s8(vzip1q_s8(low(rows[2] + at), low(rows[3] + at)));
    return {{vreinterpretq_s8_s16(vzip1q_s16(ab, cd)), vreinterpretq_s8_s16(vzip2q_s16(ab, cd))}};
  }

  IRK_INLINE void row(const QDwDirect& p, const int8_t* const (&rows)[4], int8_t* const (&out)[2]) const {
    const int8x16_t zx = vdupq_n_s8(static_cast<int8_t>(p.zx));
    const auto outputs = [&](const Column& a, const Column& b, const Column& c, int64_t at) IRK_LAMBDA {
      unroll<2>([&](auto i) IRK_LAMBDA {
        constexpr int r = 1 - decltype(i)::value;  // the upper row last: it may be the same
        int32x4_t s[2];
        unroll<2>([&](auto q) IRK_LAMBDA {
          s[q] = vdotq_s32(bias[q], a.v[q], w[r][0][q]);
          s[q] = vdotq_s32(s[q], b.v[q], w[r][1][q]);
          s[q] = vdotq_s32(s[q], c.v[q], w[r][2][q]);
        });
        vst1_s8(out[r] + at, requant.eight(s, m));
      });
    };
    slide_by_one(p, rows, Column{{zx, zx}}, load, outputs);
  }
};

// Stride 2: one output row from three, sixteen channels. The right column of a window is the left one of the next, so
// these are interleaved; their fourth lane takes the upper tap of the column between them, whose other two taps are
// products of int8 added to int16, then to the bias. 52 instructions for 16 outputs in the loop; llvm-mca: 39 cycles on
// neoverse-n1, 76 on cortex-a55.
template <class Requant>
struct DirectDot2 {
  static constexpr int kWidth = 16, kStride = 2, kRows = 1, kReach = 3;
  static constexpr int kBytes = 160;  // of weights per block
  struct Column {
    int8x16_t v[3];
  };
  struct Group {
    int8x16_t v[4];
  };
  int8x16_t left[4], right[4], middle[2];
  int32x4_t bias[4];
  float32x4_t m[4];
  Requant requant;

  IRK_INLINE DirectDot2(const QDwDirect& p, int64_t block) : requant(p.zy, p.lo, p.hi) {
    const int8_t* from = p.w + block * kBytes;
    unroll<4>([&](auto q) IRK_LAMBDA {
      left[q] = vld1q_s8(from + 16 * q);
      right[q] = vld1q_s8(from + 64 + 16 * q);
      bias[q] = vld1q_s32(p.bias + block * 16 + 4 * q);
      m[q] = vld1q_f32(p.m + block * 16 + 4 * q);
    });
    unroll<2>([&](auto i) IRK_LAMBDA { middle[i] = vld1q_s8(from + 128 + 16 * i); });
  }

  static IRK_INLINE Group interleave(const Column& k, int8x16_t fourth) {
    const int16x8_t ab0 = vreinterpretq_s16_s8(vzip1q_s8(k.v[0], k.v[1]));
    const int16x8_t ab1 = vreinterpretq_s16_s8(vzip2q_s8(k.v[0], k.v[1]));
    const int16x8_t cd0 = vreinterpretq_s16_s8(vzip1q_s8(k.v[2], fourth));
    const int16x8_t cd1 = vreinterpretq_s16_s8(vzip2q_s8(k.v[2], fourth));
    return {{vreinterpretq_s8_s16(vzip1q_s16(ab0, cd0)), vreinterpretq_s8_s16(vzip2q_s16(ab0, cd0)),
             vreinterpretq_s8_s16(vzip1q_s16(ab1, cd1)), vreinterpretq_s8_s16(vzip2q_s16(ab1, cd1))}};
  }

  static IRK_INLINE Column load(const int8_t* const (&rows)[3], int64_t at) {
    return {{vld1q_s8(rows[0] + at), vld1q_s8(rows[1] + at), vld1q_s8(rows[2] + at)}};
  }

  IRK_INLINE void row(const QDwDirect& p, const int8_t* const (&rows)[3], int8_t* const (&out)[2]) const {
    const int8x16_t zx = vdupq_n_s8(static_cast<int8_t>(p.zx));
    const auto output = [&](const Group& a, const Column& b, const Column& c, int8_t* to) IRK_LAMBDA {
      const int16x8_t h0 =
          vmlal_s8(vmull_s8(vget_low_s8(b.v[1]), vget_low_s8(middle[0])), vget_low_s8(b.v[2]), vget_low_s8(middle[1]));
      const int16x8_t h1 = vmlal_high_s8(vmull_high_s8(b.v[1], middle[0]), b.v[2], middle[1]);
      int32x4_t s[4] = {vaddw_s16(bias[0], vget_low_s16(h0)), vaddw_high_s16(bias[1], h0),
                        vaddw_s16(bias[2], vget_low_s16(h1)), vaddw_high_s16(bias[3], h1)};
      const Group g = interleave(c, b.v[0]);
      unroll<4>([&](auto q) IRK_LAMBDA { s[q] = vdotq_s32(vdotq_s32(s[q], a.v[q], left[q]), g.v[q], right[q]); });
      vst1q_s8(to, requant.sixteen(s, m));
      return g;
    };
    const Column padding{{zx, zx, zx}};
    slide_by_two(p, rows, padding, interleave(p.pl > 0 ? padding : load(rows, -p.c), zx), out[0], load, output);
  }
};

}  // namespace
}  // namespace irk
