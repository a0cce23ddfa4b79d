// The loops around a tile for kernels that take a pointer per row of the product. Rows are read where they are: in the
// input itself, or, where the window meets padding, in a copy of the block's input lines. Only short runs (first
// layers, few channels) are gathered row by row.
//
// Ops gives
//   copy(dst, src, n)           n bytes; the slack of 16 bytes behind them may be written
//   fill(dst, n, zx)            the same with one value
//   gather(dst, lda, src, step, n, count)  n bytes from each of `count` places; 15 more may be read and written
//   kPanels, arrange(...)       true when the kernel wants another order of the bytes: arrange makes it once per block
//   panel<NV>(QPanel, params)   NV vectors of columns for all rows of the block
#pragma once
#include "base/unroll.h"
#include "qconv/qconv.h"

namespace irk {
namespace {

// One column tile times the rows of a block.
struct QPanel {
  const int8_t* const* rows;  // first byte of each row
  const int8_t* arranged;     // what Ops::arrange wrote
  int64_t count;              // rows
  const uint8_t* w;           // packed weights of this column tile
  const int32_t* bias;
  const float* m;
  const int8_t* res;  // residual at the first output, or null
  char* out;
  int64_t n;  // valid columns
};

struct QBlock {
  int64_t m0, count;   // rows of the product
  int64_t lines;       // output lines, unless flat
  const int8_t* base;  // first byte of the first row, group 0
};

template <class Ops>
void qconv_copy_lines(const QConvParams& p, const int8_t* image, int64_t top, int64_t count, int8_t* dst) {
  const QRows& q = p.rows;
  const int64_t left = p.pl < q.cols ? p.pl : q.cols;
  const int64_t inside = q.cols - left < p.iw ? q.cols - left : p.iw;
  const int64_t right = q.cols - left - inside;
  for (int64_t j = 0; j < count; j++, dst += q.pitch) {
    const int64_t ih = top + j;
    if (ih < 0 || ih >= p.ih) {
      Ops::fill(dst, q.cols * p.ic, p.zx);
      continue;
    }
    Ops::fill(dst, left * p.ic, p.zx);
    Ops::copy(dst + left * p.ic, image + ih * p.iw * p.ic, inside * p.ic);
    if (right) Ops::fill(dst + (left + inside) * p.ic, right * p.ic, p.zx);
  }
}

template <class Ops>
QBlock qconv_block(const QConvParams& p, const int8_t* x, int64_t b, int8_t* scratch) {
  const QRows& q = p.rows;
  QBlock k;
  if (q.flat) {
    k.m0 = b * p.block_rows;
    k.count = p.pixels - k.m0 < p.block_rows ? p.pixels - k.m0 : p.block_rows;
    k.lines = 0;
    k.base = x + k.m0 * p.ic;
    return k;
  }
  const int64_t n = b / q.image_blocks, l0 = b % q.image_blocks * q.block_lines;
  k.lines = p.oh - l0 < q.block_lines ? p.oh - l0 : q.block_lines;
  k.m0 = (n * p.oh + l0) * p.ow;
  k.count = k.lines * p.ow;
  const int8_t* image = x + n * p.ih * p.iw * p.ic;
  const int64_t top = l0 * p.sh - p.pt;
  if (q.lines) {
    qconv_copy_lines<Ops>(p, image, top, (k.lines - 1) * p.sh + (p.kh - 1) * p.dh + 1, scratch + q.at_lines);
    k.base = scratch + q.at_lines;
  } else {
    k.base = image + top * q.pitch;
  }
  return k;
}

// Every run of every row of the block, one after the other; what is written too much is overwritten by the next run
// or lies in the gap between rows.
template <class Ops>
void qconv_gather(const QConvParams& p, const QBlock& k, const int8_t* base, int8_t* dst) {
  const QRows& q = p.rows;
  const int64_t step = p.sw * p.ic;
  for (int64_t l = 0; l < k.lines; l++, base += p.sh * q.pitch, dst += p.ow * q.lda) {
    for (int64_t s = 0; s < q.parts; s++) Ops::gather(dst + s * q.part, q.lda, base + q.part_at[s], step, q.part, p.ow);
  }
}

// Pointers to `count` rows, `step` bytes apart; returns where the next ones go.
IRK_NOINLINE inline const int8_t** qconv_point_line(const int8_t** rows, const int8_t* row, int64_t step,
                                                    int64_t count) {
  const int8_t* odd = row + step;  // two at a time, so that one instruction stores both
  for (; count >= 8; count -= 8, rows += 8) {
    unroll<4>([&](auto i) IRK_LAMBDA {
      rows[2 * i] = row, rows[2 * i + 1] = odd;
      row += 2 * step, odd += 2 * step;
    });
  }
  for (; count > 0; count--, row += step) *rows++ = row;
  return rows;
}

// Pointers to the rows of the block for group g.
template <class Ops>
void qconv_point(const QConvParams& p, const QBlock& k, int64_t g, const int8_t* x, int8_t* scratch,
                 const int8_t** rows) {
  const QRows& q = p.rows;
  const int8_t* base = k.base + g * p.icg;
  if (q.gather) {
    qconv_gather<Ops>(p, k, base, scratch + q.at_rows);
    base = scratch + q.at_rows;
    qconv_point_line(rows, base, q.lda, k.count);
    return;
  }
  if (q.flat) {
    qconv_point_line(rows, base, p.ic, k.count);
  } else {
    const int8_t** at = rows;
    for (int64_t l = 0; l < k.lines; l++, base += p.sh * q.pitch) at = qconv_point_line(at, base, p.sw * p.ic, p.ow);
  }
  if (q.lines || q.run % 16 == 0) return;
  // Reading whole vectors must not leave the input: its last rows are read from a copy.
  const int64_t whole = (q.run + 15) / 16 * 16;
  const int8_t* end = x + q.in_bytes;
  int8_t* copy = scratch + q.at_lines;
  for (int64_t i = k.count - 1; i >= 0 && end - rows[i] < whole; i--, copy += whole) {
    Ops::copy(copy, rows[i], q.run);
    rows[i] = copy;
  }
}

template <class Ops>
void qconv_rows_run(void* const* bufs, const void* params, int64_t begin, int64_t end) {
  const QConvParams& p = *static_cast<const QConvParams*>(params);
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* res = p.residual ? static_cast<const int8_t*>(bufs[4]) : nullptr;
  char* out = static_cast<char*>(bufs[5]);
  int8_t* scratch = static_cast<int8_t*>(bufs[6]);
  const int8_t** rows = static_cast<const int8_t**>(bufs[6]);
  const int64_t osize = p.f32 ? 4 : 1;
  QBlock k = {0, 0, 0, nullptr};
  int64_t block = -1, ready = -1;
  for (int64_t item = begin; item < end; item++) {
    const int64_t nb = item % p.n_blocks, bg = item / p.n_blocks;
    const int64_t g = bg % p.groups, b = bg / p.groups;
    if (b != block) {
      k = qconv_block<Ops>(p, x, b, scratch);
      block = b;
    }
    if (bg != ready) {
      qconv_point<Ops>(p, k, g, x, scratch, rows);
      if (Ops::kPanels) Ops::arrange(p, rows, k.count, scratch + p.rows.at_panels);
      ready = bg;
    }
    const int64_t t1 = (nb + 1) * p.block_tiles < p.tiles ? (nb + 1) * p.block_tiles : p.tiles;
    for (int64_t t = nb * p.block_tiles; t < t1; t++) {
      const int64_t first = k.m0 * p.oc + g * p.ocg + t * p.nr, slot = (g * p.tiles + t) * p.nr;
      QPanel q;
      q.rows = rows;
      q.arranged = scratch + p.rows.at_panels;
      q.count = k.count;
      q.w = p.w + g * p.group_bytes + t * p.tile_bytes;
      q.bias = p.bias + slot;
      q.m = p.m + slot;
      q.res = res ? res + first : nullptr;
      q.out = out + first * osize;
      q.n = p.ocg - t * p.nr < p.nr ? p.ocg - t * p.nr : p.nr;
      switch ((q.n + 3) / 4) {
        case 4:
          Ops::template panel<4>(q, p);
          break;
        case 3:
          Ops::template panel<3>(q, p);
          break;
        case 2:
          Ops::template panel<2>(q, p);
          break;
        default:
          Ops::template panel<1>(q, p);
      }
    }
  }
}

}  // namespace
}  // namespace irk
