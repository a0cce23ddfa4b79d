// The rows that amx.cc multiplies: a block's input lines with their padding, or its rows made contiguous, or rows of
// the input itself; and where their outputs go.
#pragma once
#include <immintrin.h>

#include "base/ints.h"
#include "base/unroll.h"
#include "qconv/generic.h"

namespace irk {
namespace {

struct Ops {
  using A = int8_t;
  // Writes 32 elements whatever the run.
  struct Short {
    __mmask32 mask;
    explicit Short(int64_t n) : mask(~0u >> (32 - n)) {}
    IRK_INLINE void operator()(A* dst, const int8_t* src) const {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_maskz_loadu_epi8(mask, src));
    }
  };
  // Writes up to 63 elements too many: what follows is written later, or is slack.
  static IRK_INLINE void copy(A* dst, const int8_t* src, int64_t n) {
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) _mm512_storeu_si512(dst + i, _mm512_loadu_si512(src + i));
    if (i < n) _mm512_storeu_si512(dst + i, _mm512_maskz_loadu_epi8(~0ull >> (64 - (n - i)), src + i));
  }
  static IRK_INLINE void fill(A* dst, int64_t n, int32_t zx) {
    for (int64_t i = 0; i < n; i += 64) _mm512_storeu_si512(dst + i, _mm512_set1_epi8(static_cast<char>(zx)));
  }
};

// A block of rows: where they are, and where their outputs go.
struct Block {
  const int8_t** tiles;  // first row of each 16, which lie lda apart
  int64_t rows;
  char** to;            // output of each row, or some memory to spoil
  const int8_t** from;  // residual
  bool fetch;           // weights that come next: they aren't in L2 from the block before
};

// One line of `cols` columns with its padding; src null: outside the image. Writes up to 63 bytes too many.
IRK_NOINLINE void pad_line(const QConvParams& p, const int8_t* src, int64_t cols, int8_t* dst) {
  if (!src) {
    Ops::fill(dst, cols * p.icg, p.zx);
    return;
  }
  const int64_t left = p.pl < cols ? p.pl : cols;
  const int64_t n = p.iw < cols - left ? p.iw : cols - left;
  Ops::fill(dst, left * p.icg, p.zx);
  dst += left * p.icg;
  if (p.groups == 1) {
    Ops::copy(dst, src, n * p.ic);
    dst += n * p.ic;
  } else {
    for (int64_t i = 0; i < n; i++, dst += p.icg) Ops::copy(dst, src + i * p.ic, p.icg);
  }
  Ops::fill(dst, (cols - left - n) * p.icg, p.zx);
}

// Every sw-th of a line's columns, `count` of them from column `first` on, which may lie outside. Writes up to 63 bytes
// too many.
void pick_columns(const QConvParams& p, const int8_t* src, int64_t first, int64_t count, int8_t* dst) {
  // Columns before and up to the image's end.
  const auto until = [&](int64_t column) {
    const int64_t n = column > first ? ceil_div(column - first, p.sw) : 0;
    return n < count ? n : count;
  };
  const int64_t begin = src ? until(0) : count, end = src ? until(p.iw) : count;
  Ops::fill(dst, begin * p.icg, p.zx);
  const int64_t step = p.sw * p.ic;
  if (begin < end) src += (first + begin * p.sw) * p.ic;
  for (int64_t j = begin; j < end; j++, src += step) Ops::copy(dst + j * p.icg, src, p.icg);
  Ops::fill(dst + end * p.icg, (count - end) * p.icg, p.zx);
}

// Puts pieces of two lines, with their padding, side by side by turns, 64 bytes at a time; null: outside the image.
// Writes up to 63 bytes too many.
void interleave(const QConvParams& p, const int8_t* a, const int8_t* b, int8_t* to) {
  const QTilePlan& q = p.tiled;
  const int64_t vectors = (q.pitch * q.pixel + 63) / 64;
  const int64_t before = p.pl * p.ic, end = before + p.iw * p.ic;  // where the padded line has the image
  const __m512i outside = _mm512_set1_epi8(static_cast<char>(p.zx));
  const auto read = [&](const int8_t* line, int64_t at) IRK_LAMBDA {
    if (!line) return outside;
    if (at >= before && at + 64 <= end) return _mm512_loadu_si512(line + at - before);
    const auto bits = [](int64_t n) IRK_LAMBDA { return n <= 0 ? 0 : n >= 64 ? ~0ull : ~0ull >> (64 - n); };
    return _mm512_mask_loadu_epi8(outside, bits(end - at) & ~bits(before - at), line + at - before);
  };
  for (int64_t i = 0, k = 0; i < vectors; i++, k = k + 1 == q.picks ? 0 : k + 1) {
    const int64_t at = q.pick_from[i];
    _mm512_storeu_si512(to + 64 * i,
                        _mm512_permutex2var_epi16(read(a, at), _mm512_load_si512(q.pick + 32 * k), read(b, at)));
  }
}

