// The loops around the two stages, the same for every ISA.
//
// Ops::kDepth rows make a group. Ops::interleave(p, block, rows, col, count, dst) writes `count` columns of one plane,
// first input column col, then every sw-th; rows are null outside the image. Ops::outputs<...> makes one output row.
#pragma once
#include "qdwconv/qdwconv.h"

namespace irk {
namespace {

// Geometry of the scratch of one pass: [group][vector][plane][column].
struct QDwScratch {
  int64_t columns;               // per plane
  int64_t plane, vector, group;  // bytes
};

template <class Ops>
QDwScratch qdw_scratch(const QDwParams& p, int64_t width) {
  QDwScratch s;
  s.columns = (p.chunk - 1) + ((p.kw - 1) * p.dw) / p.sw + 1 + Ops::kSlack;
  s.plane = s.columns * width * Ops::kDepth * Ops::kSize / Ops::kVectors;
  s.vector = s.plane * (p.sw < (p.kw - 1) * p.dw + 1 ? p.sw : (p.kw - 1) * p.dw + 1);
  s.group = s.vector * Ops::kVectors;
  return s;
}

template <class Ops>
void qdw_run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QDwParams& p = *static_cast<const QDwParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* res = p.residual ? static_cast<const int8_t*>(bufs[4]) : nullptr;
  char* y = static_cast<char*>(bufs[5]);
  char* scratch = static_cast<char*>(bufs[6]);
  const int64_t planes = p.sw < (p.kw - 1) * p.dw + 1 ? p.sw : (p.kw - 1) * p.dw + 1;
  for (int64_t item = begin; item < end; item++) {
    const QDwBlock& b = p.block[item % p.blocks];
    const int64_t band = item / p.blocks % p.bands, n = item / p.blocks / p.bands;
    const int8_t* image = x + n * p.ih * p.iw * p.c + b.c0;
    const int64_t y0 = band * p.band, y1 = y0 + p.band < p.oh ? y0 + p.band : p.oh;
    const QDwScratch s = qdw_scratch<Ops>(p, b.width);
    for (int64_t x0 = 0; x0 < p.ow; x0 += p.chunk) {
      const int64_t count = p.ow - x0 < p.chunk ? p.ow - x0 : p.chunk;
      const int64_t columns = count + ((p.kw - 1) * p.dw) / p.sw;
      for (int64_t g = 0; g < p.groups; g++) {
        const int8_t* rows[Ops::kDepth];
        bool any = false;
        for (int t = 0; t < Ops::kDepth; t++) {
          const int64_t ih = y0 * p.sh - p.pt + (g * Ops::kDepth + t) * p.row_step;
          rows[t] = ih >= 0 && ih < p.ih ? image + ih * p.iw * p.c : nullptr;
          any |= rows[t] != nullptr;
        }
        (void)any;
        for (int64_t q = 0; q < planes; q++)
          Ops::interleave(p, b, s, rows, x0 * p.sw - p.pl + q, columns, scratch + g * s.group + q * s.plane);
      }
      for (int64_t oh = y0; oh < y1; oh++) {
        const int64_t at = ((n * p.oh + oh) * p.ow + x0) * p.c + b.c0;
        const uint8_t* w = p.w + b.w + (oh - y0) * p.taps * Ops::kVectors * Ops::kVectorBytes;
        Ops::outputs(p, b, s, scratch, w, count, y + at * (p.f32 ? 4 : 1), res ? res + at : nullptr);
      }
    }
  }
}

// Offset in the scratch of the first column that tap (group, kernel column) reads.
inline int64_t qdw_offset(const QDwParams& p, const QDwScratch& s, int64_t group, int64_t kw, int64_t column_bytes) {
  const int64_t col = kw * p.dw;
  return group * s.group + col % p.sw * s.plane + col / p.sw * column_bytes;
}

}  // namespace
}  // namespace irk
