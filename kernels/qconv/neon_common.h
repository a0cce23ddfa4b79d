// What the three NEON levels share: copying bytes into the scratch, and the epilogue of a tile.
#pragma once
#include "base/requant_neon.h"
#include "qconv/generic.h"

namespace irk {
namespace {

inline void copy_bytes(int8_t* dst, const int8_t* src, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) vst1q_s8(dst + i, vld1q_s8(src + i));
  if (i == n) return;
  if (n >= 16) {
    vst1q_s8(dst + n - 16, vld1q_s8(src + n - 16));  // overlaps what is written already, with the same values
    return;
  }
  if (n >= 8) {
    const int8x8_t a = vld1_s8(src), b = vld1_s8(src + n - 8);
    vst1_s8(dst, a);
    vst1_s8(dst + n - 8, b);
    return;
  }
  for (; i < n; i++) dst[i] = src[i];
}

// Writes up to 15 elements too many: what follows is written later, or is slack.
inline void fill_bytes(int8_t* dst, int64_t n, int32_t zx) {
  for (int64_t i = 0; i < n; i += 16) vst1q_s8(dst + i, vdupq_n_s8(static_cast<int8_t>(zx)));
}

// Sums of a tile, `rows` rows 16 apart.
inline void finish_neon(const int32_t* sums, int64_t rows, const QTile& t, const QConvParams& p) {
  const RequantNeon e(p.zy, p.lo, p.hi, p.zr, p.mr);
  const int64_t n = t.n;
  if (p.f32) {
    float* d = static_cast<float*>(t.out);
    for (int64_t r = 0; r < rows; r++) requant_f32_neon(sums + 16 * r, t.m, n, d + r * p.oc);
    return;
  }
  int8_t* d = static_cast<int8_t*>(t.out);
  for (int64_t r = 0; r < rows; r++) e.bytes(sums + 16 * r, t.m, n, t.res ? t.res + r * p.oc : nullptr, d + r * p.oc);
}

}  // namespace
}  // namespace irk