// Copies the input lines of output lines [first, first + lines) to the scratch: one plane per phase of the strides, or
// all phases of a pixel side by side. follows: the scratch has those of the lines before.
void copy_planes(const QConvParams& p, const int8_t* image, int64_t first, int64_t lines, bool follows, int8_t* dst,
                 int8_t* line) {
  const QTilePlan& q = p.tiled;
  const int64_t high = (lines - 1) * p.sh + (p.kh - 1) * p.dh + 1;  // input lines
  const auto source = [&](int64_t y) IRK_LAMBDA {
    const int64_t ih = first * p.sh - p.pt + y;
    return ih >= 0 && ih < p.ih ? image + ih * p.iw * p.ic : nullptr;
  };
  const bool interleaved = q.way == QTilePlan::interleaved;
  const int64_t n = p.sw * p.ic;
  if (interleaved && q.picks) {
    const int64_t bytes = q.pitch * q.pixel, kept = follows ? (p.kh - 1) / 2 : 0;
    if (kept) Ops::copy(dst, dst + q.block_lines * bytes, kept * bytes);
    dst += kept * bytes;
    for (int64_t y = 2 * kept; y < high; y += 2, dst += bytes) interleave(p, source(y), source(y + 1), dst);
    return;
  }
  for (int64_t y = 0; y < high; y++) {
    const int64_t phase = y % p.sh;
    int8_t* to = dst + y / p.sh * q.pitch * q.pixel;
    if (interleaved) {
      pad_line(p, source(y), q.pitch * p.sw, line);
      const __mmask64 mask = ~0ull >> (64 - n);  // n is at most 64
      to += phase * n;
      for (int64_t j = 0; j < q.pitch; j++, to += q.pixel)
        _mm512_mask_storeu_epi8(to, mask, _mm512_loadu_si512(line + j * n));
    } else if (phase < q.phases_h) {
      to += phase * q.phases_w * q.plane;
      if (p.sw == 1) {
        pad_line(p, source(y), q.pitch, to);
        if (y + p.sh >= high) Ops::fill(to + q.pitch * q.pixel, (q.cols - q.pitch) * q.pixel, p.zx);
      } else {
        for (int64_t x = 0; x < q.phases_w; x++, to += q.plane) pick_columns(p, source(y), x - p.pl, q.pitch, to);
      }
    }
  }
}

// The block's lines or rows, and for each row where its outputs go. follows: the block before was the last one.
Block block_of(const QConvParams& p, void* const* bufs, int64_t g, int64_t m, bool follows) {
  const QTilePlan& q = p.tiled;
  const int8_t* x = static_cast<const int8_t*>(bufs[0]);
  const int8_t* res = static_cast<const int8_t*>(bufs[4]);
  char* out = static_cast<char*>(bufs[5]);
  int8_t* scratch = static_cast<int8_t*>(bufs[6]);
  int8_t* copy = scratch + q.at_copy;
  char* spoilt = reinterpret_cast<char*>(scratch + q.at_spoilt);
  Block b = {reinterpret_cast<const int8_t**>(scratch + q.at_tiles), 0, static_cast<char**>(bufs[6]),
             reinterpret_cast<const int8_t**>(scratch + q.at_from), false};
  int64_t rows = 0, found = 0;
  const auto tiles = [&](const int8_t* first, int64_t count) IRK_LAMBDA {
    for (; count > 0; count--, first += 16 * q.lda) b.tiles[found++] = first;
  };
  const int64_t pixel = p.oc * (p.f32 ? 4 : 1);
  const auto outputs = [&](int64_t first, int64_t count) IRK_LAMBDA {
    for (int64_t i = first; i < first + count; i++) b.to[rows++] = out + i * pixel;
    if (p.residual)
      for (int64_t i = 0; i < count; i++) b.from[rows - count + i] = res + (first + i) * p.oc;
  };
  const auto none = [&](int64_t count) IRK_LAMBDA {
    for (; count > 0; count--, rows++) b.to[rows] = spoilt, b.from[rows] = res;
  };
  if (q.planes()) {
    const int64_t n = m / q.image_blocks, first = m % q.image_blocks * q.block_lines;
    const int64_t lines = p.oh - first < q.block_lines ? p.oh - first : q.block_lines;
    copy_planes(p, x + n * p.ih * p.iw * p.ic + g * p.icg, first, lines, follows && m % q.image_blocks, copy,
                scratch + q.at_line);
    const int64_t line_rows = q.line_tiles ? 16 * q.line_tiles : q.pitch;
    b.rows = (lines - 1) * line_rows + p.ow;
    for (int64_t i = 0; i < lines; i++) {
      tiles(copy + i * q.pitch * q.pixel, q.line_tiles);
      outputs((n * p.oh + first + i) * p.ow, p.ow);
      none(line_rows - p.ow);
    }
    if (!q.line_tiles) tiles(copy, (b.rows + 15) / 16);
  } else {
    const int64_t m0 = m * p.block_rows, m1 = m0 + p.block_rows < p.pixels ? m0 + p.block_rows : p.pixels;
    b.rows = m1 - m0;
    outputs(m0, b.rows);
    if (q.way == QTilePlan::gather) {
      qconv_pack<Ops>(p, x + g * p.icg, m0, m1, copy);
      tiles(copy, (b.rows + 15) / 16);
    } else {
      // Tiles that would read past the input's end are read from a copy.
      const int8_t* const a = x + m0 * p.ic + g * p.icg;
      const int64_t room = (p.pixels - m0) * p.ic - g * p.icg, wanted = 15 * p.ic + p.steps * q.depth;
      const int64_t count = (b.rows + 15) / 16, safe = room < wanted ? 0 : (room - wanted) / (16 * p.ic) + 1;
      tiles(a, safe < count ? safe : count);
      if (safe < count) {
        const int64_t from = safe * 16 * p.ic;
        Ops::copy(copy, a + from, (b.rows * p.ic < room ? b.rows * p.ic : room) - from);
        tiles(copy, count - safe);
      }
    }
  }
  none((32 - rows % 32) % 32);
  return b;
}

}  // namespace
}  // namespace irk
