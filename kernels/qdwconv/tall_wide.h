// Depthwise layers of any kernel and stride on NEON without dot products, for int8 output without residual (see
// tall.h).
//
// Scratch is a ring of padded input rows of sixteen channels. One output row is made at a time, two columns at once.
// Products of int8 are added to int16 as long as they fit; which pairs of taps begin a new sum is known for each block.
#pragma once
#include "base/requant_neon.h"
#include "qdwconv/direct.h"
#include "qdwconv/tall.h"

namespace irk {
namespace {

struct WideSums {
  int32x4_t s[2][4];  // [column][quarter of the channels]
  int16x8_t h[2][2];  // [column][half]

  IRK_INLINE void add(int u, int8x16_t x, int8x16_t w) {
    h[u][0] = vmlal_s8(h[u][0], vget_low_s8(x), vget_low_s8(w));
    h[u][1] = vmlal_high_s8(h[u][1], x, w);
  }
  IRK_INLINE void begin(int u, int8x16_t x, int8x16_t w) {
    h[u][0] = vmull_s8(vget_low_s8(x), vget_low_s8(w));
    h[u][1] = vmull_high_s8(x, w);
  }
  IRK_INLINE void flush() {
    unroll<2>([&](auto u) IRK_LAMBDA {
      unroll<2>([&](auto i) IRK_LAMBDA {
        s[u][2 * i] = vaddw_s16(s[u][2 * i], vget_low_s16(h[u][i]));
        s[u][2 * i + 1] = vaddw_high_s16(s[u][2 * i + 1], h[u][i]);
      });
    });
  }
};

// A square kernel. Bit t / 2 of `fresh`: taps t and t + 1 don't fit into the sum of those before.
template <int K, int Sw>
IRK_INLINE void wide_square(const int8_t* const* rows, int64_t column, const int8_t* w, uint32_t fresh, WideSums& to) {
  unroll<K>([&](auto kh) IRK_LAMBDA {
    constexpr int kRow = decltype(kh)::value;
    int8x16_t x[K + Sw];
    const int8_t* from = rows[kRow] + column;
    unroll<K + Sw>([&](auto i) IRK_LAMBDA { x[i] = vld1q_s8(from + 16 * i); });
    unroll<K>([&](auto kw) IRK_LAMBDA {
      constexpr int kColumn = decltype(kw)::value, kTap = kRow * K + kColumn;
      const int8x16_t v = vld1q_s8(w + 16 * kTap);
      if constexpr (kTap == 0) {
        to.begin(0, x[0], v);
        to.begin(1, x[Sw], v);
      } else {
        if (kTap % 2 == 0 && (fresh >> (kTap / 2) & 1)) {
          to.flush();
          to.begin(0, x[kColumn], v);
          to.begin(1, x[kColumn + Sw], v);
        } else {
          to.add(0, x[kColumn], v);
          to.add(1, x[kColumn + Sw], v);
        }
      }
    });
  });
  to.flush();
}

inline void wide_any(const QDwTall& p, const int8_t* const* rows, int64_t column, const int8_t* w, WideSums& to) {
  const int64_t kh = p.kh, kw = p.kw, dw = 16 * p.dw, sw = 16 * p.sw;
  for (int64_t r = 0; r < kh; r++) {
    const int8_t* from = rows[r] + column;
    for (int64_t k = 0; k < kw; k += 2, from += 2 * dw) {
      const int8x16_t v = vld1q_s8(w);
      to.begin(0, vld1q_s8(from), v);
      to.begin(1, vld1q_s8(from + sw), v);
      w += 16;
      if (k + 1 < kw) {
        const int8x16_t next = vld1q_s8(w);
        to.add(0, vld1q_s8(from + dw), next);
        to.add(1, vld1q_s8(from + dw + sw), next);
        w += 16;
      }
      to.flush();
    }
  }
}

template <class Requant>
IRK_INLINE void wide_store(const QDwTall& p, const WideSums& sums, const float* multipliers, int8_t* out, bool two) {
  const Requant requant(p.zy, p.lo, p.hi);
  const float32x4_t m[4] = {vld1q_f32(multipliers), vld1q_f32(multipliers + 4), vld1q_f32(multipliers + 8),
                            vld1q_f32(multipliers + 12)};
  vst1q_s8(out, requant.sixteen(sums.s[0], m));
  if (two) vst1q_s8(out + p.c, requant.sixteen(sums.s[1], m));
}

// One output row; K 0: any kernel.
template <int K, int Sw>
__attribute__((noinline)) void wide_row(const QDwTall& p, const int8_t* const* rows, int64_t block, int8_t* out) {
  const int8_t* w = p.w + block * p.phase_bytes;
  const int32_t* bias = p.bias + block * kTallWidth;
  const float* m = p.m + block * kTallWidth;
  const uint8_t kind = p.kinds[block];
  const uint32_t fresh = p.fresh[block];
  for (int64_t x = 0; x < p.ow; x += 2) {
    WideSums sums;
    unroll<4>([&](auto q) IRK_LAMBDA { sums.s[0][q] = sums.s[1][q] = vld1q_s32(bias + 4 * q); });
    if constexpr (K > 0)
      wide_square<K, Sw>(rows, x * 16 * Sw, w, fresh, sums);
    else
      wide_any(p, rows, x * 16 * p.sw, w, sums);
    if (kind & kQDwSmall)
      wide_store<RequantSmallNeon>(p, sums, m, out + x * p.c, x + 1 < p.ow);
    else if (kind & kQDwScaled)
      wide_store<RequantScaledNeon>(p, sums, m, out + x * p.c, x + 1 < p.ow);
    else
      wide_store<RequantNeon>(p, sums, m, out + x * p.c, x + 1 < p.ow);
  }
}

IRK_INLINE void wide_fill(int8_t* to, int64_t columns, int32_t zx) {
  for (int64_t i = 0; i < columns; i++) vst1q_s8(to + 16 * i, vdupq_n_s8(static_cast<int8_t>(zx)));
}

// One block of channels of output rows [y0, y1); x and y: of the image.
inline void wide_block(const QDwTall& p, const int8_t* x, int8_t* y, int8_t* scratch, int64_t block, int64_t y0,
                       int64_t y1) {
  const int64_t c0 = block < p.blocks ? block * kTallWidth : p.c - kTallWidth;
  const int64_t bytes = (p.columns + p.slack) * 16, line = p.iw * p.c, c = p.c;
  const int64_t count = p.pl + p.iw < p.columns ? p.iw : p.columns - p.pl;
  int64_t next = y0 * p.sh;  // the next row to copy, counted from the first one of padding
  for (int64_t oh = y0; oh < y1; oh++) {
    const int64_t first = oh * p.sh;
    const int8_t* rows[kTallRows];
    if (next < first) next = first;
    for (; next < first + p.kh; next++) {
      const int64_t ih = next - p.pt;
      const int8_t* from = (ih >= 0 && ih < p.ih ? x + ih * line : p.line) + c0;
      int8_t* to = scratch + next % p.ring * bytes + p.pl * 16;
      for (int64_t i = 0; i < count; i++, from += c, to += 16) vst1q_s8(to, vld1q_s8(from));
    }
    for (int64_t r = 0; r < p.kh; r++) rows[r] = scratch + (first + r) % p.ring * bytes;
    int8_t* out = y + oh * p.ow * c + c0;
    if (p.kh == 5 && p.kw == 5 && p.dw == 1 && p.sw == 1)
      wide_row<5, 1>(p, rows, block, out);
    else if (p.kh == 5 && p.kw == 5 && p.dw == 1 && p.sw == 2)
      wide_row<5, 2>(p, rows, block, out);
    else
      wide_row<0, 0>(p, rows, block, out);
  }
}

inline void wide_items(const QDwTall& p, void* const* bufs, int64_t begin, int64_t end) {
  int8_t* scratch = static_cast<int8_t*>(bufs[6]);
  for (int64_t r = 0; r < p.ring; r++) {
    int8_t* row = scratch + r * (p.columns + p.slack) * 16;
    wide_fill(row, p.pl < p.columns ? p.pl : p.columns, p.zx);
    if (p.pl + p.iw < p.columns) wide_fill(row + (p.pl + p.iw) * 16, p.columns - p.pl - p.iw, p.zx);
  }
  each_tall_item(p, bufs, begin, end, [&](auto... of) IRK_LAMBDA { wide_block(p, of...); });
}

}  // namespace
}  // namespace irk
