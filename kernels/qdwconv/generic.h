// The loops around the two stages, the same for every ISA.
//
// Ops::kDepth rows make a group. Ops::interleave(p, block, rows, col, count, dst) writes `count` columns of one plane,
// first input column col, then every sw-th; rows are null outside the image. Ops::outputs<...> makes one output row.
#pragma once
#include "qdwconv/qdwconv.h"

namespace irk {
namespace {

template <class Ops>
void qdw_run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QDwParams& p = *static_cast<const QDwParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* res = p.residual ? static_cast<const int8_t*>(bufs[4]) : nullptr;
  char* y = static_cast<char*>(bufs[5]);
  char* scratch = static_cast<char*>(bufs[6]);
  const int64_t row_bytes = p.taps * Ops::kVectors * Ops::kVectorBytes;  // weights of one row of the band
  const int64_t inner = p.across ? p.blocks : p.bands, outer = p.across ? p.bands : p.blocks;
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item % inner, o = item / inner % outer, n = item / inner / outer;
    const int64_t block = p.across ? i : o, band = p.across ? o : i;
    const QDwBlock& b = p.block[block];
    const int64_t* offsets = p.offsets + block * p.taps;
    const int8_t* image = x + n * p.ih * p.iw * p.c + b.c0;
    const int64_t y0 = band * p.band, y1 = y0 + p.band < p.oh ? y0 + p.band : p.oh;
    const int64_t used = (y1 - y0 - 1) * p.sh + p.kh;  // rows of the groups that have a weight
    for (int64_t x0 = 0; x0 < p.ow; x0 += p.chunk) {
      const int64_t count = p.ow - x0 < p.chunk ? p.ow - x0 : p.chunk;
      for (int64_t g = 0; g < p.groups; g++) {
        const int8_t* rows[Ops::kDepth];
        for (int t = 0; t < Ops::kDepth; t++) {
          const int64_t row = g * Ops::kDepth + t, ih = y0 * p.sh - p.pt + row * p.row_step;
          rows[t] = row < used && ih >= 0 && ih < p.ih ? image + ih * p.iw * p.c : nullptr;
        }
        for (int64_t q = 0; q < p.planes; q++)
          Ops::interleave(p, b, rows, x0 * p.sw - p.pl + q, count + p.reach, scratch + g * b.group + q * b.plane);
      }
      const uint8_t* w = p.w + b.w;
      int64_t at = ((n * p.oh + y0) * p.ow + x0) * p.c + b.c0;
      for (int64_t oh = y0; oh < y1; oh++, at += p.ow * p.c, w += row_bytes)
        Ops::outputs(p, b, offsets, scratch, w, count, y + at * (p.f32 ? 4 : 1), res ? res + at : nullptr);
    }
  }
}

// Columns [first, stop) of the plane that starts at input column col are inside the image.
struct QDwInside {
  int64_t first, stop;
};

inline QDwInside qdw_inside(const QDwParams& p, int64_t col) {
  int64_t before = col < 0 ? -col : 0, after = col < p.iw ? p.iw - 1 - col : -1;
  if (p.sw == 1) return {before, after + 1};
  if (p.sw == 2) return {(before + 1) >> 1, (after >> 1) + 1};
  return {(before + p.sw - 1) / p.sw, after < 0 ? 0 : after / p.sw + 1};
}

}  // namespace
}  // namespace irk
