// The kernel of tall.h.
#pragma once
#include "base/requant_neon.h"
#include "qdwconv/direct.h"
#include "qdwconv/tall.h"

namespace irk {
namespace {

// Scratch: [group of the ring][eight channels][column][half of them]; a column has 32 bytes.
IRK_INLINE int64_t tall_half(const QDwTall& p) { return (p.columns + p.slack) * 32; }

IRK_INLINE void tall_store(int8_t* to, int64_t half, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d) {
  const int16x8_t ab0 = vreinterpretq_s16_s8(vzip1q_s8(a, b)), ab1 = vreinterpretq_s16_s8(vzip2q_s8(a, b));
  const int16x8_t cd0 = vreinterpretq_s16_s8(vzip1q_s8(c, d)), cd1 = vreinterpretq_s16_s8(vzip2q_s8(c, d));
  vst1q_s8(to, vreinterpretq_s8_s16(vzip1q_s16(ab0, cd0)));
  vst1q_s8(to + 16, vreinterpretq_s8_s16(vzip2q_s16(ab0, cd0)));
  vst1q_s8(to + half, vreinterpretq_s8_s16(vzip1q_s16(ab1, cd1)));
  vst1q_s8(to + half + 16, vreinterpretq_s8_s16(vzip2q_s16(ab1, cd1)));
}

// The columns of padding of every group of the ring: nothing else is written there.
inline void tall_pad(const QDwTall& p, int8_t* scratch) {
  const int8x16_t zx = vdupq_n_s8(static_cast<int8_t>(p.zx));
  const int64_t left = p.pl < p.columns ? p.pl : p.columns;
  for (int64_t g = 0; g < 2 * p.ring; g++, scratch += tall_half(p)) {
    for (int64_t i = 0; i < 2 * left; i++) vst1q_s8(scratch + 16 * i, zx);
    for (int64_t i = 2 * (p.pl + p.iw); i < 2 * p.columns; i++) vst1q_s8(scratch + 16 * i, zx);
  }
}

// Rows 4k to 4k + 3.
inline void tall_interleave(const QDwTall& p, const int8_t* x, int64_t k, int8_t* to) {
  const int64_t c = p.c, line = p.iw * c, half = tall_half(p), ih = 4 * k - p.pt;
  const int8_t* rows[4];
  for (int t = 0; t < 4; t++) rows[t] = ih + t >= 0 && ih + t < p.ih ? x + (ih + t) * line : p.line;
  const int64_t count = p.pl + p.iw < p.columns ? p.iw : p.columns - p.pl;
  to += p.pl * 32;
  for (int64_t i = 0, at = 0; i < count; i++, at += c, to += 32)
    tall_store(to, half, vld1q_s8(rows[0] + at), vld1q_s8(rows[1] + at), vld1q_s8(rows[2] + at),
               vld1q_s8(rows[3] + at));
}

// Two output rows of one tile: Kw columns of the kernel, 0: any. Sw: their step, 0: any.
template <int Kw, int Sw>
IRK_INLINE void tall_sums(const QDwTall& p, const int8_t* const* groups, int64_t count, int64_t column, const int8_t* w,
                          int32x4_t (&s)[2][kTallColumns][2]) {
  const int64_t dw = p.dw * 32, sw = p.sw * 32, kw = p.kw;
  for (int64_t g = 0; g < count; g++) {
    const int8_t* at = groups[g] + column;
    const auto add = [&](const int8_t* weights, const int8x16_t(&x)[kTallColumns][2]) IRK_LAMBDA {
      unroll<4>([&](auto i) IRK_LAMBDA {
        const int8x16_t v = vld1q_s8(weights + 16 * i);
        unroll<kTallColumns>([&](auto u)
                                 IRK_LAMBDA { s[i / 2][u][i % 2] = vdotq_s32(s[i / 2][u][i % 2], x[u][i % 2], v); });
      });
    };
    int8x16_t x[kTallColumns][2];
    if constexpr (Kw == 0) {
      for (int64_t k = 0; k < kw; k++, w += 64, at += dw) {
        const int8_t* from = at;
        unroll<kTallColumns>([&](auto u) IRK_LAMBDA {
          x[u][0] = vld1q_s8(from), x[u][1] = vld1q_s8(from + 16);
          from += sw;
        });
        add(w, x);
      }
    } else {
      unroll<Sw>([&](auto first) IRK_LAMBDA {  // the kernel columns first, first + Sw ...: inputs move along by one
        constexpr int kFirst = decltype(first)::value;
        unroll<(Kw - 1 - kFirst) / Sw + 1>([&](auto i) IRK_LAMBDA {
          constexpr int kStep = decltype(i)::value;
          unroll<kTallColumns>([&](auto u) IRK_LAMBDA {
            constexpr bool kHere = kStep > 0 && decltype(u)::value + 1 < kTallColumns;
            unroll<2>([&](auto h) IRK_LAMBDA {
              x[u][h] = kHere ? x[(u + 1) % kTallColumns][h] : vld1q_s8(at + ((u + kStep) * Sw + kFirst) * 32 + 16 * h);
            });
          });
          add(w + (kFirst + kStep * Sw) * 64, x);
        });
      });
      w += Kw * 64;
    }
  }
}

// Columns of the output are c bytes apart.
template <class Requant>
IRK_INLINE void tall_store_tile(const QDwTall& p, const int32x4_t (&s)[2][kTallColumns][2], const float* multipliers,
                                int8_t* const (&out)[2], int64_t c) {
  const Requant requant(p.zy, p.lo, p.hi);
  const float32x4_t m[2] = {vld1q_f32(multipliers), vld1q_f32(multipliers + 4)};
  unroll<2>([&](auto i) IRK_LAMBDA {
    constexpr int r = 1 - decltype(i)::value;  // the upper row last: it may be the same
    unroll<kTallColumns>([&](auto u) IRK_LAMBDA { vst1_s8(out[r] + u * c, requant.eight(s[r][u], m)); });
  });
}

template <int Kw, int Sw>
__attribute__((noinline)) void tall_rows(const QDwTall& p, const int8_t* const* groups, int64_t count, const int8_t* w,
                                         const int32_t* bias, const float* m, uint8_t kind, int8_t* const (&rows)[2]) {
  int8_t few[2][8 * kTallColumns];  // outputs of an image narrower than a tile
  const bool narrow = p.ow < kTallColumns;
  const int64_t c = narrow ? 8 : p.c, last = p.ow - kTallColumns;
  for (int64_t x = 0; x < p.ow; x += kTallColumns) {
    if (x > last && !narrow) x = last;
    int32x4_t s[2][kTallColumns][2];
    unroll<2>([&](auto h) IRK_LAMBDA {
      const int32x4_t b = vld1q_s32(bias + 4 * h);
      unroll<2>([&](auto r) IRK_LAMBDA { unroll<kTallColumns>([&](auto u) IRK_LAMBDA { s[r][u][h] = b; }); });
    });
    tall_sums<Kw, Sw>(p, groups, count, x * p.sw * 32, w, s);
    int8_t* const out[2] = {narrow ? few[0] : rows[0] + x * c, narrow ? few[1] : rows[1] + x * c};
    if (kind & kQDwSmall)
      tall_store_tile<RequantSmallNeon>(p, s, m, out, c);
    else if (kind & kQDwScaled)
      tall_store_tile<RequantScaledNeon>(p, s, m, out, c);
    else
      tall_store_tile<RequantNeon>(p, s, m, out, c);
  }
  if (!narrow) return;
  for (int64_t x = 0; x < p.ow; x++) {
    vst1_s8(rows[1] + x * p.c, vld1_s8(few[1] + 8 * x));
    vst1_s8(rows[0] + x * p.c, vld1_s8(few[0] + 8 * x));
  }
}

// One block of channels of output rows [y0, y1); x and y: of the image.
inline void tall_block(const QDwTall& p, const int8_t* x, int8_t* y, int8_t* scratch, int64_t block, int64_t y0,
                       int64_t y1) {
  const int64_t c0 = block < p.blocks ? block * kTallWidth : p.c - kTallWidth;
  const int64_t half = tall_half(p), row = p.ow * p.c;
  const int8_t* w = p.w + block * 2 * p.phase_bytes;
  const int32_t* bias = p.bias + block * kTallWidth;
  const float* m = p.m + block * kTallWidth;
  const uint8_t kind = p.kinds[block];
  int64_t next = y0 * p.sh / 4;  // the next group to interleave
  for (int64_t oh = y0; oh < y1; oh += 2) {
    const int64_t first = oh * p.sh / 4, phase = oh * p.sh % 4 / 2, count = p.groups[phase];
    const int8_t* groups[2][kTallRing];
    if (next < first) next = first;
    for (; next < first + count; next++) tall_interleave(p, x + c0, next, scratch + next % p.ring * 2 * half);
    for (int64_t g = 0; g < count; g++) {
      groups[0][g] = scratch + (first + g) % p.ring * 2 * half;
      groups[1][g] = groups[0][g] + half;
    }
    for (int64_t e = 0; e < 2; e++) {
      int8_t* out[2];
      out[0] = y + oh * row + c0 + 8 * e;
      out[1] = oh + 1 < y1 ? out[0] + row : out[0];
      const int8_t* weights = w + phase * p.phase_bytes + e * count * p.kw * 64;
      if (p.kw == 5 && p.dw == 1 && p.sw == 1)
        tall_rows<5, 1>(p, groups[e], count, weights, bias + 8 * e, m + 8 * e, kind, out);
      else if (p.kw == 5 && p.dw == 1 && p.sw == 2)
        tall_rows<5, 2>(p, groups[e], count, weights, bias + 8 * e, m + 8 * e, kind, out);
      else
        tall_rows<0, 0>(p, groups[e], count, weights, bias + 8 * e, m + 8 * e, kind, out);
    }
  }
}

inline void tall_items(const QDwTall& p, void* const* bufs, int64_t begin, int64_t end) {
  int8_t* scratch = static_cast<int8_t*>(bufs[6]);
  tall_pad(p, scratch);
  each_tall_item(p, bufs, begin, end, [&](auto... of) IRK_LAMBDA { tall_block(p, of...); });
}

}  // namespace
}  // namespace irk
