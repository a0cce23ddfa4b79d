// What the NEON levels of qdwconv share: blocks of 16 channels.
#pragma once
#include "base/requant_neon.h"
#include "qdwconv/generic.h"

namespace irk {
namespace {

// Sixteen channels, or the first n of them without touching what lies behind.
inline int8x16_t load_channels(const int8_t* p, int64_t n) {
  if (n == 16) return vld1q_s8(p);
  int8_t part[16] = {0};
  memcpy(part, p, static_cast<size_t>(n));
  return vld1q_s8(part);
}

inline void finish_columns(const QDwParams& p, const QDwBlock& b, const int32_t* sums, int64_t columns, char* out,
                           const int8_t* res) {
  const RequantNeon e(p.zy, p.lo, p.hi, p.zr, p.mr);
  const float* m = p.m + b.lanes;
  for (int64_t i = 0; i < columns; i++, sums += 16) {
    if (p.f32)
      requant_f32_neon(sums, m, b.n, reinterpret_cast<float*>(out) + i * p.c);
    else
      e.bytes(sums, m, b.n, res ? res + i * p.c : nullptr, reinterpret_cast<int8_t*>(out) + i * p.c);
  }
}

// Ops::sum_taps for four columns at a time; the last ones may lie beyond those that count, in the slack of the scratch.
template <class Ops>
void output_columns(const QDwParams& p, const QDwBlock& b, const int64_t* offsets, const char* src, const uint8_t* w,
                    int64_t count, char* out, const int8_t* res) {
  int32_t sums[4 * 16];
  const int64_t step = 4 * p.c;
  for (; count > 0; count -= 4, src += 4 * Ops::kVectorBytes, out += step * (p.f32 ? 4 : 1)) {
    Ops::sum_taps(p, b, offsets, src, w, sums);
    finish_columns(p, b, sums, count < 4 ? count : 4, out, res);
    if (res) res += step;
  }
}

}  // namespace
}  // namespace irk
