// Depthwise layers of any kernel and stride on NEON, for int8 output without residual. Without dot products: see
// tall_wide.h. With them:
//
// Input rows, counted from the first row of padding, are interleaved four by four into scratch (L1), each once: a lane
// then holds rows 4k to 4k + 3 of one channel and column. A ring of such groups is as long as two output rows need;
// padding is written as zero points. Two output rows and four columns of eight channels are summed at once, so that
// each vector of weights serves four columns and each vector of input two rows. 5x5: 100 instructions for 16 outputs
// with stride 1 (40 dot products, 18 for the epilogue), 118 with stride 2.
#pragma once
#include "qconv/qconv.h"

namespace irk {

constexpr int64_t kTallWidth = 16;  // channels of a block
constexpr int64_t kTallColumns = 4;
constexpr int64_t kTallRing = 8;   // most groups
constexpr int64_t kTallRows = 32;  // most rows of a kernel

struct QDwTall {
  int64_t ih, iw, c, oh, ow;
  int64_t kh, kw, sh, sw, dw, pt, pl;
  int64_t band, bands;  // output rows per item, even unless it is the only one; items per block and image
  int64_t blocks;       // whole blocks of channels
  bool rest;            // channels beyond them: the item of the last block makes these too, in a block that overlaps it
  int64_t groups[2];    // that a pair of output rows needs, if the first one's first row is lane 0 or 2 of its group
  int64_t ring;         // groups (without dot products: rows) in scratch
  int64_t columns;      // of a group or row in scratch, padding included
  int64_t slack;        // columns more that a last tile reads
  int64_t phase_bytes;  // of the weights of one of the two cases; without dot products: of the block
  const int8_t* line;   // zero points, a row of the image
  const int8_t* w;      // [block][phase][eight channels][group][kernel column][output row][half]; or [block][tap]
  const int32_t* bias;  // [block][channel]; small_sum_bias in small blocks
  const float* m;       // [block][channel]
  const uint8_t* kinds;   // [block], see direct.h
  const uint32_t* fresh;  // [block], see tall_wide.h
  int32_t zx, zy, lo, hi;
};

// The layer prepared; *out is null for layers that this kernel doesn't take. sums: the largest |sum| of each channel.
Status qdw_tall(StepContext& ctx, const QConvShape& s, Isa isa, const double* sums, const QDwTall** out,
                int64_t* scratch);

namespace {

// make(x, y, scratch, block, y0, y1) for each item: an image's input and output, a block, output rows [y0, y1).
template <class Make>
inline void each_tall_item(const QDwTall& p, void* const* bufs, int64_t begin, int64_t end, Make make) {
  int8_t* scratch = static_cast<int8_t*>(bufs[6]);
  for (int64_t item = begin; item < end; item++) {
    const int64_t block = item % p.blocks, band = item / p.blocks % p.bands, n = item / p.blocks / p.bands;
    const int64_t y0 = band * p.band, y1 = y0 + p.band < p.oh ? y0 + p.band : p.oh;
    const int8_t* x = static_cast<const int8_t*>(bufs[0]) + n * p.ih * p.iw * p.c;
    int8_t* y = static_cast<int8_t*>(bufs[5]) + n * p.oh * p.ow * p.c;
    make(x, y, scratch, block, y0, y1);
    if (p.rest && block + 1 == p.blocks) make(x, y, scratch, p.blocks, y0, y1);
  }
}

}  // namespace
}  // namespace irk
