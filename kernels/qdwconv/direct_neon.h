// The loops around the direct kernels (see direct.h).
//
// Ops: kWidth channels make a block; kRows output rows are made at once from kReach input rows. Ops(p, block) loads
// weights; row(p, rows, out) makes output rows out[]: when the image has no second one, out[1] is out[0]. rows point to
// the last but kStride - 1 column of the first window.
#pragma once
#include "base/requant_neon.h"
#include "qdwconv/direct.h"

namespace irk {
namespace {

template <class Ops>
__attribute__((noinline)) void direct_block(const QDwDirect& p, const int8_t* x, int8_t* y, int64_t block, int64_t y0,
                                            int64_t y1) {
  const int64_t last = p.c - Ops::kWidth, c0 = block * Ops::kWidth < last ? block * Ops::kWidth : last;
  const Ops ops(p, block);
  const int64_t line = p.iw * p.c, out_row = p.ow * p.c, start = c0 + (3 - Ops::kStride - p.pl) * p.c;
  const uint64_t height = static_cast<uint64_t>(p.ih);
  const int8_t* const outside = p.line + start;
  int64_t ih = y0 * Ops::kStride - p.pt;
  const int8_t* from = x + start + ih * line;
  int8_t* out[2] = {y + y0 * out_row + c0, nullptr};
  for (int64_t oh = y0; oh < y1; oh += Ops::kRows) {
    const int8_t* rows[Ops::kReach];
    unroll<Ops::kReach>(
        [&](auto t) IRK_LAMBDA { rows[t] = static_cast<uint64_t>(ih + t) < height ? from + t * line : outside; });
    out[1] = oh + 1 < y1 ? out[0] + out_row : out[0];
    ops.row(p, rows, out);
    ih += Ops::kStride * Ops::kRows;
    from += Ops::kStride * Ops::kRows * line;
    out[0] += Ops::kRows * out_row;
  }
}

// Run::block<Requant>(p, x, y, block, y0, y1) makes output rows [y0, y1) of a block of channels.
template <class Run>
void direct_items(const QDwDirect& p, void* const* bufs, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; item++) {
    const int64_t block = item % p.blocks, band = item / p.blocks % p.bands, n = item / p.blocks / p.bands;
    const int64_t y0 = band * p.band, y1 = y0 + p.band < p.oh ? y0 + p.band : p.oh;
    const int8_t* x = static_cast<const int8_t*>(bufs[0]) + n * p.ih * p.iw * p.c;
    int8_t* y = static_cast<int8_t*>(bufs[5]) + n * p.oh * p.ow * p.c;
    const int64_t last = p.rest && block + 1 == p.blocks ? block + 1 : block;
    for (int64_t b = block; b <= last; b++) {
      if (p.kinds[b] & kQDwSmall)
        Run::template block<RequantSmallNeon>(p, x, y, b, y0, y1);
      else if (p.kinds[b] & kQDwScaled)
        Run::template block<RequantScaledNeon>(p, x, y, b, y0, y1);
      else
        Run::template block<RequantNeon>(p, x, y, b, y0, y1);
    }
  }
}

// Windows of three columns, one column apart: load(rows, at) reads a column, outputs(a, b, c, at) makes outputs. rows
// point to the last column of the first window.
template <int Reach, class Column, class Load, class Outputs>
IRK_INLINE void slide_by_one(const QDwDirect& p, const int8_t* const (&rows)[Reach], const Column& padding, Load load,
                             Outputs outputs) {
  const int64_t c = p.c, ow = p.ow, inner = p.inner;
  Column k0 = p.pl > 0 ? padding : load(rows, -2 * c);
  Column k1 = p.pl > 1 || p.iw + p.pl < 2 ? padding : load(rows, -c);
  int64_t i = 0, at = 0;
  for (; i + 3 <= inner; i += 3) {
    const Column k2 = load(rows, at);
    outputs(k0, k1, k2, at);
    k0 = load(rows, at += c);
    outputs(k1, k2, k0, at);
    k1 = load(rows, at += c);
    outputs(k2, k0, k1, at);
    at += c;
  }
  for (; i < ow; i++, at += c) {
    const Column k2 = i < inner ? load(rows, at) : padding;
    outputs(k0, k1, k2, at);
    k0 = k1;
    k1 = k2;
  }
}

// Windows of three columns, two columns apart: output(left, middle, right, to) makes one output and returns what the
// next window takes for its left column; `kept` is that of the first window. rows point to its middle column.
template <int Reach, class Column, class Kept, class Load, class Output>
IRK_INLINE void slide_by_two(const QDwDirect& p, const int8_t* const (&rows)[Reach], const Column& padding, Kept kept,
                             int8_t* to, Load load, Output output) {
  const int64_t c = p.c, ow = p.ow, inner = p.inner, iw = p.iw, pl = p.pl;
  int64_t i = 0, at = 0;
  for (; i + 2 <= inner; i += 2) {
    const Kept next = output(kept, load(rows, at), load(rows, at + c), to);
    kept = output(next, load(rows, at + 2 * c), load(rows, at + 3 * c), to + c);
    at += 4 * c;
    to += 2 * c;
  }
  for (; i < ow; i++) {
    kept = output(kept, 2 * i + 1 - pl < iw ? load(rows, at) : padding, i < inner ? load(rows, at + c) : padding, to);
    at += 2 * c;
    to += c;
  }
}

}  // namespace
}  // namespace irk
